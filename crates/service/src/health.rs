//! `/livez` and `/readyz`, the same on both services, and the monitor of how Redis is run.
//!
//! `/livez` answers while the process serves; it does not depend on Redis, or an outage of Redis would restart everything.
//! `/readyz` answers whether work can be done now, and what endangers messages though it can.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, routing::get};
use parking_lot::Mutex;
use queue_core::{Danger, Redis, Retry, Subscriber};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use utoipa::ToSchema;

use crate::{code::Code, outage::Outage, problem::Problem};

/// The two routes.
pub fn routes<S: Clone + Send + Sync + 'static>(
    redis: Redis,
    subscriber: Subscriber,
    monitor: RedisHealthMonitor,
) -> Router<S> {
    let ready = async move || ready(&redis, &subscriber, &monitor).await.map(Json);
    Router::new().route("/livez", get(|| async { Json(Alive::default()) })).route("/readyz", get(ready))
}

/// The answer of `/livez`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alive {
    /// `alive`.
    status: &'static str,
}

impl Default for Alive {
    fn default() -> Self {
        Self { status: "alive" }
    }
}

/// The answer of `/readyz`.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ready {
    /// `ready`.
    status: &'static str,
    /// The dangers for messages. The field is only there when Redis is run so that messages may be lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The answer of `/readyz`.
///
/// # Errors
///
/// No work can be done now; the problem has the reasons.
pub async fn ready(redis: &Redis, subscriber: &Subscriber, monitor: &RedisHealthMonitor) -> Result<Ready, Problem> {
    // Each time there is a call to Redis; how Redis is run is known from the last examination.
    let answers = redis.ping().await.map_err(|error| error.to_string());
    readiness(answers, subscriber.is_connected(), monitor.found().as_deref())
}

fn readiness(answers: Result<(), String>, is_subscribed: bool, found: Option<&[Danger]>) -> Result<Ready, Problem> {
    let not_ready = |reason: String| Problem::new(Code::NotReady, reason).with_retry_after(1);
    let (reasons, warnings): (Vec<_>, Vec<_>) = found.into_iter().flatten().partition(|danger| danger.prevents_work());
    let texts = |dangers: &[&Danger]| dangers.iter().map(ToString::to_string).collect::<Vec<_>>();
    // An outage now, and the dangers that were found before, which may be its reason.
    let mut all = answers.err().into_iter().collect::<Vec<_>>();
    all.extend(texts(&reasons));
    if !all.is_empty() {
        return Err(not_ready(all.join("; ")));
    }
    if !is_subscribed {
        return Err(not_ready("the subscription to Redis is not there yet".into()));
    }
    if found.is_none() {
        return Err(not_ready("Redis is not examined yet".into()));
    }
    Ok(Ready { status: "ready", warnings: texts(&warnings) })
}

/// The pause between examinations while work can be done.
const PAUSE: Duration = Duration::from_secs(30);
/// The pause while it can't: `/readyz` must soon know when that is over.
const PAUSE_WHEN_NO_WORK: Duration = Duration::from_secs(1);

/// Examines whether Redis is run so that messages are safe in it, and logs each danger once.
///
/// It examines after each new subscription, because another server may be behind the address then, and now and then, because
/// settings can be changed at any time. The last result is available without a call.
#[derive(Clone)]
pub struct RedisHealthMonitor {
    redis: Redis,
    subscriber: Subscriber,
    found: Arc<Mutex<Option<Vec<Danger>>>>,
    /// [`PAUSE`] but in tests.
    pause: Duration,
}

impl RedisHealthMonitor {
    /// A monitor that has examined nothing yet; [`run`](Self::run) does.
    pub fn new(redis: Redis, subscriber: Subscriber) -> Self {
        Self { redis, subscriber, found: Arc::default(), pause: PAUSE }
    }

    /// The dangers that were found last; `None` before the first examination.
    pub fn found(&self) -> Option<Vec<Danger>> {
        self.found.lock().clone()
    }

