//! `/livez` and `/readyz`, the same on both services.
//!
//! `/livez` says that the process serves; it does not depend on Redis, or an outage of Redis would restart everything.
//! `/readyz` says whether work can be done now.

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::get};
use queue_core::{Redis, Subscriber};
use serde_json::json;

use crate::Problem;

/// The two routes.
pub fn routes<S: Clone + Send + Sync + 'static>(redis: Redis, subscriber: Subscriber) -> Router<S> {
    Router::new()
        .route("/livez", get(|| async { Json(json!({"status": "alive"})) }))
        .route("/readyz", get(move || ready(redis.clone(), subscriber.clone())))
}

async fn ready(redis: Redis, subscriber: Subscriber) -> impl IntoResponse {
    let reason = match redis.ping().await {
        Err(error) => error.to_string(),
        Ok(()) if !subscriber.is_connected() => "the subscription to Redis is not there yet".into(),
        Ok(()) => return Ok(Json(json!({"status": "ready"}))),
    };
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).with_retry_after(1))
}
