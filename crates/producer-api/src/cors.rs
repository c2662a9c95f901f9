use std::time::Duration;

use axum::http::{HeaderName, Method, header};
use service::{REQUEST_ID, config::Origin};
use tower_http::cors::CorsLayer;

/// For how long a browser need not ask again what it may.
const MAX_AGE: Duration = Duration::from_secs(3_600);

/// Lets pages of these origins call the API; without any, browsers are told nothing and let no page.
pub(crate) fn of(origins: &[Origin]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins: Vec<_> = origins.iter().map(|origin| origin.as_header().clone()).collect();
    let taken = ["idempotency-key", "last-event-id", "traceparent", "tracestate"].map(HeaderName::from_static);
    let taken = taken.into_iter().chain([header::AUTHORIZATION, header::CONTENT_TYPE, REQUEST_ID]);
    let told = ["ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
    let told = told.into_iter().chain([header::LOCATION, header::RETRY_AFTER, REQUEST_ID]);
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::DELETE])
            .allow_headers(taken.collect::<Vec<_>>())
            .expose_headers(told.collect::<Vec<_>>())
            .max_age(MAX_AGE),
    )
}
