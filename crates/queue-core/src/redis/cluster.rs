//! Redis Cluster: asks the servers of a cluster which server has which slot.

use deadpool_redis::redis::{self, RedisResult};
use rand::seq::SliceRandom;

use crate::redis::{
    endpoint::{Address, Endpoint},
    keys::Slot,
    questions::ask_all,
    send_error::Redirect,
};

/// The maximum number of servers that are asked at once. Each server of a cluster knows all slots, so the answers of a few servers
/// suffice to learn the topology of a large cluster. A process chooses the servers that it asks at random, each time anew.
const MAX_ASKED_SERVERS: usize = 8;

/// The servers of a cluster that `redis.url` names.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) seeds: Vec<Endpoint>,
}

/// The state of a cluster, as its servers report it.
pub(crate) struct ClusterView {
    /// The address of each slot's server.
    pub(crate) slots: Vec<Option<Address>>,
    /// The servers that do not reach most other servers of the cluster, and so do not pass on all notifications.
    pub(crate) cut_off: Vec<Address>,
}

/// A range of slots and the server that has these slots, as one server of the cluster reports it.
#[derive(Debug, PartialEq, Eq)]
struct ClaimedSlots {
    slots: (u16, u16),
    owner: Address,
    /// The config epoch of the server, which grows with each fail-over and each move of a slot. If two servers claim a slot, the claim
    /// with the higher config epoch is right, by the rules of Redis Cluster.
    config_epoch: u64,
}

impl Cluster {
    /// Asks some of the `known` servers and of the servers in the URL for the state of the cluster, and returns this state.
    pub(crate) async fn view<'e>(&'e self, known: impl Iterator<Item = &'e Endpoint>) -> Result<ClusterView, String> {
        let mut servers: Vec<&Endpoint> = Vec::new();
        for server in known.chain(&self.seeds) {
            if servers.iter().all(|other| other.address != server.address) {
                servers.push(server);
            }
        }
        servers.shuffle(&mut rand::rng());
        servers.truncate(MAX_ASKED_SERVERS);
        let answers = ask_all(servers.iter().map(|server| ask_server(server))).await;
        let (mut reasons, mut cut_off) = (Vec::new(), Vec::new());
        let mut slots: Vec<Option<Address>> = vec![None; Slot::COUNT];
        let mut epochs: Vec<Option<u64>> = vec![None; Slot::COUNT];
        for (server, answer) in servers.iter().zip(answers) {
            match answer.map(|(info, nodes)| (info, parse_claims(&nodes, server))) {
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

    /// Returns how to connect to the server at this address: the user and the TLS are the same for all servers of a cluster.
    pub(crate) fn endpoint(&self, address: Address) -> Endpoint {
        Endpoint { address, ..self.seeds[0].clone() }
    }
}

/// Returns the replies of a server to CLUSTER INFO and CLUSTER NODES.
async fn ask_server(server: &Endpoint) -> RedisResult<(String, String)> {
    let mut connection = server.open().await?;
    let mut questions = redis::pipe();
    questions.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("NODES");
    questions.query_async(&mut connection.multiplexed).await
}

/// Returns the ranges of slots in a reply to CLUSTER NODES, each with the server that has these slots. A line of the reply has: id,
/// `ip:port@bus-port[,host name]`, flags, id of the primary, two times, config epoch, state of the link, and ranges of slots; a
/// slot that moves stands in brackets.
fn parse_claims(text: &str, server: &Endpoint) -> Vec<ClaimedSlots> {
    let mut slot_claims = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, address, flags, _, _, _, config_epoch, _, ranges @ ..] = &words[..] else { continue };
        let is_primary = flags.split(',').any(|flag| flag == "master");
        let (Some(owner), Ok(config_epoch)) = (address_in_cluster_nodes(address, server), config_epoch.parse()) else {
            continue;
        };
        for range in ranges.iter().filter(|range| is_primary && !range.starts_with('[')) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            if let (Ok(first), Ok(last)) = (first.parse(), last.parse()) {
                slot_claims.push(ClaimedSlots { slots: (first, last), owner: owner.clone(), config_epoch });
            }
        }
    }
    slot_claims
}

/// Returns the address of a server in a line of CLUSTER NODES. With TLS, the host name is preferred to the IP address, because the
/// certificate names the host.
fn address_in_cluster_nodes(address: &str, server: &Endpoint) -> Option<Address> {
    let mut parts = address.split(',');
    let ip_and_ports = parts.next()?;
    let host_name = parts.next().filter(|name| server.tls.is_some() && !name.is_empty() && !name.contains('='));
    let (ip, port) = ip_and_ports.split('@').next()?.rsplit_once(':')?;
    let host = host_name.unwrap_or(ip);
    // A server that does not know its own address leaves out the host.
    let host = if host.is_empty() { server.address.host()? } else { host };
    Some(Address::Tcp(host.to_owned(), port.parse().ok().filter(|port| *port != 0)?))
}

/// Returns the address in a redirection by the server at `from`; `None` if the server does not know that address.
pub(crate) fn redirect_address(redirect: &Redirect, from: &Address) -> Option<Address> {
    let (host, port) = redirect.0.rsplit_once(':')?;
    let host = match host {
        "" => from.host()?,
        "?" => return None,
        host => host.trim_start_matches('[').trim_end_matches(']'),
    };
    Some(Address::Tcp(host.to_owned(), port.parse().ok()?))
}
