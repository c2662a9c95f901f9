//! The whole router: all routes, and what every request goes through before and after them.

use std::sync::Arc;

use axum::{Router, http::StatusCode};
use tower::{ServiceBuilder, util::MapFutureLayer};
use tower_http::timeout::TimeoutLayer;

use crate::{
    App,
    attend::{Attend, catch_panic},
    auth, cors,
    openapi::{self, Access, Instance},
    routes,
};

/// All routes, with what every request goes through.
pub(crate) fn router(app: App) -> Router {
    let shared = Arc::clone(&app.shared);
    // What a client may wait for comes on top of what the rest of a request may take.
    let time_limit = shared.request_timeout.to_std() + shared.max_wait.to_std();
    let time_limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, time_limit);
    let (routes, described, endpoints) = routes::all(time_limit).split();
    let access = if shared.keyring.is_empty() { Access::Open } else { Access::Keys };
    let description = openapi::describe(&described, &endpoints, Instance { max_wait: shared.max_wait, access });
    shared.description.get_or_init(|| description.to_string().into());
    let endpoints = Arc::new(endpoints);
    let routes = routes
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED });
    let redis = shared.queues.redis().clone();
    auth::protect(routes, &shared.keyring, Arc::clone(&endpoints), redis)
        .layer(
            ServiceBuilder::new()
                .layer(Attend { measure: shared.metrics.measure(), access, endpoints })
                .option_layer(cors::of(&shared.cors_origins))
                .layer(MapFutureLayer::new(catch_panic)),
        )
        .with_state(app)
}
