//! The endpoints `/livez` and `/readyz` of both services, and the monitor that checks whether Redis is configured safely.
//!
//! `/livez` answers while the process serves requests. `/livez` does not depend on Redis, because otherwise an outage of Redis
//! would cause restarts of all processes. `/readyz` reports whether the process can work now, and warns of settings of Redis
//! with which messages may be lost.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, routing::get};
use parking_lot::Mutex;
use queue_core::{Danger, Redis, Retry, wakeup::Subscriber};
use serde::Serialize;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use utoipa::ToSchema;

use crate::{code::Code, outage::Outage, problem::Problem};

/// Returns the routes `/livez` and `/readyz`.
pub fn routes<S: Clone + Send + Sync + 'static>(
    redis: Redis,
    subscriber: Subscriber,
    monitor: RedisHealthMonitor,
) -> Router<S> {
    let ready = async move || ready(&redis, &subscriber, &monitor).await.map(Json);
    Router::new().route("/livez", get(|| async { Json(Alive::default()) })).route("/readyz", get(ready))
}

/// The response of `/livez`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Alive {
    /// Always `alive`.
    status: &'static str,
}

impl Default for Alive {
    fn default() -> Self {
        Self { status: "alive" }
    }
}

/// The response of `/readyz`.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Ready {
    /// Always `ready`.
    status: &'static str,
    /// The topology of Redis: `server`, `sentinel` (the primary that Sentinels name) or `cluster`.
    redis: &'static str,
    /// The settings of Redis with which messages may be lost, and the servers of a cluster that do not answer; absent if there
    /// are no warnings.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Checks whether the process can work now.
///
/// # Errors
///
/// Returns a problem with the reasons if the process can't work now.
pub async fn ready(redis: &Redis, subscriber: &Subscriber, monitor: &RedisHealthMonitor) -> Result<Ready, Problem> {
    // Each request pings Redis, but uses the settings of Redis that the last examination found.
    let ping_result = redis.ping().await.map_err(|error| error.to_string());
    let away_servers = ping_result.map(|away_servers| away_servers.iter().map(ToString::to_string).collect());
    let dangers = monitor.last_redis_dangers();
    let warnings = decide_readiness(away_servers, subscriber.is_connected(), dangers.as_deref())?;
    Ok(Ready { status: "ready", redis: redis.topology_name(), warnings })
}

/// Decides from the results of the checks whether the process is ready, and returns its warnings. `away` has the errors of the
/// servers of a cluster that do not answer while other servers answer; queues on those other servers work.
fn decide_readiness(
    away: Result<Vec<String>, String>,
    is_subscribed: bool,
    dangers: Option<&[Danger]>,
) -> Result<Vec<String>, Problem> {
    let not_ready_problem = |reason: String| Problem::new(Code::NotReady, reason).with_retry_after(1);
    let (reasons, warnings): (Vec<_>, Vec<_>) =
        dangers.into_iter().flatten().partition(|danger| danger.prevents_work());
    let texts = |dangers: &[&Danger]| dangers.iter().map(ToString::to_string).collect::<Vec<_>>();
    // The reasons begin with a current outage; then follow the dangers that the last examination found, which may have
    // caused the outage.
    let (mut all, mut all_warnings) = match away {
        Ok(away) => (Vec::new(), away),
        Err(outage) => (vec![outage], Vec::new()),
    };
    all.extend(texts(&reasons));
    if !all.is_empty() {
        return Err(not_ready_problem(all.join("; ")));
    }
    if !is_subscribed {
        return Err(not_ready_problem("the subscription to Redis is not open yet".into()));
    }
    if dangers.is_none() {
        return Err(not_ready_problem("Redis is not examined yet".into()));
    }
    all_warnings.extend(texts(&warnings));
    Ok(all_warnings)
}

/// The pause between examinations of Redis while the process is ready.
const EXAMINE_INTERVAL: Duration = Duration::from_secs(30);
/// The pause between examinations of Redis while the process is not ready. A short pause lets `/readyz` report a recovery soon.
const EXAMINE_INTERVAL_NOT_READY: Duration = Duration::from_secs(1);

/// Examines periodically whether messages are safe with the settings of Redis, and logs each danger once.
///
/// The monitor also examines Redis after each new subscription, because then the address may belong to another server. The
/// result of the last examination can be read without a call to Redis.
#[derive(Clone)]
pub struct RedisHealthMonitor {
    redis: Redis,
    subscriber: Subscriber,
    last_redis_dangers: Arc<Mutex<Option<Vec<Danger>>>>,
    /// The pause between examinations of Redis; tests use a shorter pause.
    pause: Duration,
}

impl RedisHealthMonitor {
    /// Creates a monitor, which examines Redis while it [runs](Self::run).
    pub fn new(redis: Redis, subscriber: Subscriber) -> Self {
        Self { redis, subscriber, last_redis_dangers: Arc::default(), pause: EXAMINE_INTERVAL }
    }

    /// Returns the dangers in the configuration of Redis that the last examination found; `None` before the first examination.
    pub fn last_redis_dangers(&self) -> Option<Vec<Danger>> {
        self.last_redis_dangers.lock().clone()
    }

