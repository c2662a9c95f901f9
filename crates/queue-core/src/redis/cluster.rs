//! Redis Cluster: asks the servers which of them has which slot.

use deadpool_redis::redis::{self, RedisResult};
use rand::seq::SliceRandom;

use crate::redis::{
    endpoint::{Address, Endpoint},
    keys::Slot,
    questions::ask_all,
    send_error::Redirect,
};

/// The maximum number of servers that are asked at once. Each knows all others, so a large cluster need not answer every process as a
/// whole; the next question goes to other servers.
const MAX_ASKED: usize = 8;

/// The servers of a cluster that `redis.url` names.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) seeds: Vec<Endpoint>,
}

/// The state of a cluster, as its servers say.
pub(crate) struct ClusterView {
    /// The address of each slot's server.
    pub(crate) slots: Vec<Option<Address>>,
    /// Servers that do not reach most of the others: they do not pass on all notifications.
    pub(crate) cut_off: Vec<Address>,
}

/// A range of slots, as one server says.
#[derive(Debug, PartialEq, Eq)]
struct ClaimedSlots {
    slots: (u16, u16),
    owner: Address,
    /// Grows with each fail-over and each move of a slot. Of two claims, the one with the higher epoch is right, by the rules of the
    /// cluster itself.
    config_epoch: u64,
}

impl Cluster {
    /// The state of the cluster, by the answers of some of the `known` servers and of those in the URL.
    pub(crate) async fn view<'e>(&'e self, known: impl Iterator<Item = &'e Endpoint>) -> Result<ClusterView, String> {
        let mut servers: Vec<&Endpoint> = Vec::new();
        for server in known.chain(&self.seeds) {
            if servers.iter().all(|other| other.address != server.address) {
                servers.push(server);
            }
        }
        servers.shuffle(&mut rand::rng());
        servers.truncate(MAX_ASKED);
        let answers = ask_all(servers.iter().map(|server| ask(server))).await;
        let (mut reasons, mut cut_off) = (Vec::new(), Vec::new());
        let mut slots: Vec<Option<Address>> = vec![None; Slot::COUNT];
        let mut epochs: Vec<Option<u64>> = vec![None; Slot::COUNT];
        for (server, answer) in servers.iter().zip(answers) {
            match answer.map(|(info, nodes)| (info, claims(&nodes, server))) {
                Ok((info, claims)) => {
                    if !info.contains("cluster_state:ok") {
                        cut_off.push(server.address.clone());
                    }
                    for ClaimedSlots { slots: (first, last), owner, config_epoch } in claims {
                        for slot in usize::from(first)..=usize::from(last).min(Slot::COUNT - 1) {
                            if epochs[slot] < Some(config_epoch) {
                                epochs[slot] = Some(config_epoch);
                                slots[slot] = Some(owner.clone());
                            }
                        }
                    }
                }
                Err(error) => reasons.push(format!("{}: {error}", server.address)),
            }
        }
        if slots.iter().all(Option::is_none) {
            let reasons = if reasons.is_empty() { "no server has a slot".to_owned() } else { reasons.join("; ") };
            return Err(format!("no server of the cluster names the primaries: {reasons}"));
        }
        Ok(ClusterView { slots, cut_off })
    }

    /// A server of the cluster: the user and the TLS are the same for all.
    pub(crate) fn endpoint(&self, address: Address) -> Endpoint {
        Endpoint { address, ..self.seeds[0].clone() }
    }
}

/// Asks for CLUSTER INFO and CLUSTER NODES.
async fn ask(server: &Endpoint) -> RedisResult<(String, String)> {
    let mut connection = server.open().await?;
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("NODES");
    questions.query_async(&mut connection.multiplexed).await
}

/// The claims in the answer to CLUSTER NODES. A line has: id, `ip:port@bus-port[,host name]`, flags, id of the primary, two times,
/// config epoch, state of the link, and ranges of slots; a slot that moves stands in brackets.
fn claims(text: &str, server: &Endpoint) -> Vec<ClaimedSlots> {
    let mut claims = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, address, flags, _, _, _, config_epoch, _, ranges @ ..] = &words[..] else { continue };
        let is_primary = flags.split(',').any(|flag| flag == "master");
        let (Some(owner), Ok(config_epoch)) = (owner(address, server), config_epoch.parse()) else { continue };
        for range in ranges.iter().filter(|range| is_primary && !range.starts_with('[')) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                claims.push(ClaimedSlots { slots: (first, last), owner: owner.clone(), config_epoch });
            }
        }
    }
    claims
}

/// The address in a line of CLUSTER NODES. With TLS, the host name is preferred, because the certificate has it.
fn owner(address: &str, server: &Endpoint) -> Option<Address> {
    let mut parts = address.split(',');
    let ip_and_ports = parts.next()?;
    let host_name = parts.next().filter(|name| server.tls.is_some() && !name.is_empty() && !name.contains('='));
    let (ip, port) = ip_and_ports.split('@').next()?.rsplit_once(':')?;
    let host = host_name.unwrap_or(ip);
    // A server that was never told its own address leaves it out.
    let host = if host.is_empty() { server.address.host()? } else { host };
    Some(Address::Tcp(host.to_owned(), port.parse().ok().filter(|port| *port != 0)?))
}

/// The address in a redirection by the server at `from`; `None` if the server does not know it.
pub(crate) fn redirect_address(redirect: &Redirect, from: &Address) -> Option<Address> {
    let (host, port) = redirect.0.rsplit_once(':')?;
    let host = match host {
        "" => from.host()?,
        "?" => return None,
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    Some(Address::Tcp(host.to_owned(), port.parse().ok()?))
}
