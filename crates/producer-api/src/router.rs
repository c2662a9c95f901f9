//! The router: all routes, and the layers that every request passes.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderName, Method, StatusCode, header},
};
use service::{REQUEST_ID, config::Origin};
use tower::{ServiceBuilder, util::MapFutureLayer};
use tower_http::{cors::CorsLayer, timeout::TimeoutLayer};

use crate::{
    app::App,
    auth::{
        Access,
        guard::{Guard, protect},
    },
    openapi,
    request::layer::{RequestLayer, catch_panic},
    routes,
};

/// Returns the router with all routes and with the layers that every request passes.
pub(crate) fn router(app: &App) -> Router {
    // A request may take `request_timeout`, and in addition the time for which it waits for messages or a result, up to
    // `max_wait`.
    let time_limit = app.limits.request_timeout.to_std() + app.limits.max_wait.to_std();
    let time_limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, time_limit);
    let (routes, routes_description, endpoints) = routes::all(time_limit).into_parts();
    let access = if app.keyring.is_empty() { Access::Open } else { Access::Keys };
    let description = openapi::describe(&routes_description, &endpoints, *app.limits.max_wait, access);
    app.description.get_or_init(|| description.to_string().into());
    let endpoints = Arc::new(endpoints);
    let routes = routes
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED });
    let guard = Guard {
        keyring: Arc::clone(&app.keyring),
        redis: app.queues.redis().clone(),
        endpoints: Arc::clone(&endpoints),
    };
    protect(routes, guard)
        .layer(
            ServiceBuilder::new()
                .layer(RequestLayer { metrics: app.metrics.requests.clone(), access, endpoints })
                .option_layer(cors_layer(&app.limits.cors_origins))
                .layer(MapFutureLayer::new(catch_panic)),
        )
        .with_state(app.clone())
}

/// The time for which a browser may cache the response to a CORS preflight request.
const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(3_600);

/// Returns the CORS layer, which allows web pages of `origins` to call the API. Returns `None` if there are no origins: without
/// CORS headers, a browser does not let pages of other origins send JSON or read responses.
fn cors_layer(origins: &[Origin]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origins: Vec<_> = origins.iter().map(|origin| origin.as_header().clone()).collect();
    let allowed_headers =
        ["idempotency-key", "last-event-id", "traceparent", "tracestate"].map(HeaderName::from_static);
    let allowed_headers = allowed_headers.into_iter().chain([header::AUTHORIZATION, header::CONTENT_TYPE, REQUEST_ID]);
    let exposed_headers = ["ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
    let exposed_headers = exposed_headers.into_iter().chain([header::LOCATION, header::RETRY_AFTER, REQUEST_ID]);
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers(allowed_headers.collect::<Vec<_>>())
            .expose_headers(exposed_headers.collect::<Vec<_>>())
            .max_age(PREFLIGHT_MAX_AGE),
    )
}
