//! Redis Sentinel: asks the Sentinels which server is the primary, and listens to their announcements of another primary.

use std::{collections::HashMap, time::Duration};

use deadpool_redis::redis::{self, RedisResult};
use futures_util::{StreamExt, future::join_all};
use tokio::time::{error::Elapsed, sleep, timeout};

use crate::redis::{
    endpoint::{Address, Endpoint},
    questions::ask_all,
    retry::Retry,
};

/// The time limit for opening a connection for subscriptions, and for each command over this connection.
const TIME_LIMIT: Duration = Duration::from_millis(500);
/// The channels on which Sentinels announce another primary. The Sentinel that leads a fail-over publishes on `+promoted-slave`
/// when it promotes the replica. Each Sentinel publishes on `+switch-master` when it learns of the new primary.
const ANNOUNCEMENT_CHANNELS: [&str; 2] = ["+promoted-slave", "+switch-master"];
/// The interval at which a PING checks a quiet connection to a Sentinel.
const PING_EVERY: Duration = Duration::from_secs(5);

/// The Sentinels, and the primary for which the Sentinels are asked.
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(crate) servers: Vec<Endpoint>,
    /// The name under which the Sentinels know the primary.
    pub(crate) service: String,
    /// The user and the TLS of connections to the primary. The address in `primary` is not used, because the Sentinels name the
    /// primary's address.
    pub(crate) primary: Endpoint,
}

/// The primary that a Sentinel names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SentinelAnswer {
    address: Address,
    /// The config epoch of the primary, which grows with each fail-over. The answer with the highest config epoch names the latest
    /// primary.
    config_epoch: u64,
}

/// The error that a connection to a Sentinel broke, or that the Sentinel does not answer.
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

/// Returns the answer that names the latest primary. A few Sentinels that are cut off from the other Sentinels may know only an
/// earlier primary, and writes to an earlier primary are lost. An answer with a lower config epoch than that of the known primary
/// names an earlier primary. Such an answer is accepted only if most Sentinels answer, for example after an operator has set up new
/// Sentinels.
fn latest_answer(answers: Vec<SentinelAnswer>, sentinel_count: usize, known_epoch: u64) -> Option<SentinelAnswer> {
    let is_majority = 2 * answers.len() > sentinel_count;
    let latest_answer = answers.into_iter().max_by_key(|answer| answer.config_epoch);
    latest_answer.filter(|answer| is_majority || answer.config_epoch >= known_epoch)
}

impl Sentinels {
    /// Returns the server that is the primary now, and its config epoch. `known_epoch` is the config epoch of the primary that this
    /// process knew before it asked the Sentinels.
    pub(crate) async fn primary(&self, known_epoch: u64) -> Result<(Endpoint, u64), String> {
        let replies = ask_all(self.servers.iter().map(|sentinel| self.ask_sentinel(sentinel))).await;
        let mut answers = Vec::new();
        let mut reasons = Vec::new();
        for (sentinel, reply) in self.servers.iter().zip(replies) {
            match reply {
                Ok(Some(answer)) => answers.push(answer),
                Ok(None) => reasons.push(format!("{} knows no primary {:?}", sentinel.address, self.service)),
                Err(error) => reasons.push(format!("{}: {error}", sentinel.address)),
            }
        }
        let answer_count = answers.len();
        match latest_answer(answers, self.servers.len(), known_epoch) {
            Some(SentinelAnswer { address, config_epoch }) => {
                Ok((Endpoint { address, ..self.primary.clone() }, config_epoch))
            }
            None if answer_count > 0 => {
                Err(format!("the Sentinels that answer know only an earlier primary: {}", reasons.join("; ")))
            }
            None => Err(format!("no Sentinel names the primary: {}", reasons.join("; "))),
        }
    }

    /// Listens to all Sentinels, and calls `announced` for each announcement of another primary. The future of `listen` never
    /// completes.
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
        timeout(TIME_LIMIT, sink.subscribe(&ANNOUNCEMENT_CHANNELS)).await??;
        retry.reset();
        // A Sentinel may have announced another primary before the subscription.
        announced();
        loop {
            match timeout(PING_EVERY, messages.next()).await {
                Ok(Some(message)) => {
                    // Sentinels may watch other primaries too.
                    let announcement = String::from_utf8_lossy(message.get_payload_bytes());
                    if announcement.split_whitespace().any(|word| word == self.service) {
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

    async fn ask_sentinel(&self, sentinel: &Endpoint) -> RedisResult<Option<SentinelAnswer>> {
        let mut connection = sentinel.open().await?;
        let mut questions = redis::pipe();
        // GET-MASTER-ADDR-BY-NAME names a new primary some time before MASTER does, but only MASTER returns the config epoch.
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        let (address,): (Option<(String, u16)>,) = questions.query_async(&mut connection.multiplexed).await?;
        let Some((host, port)) = address else { return Ok(None) };
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(&self.service);
        let fields: HashMap<String, String> = command.query_async(&mut connection.multiplexed).await?;
        let config_epoch = fields.get("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok(Some(SentinelAnswer { address: Address::Tcp(host, port), config_epoch }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_sentinels_that_know_only_an_earlier_primary_do_not_decide() {
        let answer = |port, config_epoch| SentinelAnswer { address: Address::Tcp("h".into(), port), config_epoch };
        let (earlier, later) = (answer(1, 4), answer(2, 5));
        assert_eq!(latest_answer(vec![earlier.clone(), later.clone(), earlier.clone()], 3, 0), Some(later.clone()));
        let failure_text = "one Sentinel may announce a new primary";
        assert_eq!(latest_answer(vec![later.clone()], 3, 4), Some(later.clone()), "{failure_text}");
        assert_eq!(latest_answer(vec![later.clone()], 3, 5), Some(later));
        assert_eq!(latest_answer(vec![earlier.clone()], 3, 5), None);
        assert_eq!(latest_answer(vec![earlier.clone(), earlier.clone()], 3, 5), Some(earlier), "the Sentinels are new");
        assert_eq!(latest_answer(Vec::new(), 3, 0), None);
    }
}
