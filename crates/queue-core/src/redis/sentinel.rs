//! Redis Sentinel: asks the Sentinels which server is the primary, and listens to their announcements of another one.

use std::{collections::HashMap, time::Duration};

use deadpool_redis::redis::{self, RedisResult};
use futures_util::{StreamExt, future::join_all};
use tokio::time::{error::Elapsed, sleep, timeout};

use crate::redis::{
    endpoint::{Address, Endpoint},
    questions::ask_all,
    retry::Retry,
};

/// The time limit of a connection and of a command for subscriptions.
const TIME_LIMIT: Duration = Duration::from_millis(500);
/// The channels on which Sentinels announce another primary: the Sentinel that leads the fail-over when the replica is promoted, and
/// each Sentinel when it knows of it.
const ANNOUNCEMENTS: [&str; 2] = ["+promoted-slave", "+switch-master"];
/// The interval at which a PING checks a quiet connection to a Sentinel.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The Sentinels, and the primary that they are asked for.
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(crate) servers: Vec<Endpoint>,
    /// The name under which the Sentinels know the primary.
    pub(crate) service: String,
    /// The user and the TLS of connections to the primary; its address is that of the first Sentinel.
    pub(crate) primary: Endpoint,
}

/// The primary that a Sentinel names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SentinelAnswer {
    address: Address,
    /// Grows with each fail-over, so the Sentinel with the highest one knows the latest primary.
    config_epoch: u64,
}

/// The connection to a Sentinel broke, or does not answer.
struct ConnectionBroken;

impl From<redis::RedisError> for ConnectionBroken {
    fn from(_: redis::RedisError) -> Self {
        Self
    }
}

impl From<Elapsed> for ConnectionBroken {
    fn from(_: Elapsed) -> Self {
        Self
    }
}

/// The latest of the views of some of all Sentinels. A few Sentinels that are cut off from the others may know only an earlier
/// primary, which loses what is written to it. So a primary that is earlier than the known one counts only if most Sentinels
/// answer, as after an operator has set them up anew.
fn latest(views: Vec<SentinelAnswer>, sentinels: usize, known_epoch: u64) -> Option<SentinelAnswer> {
    let are_most = 2 * views.len() > sentinels;
    views.into_iter().max_by_key(|view| view.config_epoch).filter(|view| are_most || view.config_epoch >= known_epoch)
}

impl Sentinels {
    /// The server that is the primary now, and its config epoch. `known_epoch` is that of the primary that was known before.
    pub(crate) async fn primary(&self, known_epoch: u64) -> Result<(Endpoint, u64), String> {
        let answers = ask_all(self.servers.iter().map(|sentinel| self.ask(sentinel))).await;
        let mut views = Vec::new();
        let mut reasons = Vec::new();
        for (sentinel, answer) in self.servers.iter().zip(answers) {
            match answer {
                Ok(Some(view)) => views.push(view),
                Ok(None) => reasons.push(format!("{} knows no primary {:?}", sentinel.address, self.service)),
                Err(error) => reasons.push(format!("{}: {error}", sentinel.address)),
            }
        }
        let answered = views.len();
        match latest(views, self.servers.len(), known_epoch) {
            Some(SentinelAnswer { address, config_epoch }) => {
                Ok((Endpoint { address, ..self.primary.clone() }, config_epoch))
            }
            None if answered > 0 => {
                Err(format!("the Sentinels that answer know only an earlier primary: {}", reasons.join("; ")))
            }
            None => Err(format!("no Sentinel names the primary: {}", reasons.join("; "))),
        }
    }

    /// Listens to all Sentinels, and calls `announced` for each announcement of another primary. The future never completes.
    pub(crate) async fn listen(&self, announced: impl Fn()) {
        join_all(self.servers.iter().map(async |sentinel| {
            let mut retry = Retry::new();
            loop {
                let _ = self.listen_to(sentinel, &mut retry, &announced).await;
                sleep(retry.pause()).await;
            }
        }))
        .await;
    }

    /// Listens to one Sentinel until the connection breaks.
    async fn listen_to(
        &self,
        sentinel: &Endpoint,
        retry: &mut Retry,
        announced: impl Fn(),
    ) -> Result<(), ConnectionBroken> {
        let (mut sink, mut messages) = timeout(TIME_LIMIT, sentinel.open_for_subscriptions()).await??;
        timeout(TIME_LIMIT, sink.subscribe(&ANNOUNCEMENTS)).await??;
        retry.reset();
        // There may have been an announcement before.
        announced();
        loop {
            match timeout(PING_EVERY, messages.next()).await {
                Ok(Some(message)) => {
                    // Sentinels may watch other primaries too.
                    let text = String::from_utf8_lossy(message.get_payload_bytes());
                    if text.split_whitespace().any(|word| word == self.service) {
                        announced();
                    }
                }
                Ok(None) => return Err(ConnectionBroken),
                Err(_) => {
                    timeout(TIME_LIMIT, sink.ping::<redis::Value>()).await??;
                }
            }
        }
    }

    async fn ask(&self, sentinel: &Endpoint) -> RedisResult<Option<SentinelAnswer>> {
        let mut connection = sentinel.open().await?;
        let mut questions = redis::pipe();
        // The first answer names a new primary some time before the second one does, but only the second has the epoch.
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let (address,): (Option<(String, u16)>,) = questions.query_async(&mut connection.multiplexed).await?;
        let Some((host, port)) = address else { return Ok(None) };
        let mut about = redis::cmd("SENTINEL");
        about.arg("MASTER").arg(&self.service);
        let fields: HashMap<String, String> = about.query_async(&mut connection.multiplexed).await?;
        let config_epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok(Some(SentinelAnswer { address: Address::Tcp(host, port), config_epoch }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sentinels_that_know_only_an_earlier_primary_do_not_decide() {
        let view = |port, config_epoch| SentinelAnswer { address: Address::Tcp("h".into(), port), config_epoch };
        let (earlier, later) = (view(1, 4), view(2, 5));
        assert_eq!(latest(vec![earlier.clone(), later.clone(), earlier.clone()], 3, 0), Some(later.clone()));
        assert_eq!(latest(vec![later.clone()], 3, 4), Some(later.clone()), "one Sentinel may announce a new primary");
        assert_eq!(latest(vec![later.clone()], 3, 5), Some(later));
        assert_eq!(latest(vec![earlier.clone()], 3, 5), None);
        assert_eq!(latest(vec![earlier.clone(), earlier.clone()], 3, 5), Some(earlier), "the Sentinels are new");
        assert_eq!(latest(Vec::new(), 3, 0), None);
    }
}
