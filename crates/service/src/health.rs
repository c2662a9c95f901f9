//! `/livez` and `/readyz`, the same on both services.
//!
//! `/livez` says that the process serves; it does not depend on Redis, or an outage of Redis would restart everything.
//! `/readyz` says whether work can be done now, and what endangers it though it can.

use axum::{Json, Router, routing::get};
use queue_core::{Danger, Redis, Subscriber};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{Code, Examiner, Problem};

/// The two routes.
pub fn routes<S: Clone + Send + Sync + 'static>(redis: Redis, subscriber: Subscriber, examiner: Examiner) -> Router<S> {
    let ready = async move || ready(&redis, &subscriber, &examiner).await.map(Json);
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
    /// What endangers messages. It is only there when Redis is run so that messages may be lost.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// The answer of `/readyz`.
///
/// # Errors
///
/// When no work can be done now, with the reasons.
pub async fn ready(redis: &Redis, subscriber: &Subscriber, examiner: &Examiner) -> Result<Ready, Problem> {
    // Redis itself is asked each time; how it is run is known from the last examination.
    let answers = redis.ping().await.map_err(|error| error.to_string());
    readiness(answers, subscriber.is_connected(), examiner.found().as_deref())
}

fn readiness(answers: Result<(), String>, is_subscribed: bool, found: Option<&[Danger]>) -> Result<Ready, Problem> {
    let not_ready = |reason: String| Problem::new(Code::NotReady, reason).with_retry_after(1);
    let (reasons, warnings): (Vec<_>, Vec<_>) = found.into_iter().flatten().partition(|danger| danger.prevents_work());
    let texts = |dangers: &[&Danger]| dangers.iter().map(ToString::to_string).collect::<Vec<_>>();
    // An outage now, and what was found before, which may be its reason.
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

#[cfg(test)]
mod tests {
    use serde_json::json;

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
    fn it_is_ready_once_redis_answers_is_subscribed_to_and_was_found_safe() {
        let ready = readiness(Ok(()), true, Some(&[])).unwrap();
        assert_eq!(serde_json::to_value(ready).unwrap(), json!({"status": "ready"}));
        assert_eq!(detail(readiness(Err("away".into()), true, Some(&[]))), "away");
        assert!(detail(readiness(Ok(()), false, Some(&[]))).contains("subscription"));
        assert!(detail(readiness(Ok(()), true, None)).contains("not examined yet"));
    }

    #[test]
    fn what_only_endangers_messages_is_a_warning() {
        let dangers = vec![Danger::Evicts { policy: "allkeys-lru".into() }, Danger::NotPersistent];
        let texts = dangers.iter().map(ToString::to_string).collect::<Vec<_>>();
        let answer = readiness(Ok(()), true, Some(&dangers)).unwrap();
        assert_eq!(answer, Ready { status: "ready", warnings: texts });
    }

    #[test]
    fn what_prevents_work_is_the_reason_not_to_be_ready() {
        let told = detail(readiness(Ok(()), true, Some(&[too_old(), Danger::Replica, Danger::NotPersistent])));
        assert_eq!(told, format!("{}; {}", too_old(), Danger::Replica));
        assert!(told.contains("Redis 6.2.14 is too old: Drover needs Redis 7.0 or newer"), "{told}");
    }

    #[test]
    fn an_outage_now_is_told_before_what_was_found_earlier() {
        assert_eq!(detail(readiness(Err("away".into()), false, Some(&[]))), "away");
        let both = detail(readiness(Err("away".into()), false, Some(&[too_old()])));
        assert!(both.starts_with("away; Redis 6.2.14"), "{both}");
    }
}
