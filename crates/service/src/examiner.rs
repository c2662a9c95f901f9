//! Examines now and then how Redis is run.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use queue_core::{Danger, Redis, Retry, Subscriber};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::Trouble;

/// How often a server is examined that lets work be done.
const PAUSE: Duration = Duration::from_secs(30);
/// How often one is examined that does not: `/readyz` says so, and must not say it for long when it is mended.
const PAUSE_WHEN_NO_WORK: Duration = Duration::from_secs(1);

/// Finds out whether Redis is run so that messages are safe in it, and tells the log what is not, once.
///
/// It looks after each new subscription, for then another server may stand behind the address, and now and then, for
/// settings can be changed at any time. What it found last is at hand without a call.
#[derive(Clone)]
pub struct Examiner {
    redis: Redis,
    subscriber: Subscriber,
    found: Arc<Mutex<Option<Vec<Danger>>>>,
    /// [`PAUSE`] but in tests.
    pause: Duration,
}

impl Examiner {
    /// Nothing is examined yet; [`run`](Self::run) does.
    pub fn new(redis: Redis, subscriber: Subscriber) -> Self {
        Self { redis, subscriber, found: Arc::default(), pause: PAUSE }
    }

    /// What was found last; `None` before the first time.
    pub fn found(&self) -> Option<Vec<Danger>> {
        self.found.lock().clone()
    }

    /// Examines until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.examine_again_and_again() => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn examine_again_and_again(&self) {
        let mut connection = self.subscriber.connection();
        let mut retry = Retry::new();
        let trouble = Trouble::told_once();
        // While there is no subscription an outage is told already, and there is nobody to examine. The error can't
        // come: the subscriber is held here.
        while connection.wait_for(|connected| *connected).await.is_ok() {
            let pause = match self.redis.examine().await {
                Ok(dangers) => {
                    trouble.is_over();
                    retry.reset();
                    self.note(&dangers)
                }
                Err(error) => {
                    if trouble.goes_on() {
                        warn!(%error, "Redis can't be examined");
                    }
                    retry.pause()
                }
            };
            // Over, or another connection: either way it is time to look.
            let _ = timeout(pause, connection.changed()).await;
        }
    }

    /// Keeps what was found, tells what is new in it, and answers for how long to trust it.
    fn note(&self, dangers: &[Danger]) -> Duration {
        let known = self.found.lock().replace(dangers.to_vec()).unwrap_or_default();
        for danger in dangers.iter().filter(|danger| !known.contains(danger)) {
            if danger.prevents_work() {
                error!(%danger, "no work can be done with this Redis");
            } else {
                warn!(%danger, "messages are not safe in this Redis");
            }
        }
        for danger in known.iter().filter(|danger| !dangers.contains(danger)) {
            info!(%danger, "a danger in Redis is over");
        }
        let prevented = dangers.iter().any(Danger::prevents_work);
        if prevented { PAUSE_WHEN_NO_WORK.min(self.pause) } else { self.pause }
    }
}

#[cfg(test)]
mod tests {
    use drover_tests::{PATIENCE, RedisServer};
    use tokio::time::sleep;

    use super::*;

    #[tokio::test]
    async fn it_sees_settings_that_are_changed_at_any_time_and_stops_when_told() {
        let server = RedisServer::start_durable();
        let redis = Redis::new(&server.url(), Redis::DEFAULT_TIME_LIMIT).unwrap();
        let subscriber = Subscriber::new(redis.clone());
        let examiner = Examiner { pause: Duration::from_millis(20), ..Examiner::new(redis, subscriber.clone()) };
        assert_eq!(examiner.found(), None);
        let shutdown = CancellationToken::new();
        let running = {
            let (examiner, shutdown) = (examiner.clone(), shutdown.clone());
            tokio::spawn(async move { tokio::join!(subscriber.run(shutdown.clone()), examiner.run(shutdown)) })
        };
        let evicts = |policy: &str| vec![Danger::Evicts { policy: policy.into() }];
        for (policy, expected) in
            [("noeviction", vec![]), ("allkeys-lru", evicts("allkeys-lru")), ("noeviction", vec![])]
        {
            server.command(&format!("CONFIG SET maxmemory-policy {policy}"));
            let until_found = async {
                while examiner.found().as_ref() != Some(&expected) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, until_found).await.unwrap();
        }
        shutdown.cancel();
        timeout(PATIENCE, running).await.unwrap().unwrap();
    }
}