    /// Examines Redis periodically until `shutdown` is cancelled.
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
        // While there is no subscription, the monitor waits: there is no server to examine, and the subscriber has logged the
        // outage. `connection.wait_for` can't fail, because the monitor owns the subscriber that `connection` watches.
        while connection.wait_for(|connected| *connected).await.is_ok() {
            let pause = match self.redis.examine().await {
                Ok(dangers) => {
                    outage.record_success();
                    retry.reset();
                    self.record_dangers(&dangers)
                }
                Err(error) => {
                    if outage.record_failure() {
                        warn!(%error, "Redis can't be examined");
                    }
                    retry.pause()
                }
            };
            // Redis is examined again when the pause is over, or when the subscription to Redis ended or began.
            let _ = timeout(pause, connection.changed()).await;
        }
    }

    /// Stores the dangers that were found, logs new and ended dangers, and returns the pause until the next examination.
    fn record_dangers(&self, dangers: &[Danger]) -> Duration {
        let known_dangers = self.last_redis_dangers.lock().replace(dangers.to_vec()).unwrap_or_default();
        for danger in dangers.iter().filter(|danger| !known_dangers.contains(danger)) {
            if danger.prevents_work() {
                error!(%danger, "Redis is unusable");
            } else {
                warn!(%danger, "messages are not safe in this Redis");
            }
        }
        for danger in known_dangers.iter().filter(|danger| !dangers.contains(danger)) {
            info!(%danger, "a Redis problem was corrected");
        }
        let is_work_prevented = dangers.iter().any(Danger::prevents_work);
        if is_work_prevented { EXAMINE_INTERVAL_NOT_READY.min(self.pause) } else { self.pause }
    }
}

#[cfg(test)]
mod tests {
    use drover_tests::{RedisServer, TIME_LIMIT};
    use serde_json::json;
    use tokio::time::sleep;

    use super::*;

    fn too_old_danger() -> Danger {
        Danger::TooOld { found: "Redis 6.2.14".into() }
    }

    fn problem_detail(response: Result<Vec<String>, Problem>) -> String {
        let problem = serde_json::to_value(response.unwrap_err()).unwrap();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(503), &json!("not_ready")));
        problem["detail"].as_str().unwrap().to_owned()
    }

    #[test]
    fn service_is_ready_once_redis_answers_and_is_subscribed_to_and_examined() {
        assert_eq!(decide_readiness(Ok(Vec::new()), true, Some(&[])).unwrap(), [] as [String; 0]);
        assert_eq!(problem_detail(decide_readiness(Err("away".into()), true, Some(&[]))), "away");
        assert!(problem_detail(decide_readiness(Ok(Vec::new()), false, Some(&[]))).contains("subscription"));
        assert!(problem_detail(decide_readiness(Ok(Vec::new()), true, None)).contains("not examined yet"));
    }

    #[test]
    fn danger_that_prevents_no_work_is_a_warning() {
        let dangers = vec![Danger::Evicts { policy: "allkeys-lru".into() }, Danger::NotPersistent];
        let texts = dangers.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(decide_readiness(Ok(Vec::new()), true, Some(&dangers)).unwrap(), texts);
    }

    #[test]
    fn server_of_a_cluster_that_is_away_is_a_warning_while_others_answer() {
        let warnings = decide_readiness(Ok(vec!["h:1 is away".into()]), true, Some(&[Danger::NotPersistent])).unwrap();
        assert_eq!(warnings, ["h:1 is away".to_owned(), Danger::NotPersistent.to_string()]);
    }

    #[test]
    fn danger_that_prevents_work_makes_the_service_not_ready() {
        let reasons = problem_detail(decide_readiness(
            Ok(Vec::new()),
            true,
            Some(&[too_old_danger(), Danger::Replica, Danger::NotPersistent]),
        ));
        assert_eq!(reasons, format!("{}; {}", too_old_danger(), Danger::Replica));
        assert!(reasons.contains("Redis 6.2.14 is too old: Drover needs Redis 7.0 or newer"), "{reasons}");
    }

    #[test]
    fn outage_now_is_reported_before_dangers_that_were_found_earlier() {
        assert_eq!(problem_detail(decide_readiness(Err("away".into()), false, Some(&[]))), "away");
        let detail_of_two_problems =
            problem_detail(decide_readiness(Err("away".into()), false, Some(&[too_old_danger()])));
        assert!(detail_of_two_problems.starts_with("away; Redis 6.2.14"), "{detail_of_two_problems}");
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
        assert_eq!(monitor.last_redis_dangers(), None);
        let shutdown = CancellationToken::new();
        let running = {
            let (monitor, shutdown) = (monitor.clone(), shutdown.clone());
            tokio::spawn(async move { tokio::join!(subscriber.run(shutdown.clone()), monitor.run(shutdown)) })
        };
        let eviction_dangers = |policy: &str| vec![Danger::Evicts { policy: policy.into() }];
        for (policy, expected) in
            [("noeviction", vec![]), ("allkeys-lru", eviction_dangers("allkeys-lru")), ("noeviction", vec![])]
        {
            server.command(&format!("CONFIG SET maxmemory-policy {policy}"));
            let wait_for_dangers = async {
                while monitor.last_redis_dangers().as_ref() != Some(&expected) {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(TIME_LIMIT, wait_for_dangers).await.unwrap();
        }
        shutdown.cancel();
        timeout(TIME_LIMIT, running).await.unwrap().unwrap();
    }
}