    /// Examines until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.examine_repeatedly() => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn examine_repeatedly(&self) {
        let mut connection = self.subscriber.connection();
        let mut retry = Retry::new();
        let outage = Outage::reported_once();
        // While there is no subscription, the outage is reported already, and there is no server to examine. The error can't
        // come: this monitor owns a subscriber.
        while connection.wait_for(|connected| *connected).await.is_ok() {
            let pause = match self.redis.examine().await {
                Ok(dangers) => {
                    outage.is_over();
                    retry.reset();
                    self.note(&dangers)
                }
                Err(error) => {
                    if outage.goes_on() {
                        warn!(%error, "Redis can't be examined");
                    }
                    retry.pause()
                }
            };
            // The pause is over, or the connection is another one: either way it is time to examine.
            let _ = timeout(pause, connection.changed()).await;
        }
    }

    /// Keeps the dangers that were found, logs those that are new or over, and returns the pause until the next examination.
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
    use serde_json::json;
    use tokio::time::sleep;

    use super::*;

    fn too_old() -> Danger {
        Danger::TooOld { found: "Redis 6.2.14".into() }
    }

    fn detail(answer: Result<Ready, Problem>) -> String {
        let problem = serde_json::to_value(answer.unwrap_err()).unwrap();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(503), &json!("not_ready")));
        problem["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn service_is_ready_once_redis_answers_is_subscribed_to_and_was_found_safe() {
        let ready = readiness(Ok(()), true, Some(&[])).unwrap();
        assert_eq!(serde_json::to_value(ready).unwrap(), json!({"status": "ready"}));
        assert_eq!(detail(readiness(Err("away".into()), true, Some(&[]))), "away");
        assert!(detail(readiness(Ok(()), false, Some(&[]))).contains("subscription"));
        assert!(detail(readiness(Ok(()), true, None)).contains("not examined yet"));
    }

    #[test]
    fn danger_that_prevents_no_work_is_a_warning() {
        let dangers = vec![Danger::Evicts { policy: "allkeys-lru".into() }, Danger::NotPersistent];
        let texts = dangers.iter().map(ToString::to_string).collect::<Vec<_>>();
        let answer = readiness(Ok(()), true, Some(&dangers)).unwrap();
        assert_eq!(answer, Ready { status: "ready", warnings: texts });
    }

    #[test]
    fn danger_that_prevents_work_makes_the_service_not_ready() {
        let reasons = detail(readiness(Ok(()), true, Some(&[too_old(), Danger::Replica, Danger::NotPersistent])));
        assert_eq!(reasons, format!("{}; {}", too_old(), Danger::Replica));
        assert!(reasons.contains("Redis 6.2.14 is too old: Drover needs Redis 7.0 or newer"), "{reasons}");
    }

    #[test]
    fn outage_now_is_reported_before_dangers_that_were_found_earlier() {
        assert_eq!(detail(readiness(Err("away".into()), false, Some(&[]))), "away");
        let both = detail(readiness(Err("away".into()), false, Some(&[too_old()])));
        assert!(both.starts_with("away; Redis 6.2.14"), "{both}");
    }

    #[tokio::test]
    async fn monitor_sees_settings_that_are_changed_at_any_time_and_stops_at_shutdown() {
        let server = RedisServer::start_durable();
        let redis = Redis::new(&server.url(), Redis::DEFAULT_TIME_LIMIT).unwrap();
        let subscriber = Subscriber::new(redis.clone());
        let monitor = RedisHealthMonitor {
            pause: Duration::from_millis(20),
            ..RedisHealthMonitor::new(redis, subscriber.clone())
        };
        assert_eq!(monitor.found(), None);
        let shutdown = CancellationToken::new();
        let running = {
            let (monitor, shutdown) = (monitor.clone(), shutdown.clone());
            tokio::spawn(async move { tokio::join!(subscriber.run(shutdown.clone()), monitor.run(shutdown)) })
        };
        let evicts = |policy: &str| vec![Danger::Evicts { policy: policy.into() }];
        for (policy, expected) in
            [("noeviction", vec![]), ("allkeys-lru", evicts("allkeys-lru")), ("noeviction", vec![])]
        {
            server.command(&format!("CONFIG SET maxmemory-policy {policy}"));
            let until_found = async {
                while monitor.found().as_ref() != Some(&expected) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(PATIENCE, until_found).await.unwrap();
        }
        shutdown.cancel();
        timeout(PATIENCE, running).await.unwrap().unwrap();
    }
}
