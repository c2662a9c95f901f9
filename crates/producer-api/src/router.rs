use axum::{Router, http::StatusCode};
use queue_core::Quota;
use service::config::Origin;
use tower::{ServiceBuilder, util::MapFutureLayer};
use tower_http::timeout::TimeoutLayer;

use crate::{
    App,
    attend::{Attend, catch_panic},
    auth, cors,
    metrics::Measure,
    openapi::{self, Access, Instance},
    routes,
};

/// All routes, with what every request goes through.
pub(crate) fn router(app: App, health: Router<App>, origins: &[Origin], measure: Measure) -> Router {
    // What a client may wait for comes on top of what the rest of a request may take.
    let time_limit = app.shared.request_timeout.to_std() + app.shared.max_wait.to_std();
    let time_limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, time_limit);
    let v1 = routes::v1().layer(time_limit).merge(routes::v1_without_time_limit());
    let (v1, described) = v1.split_for_parts();
    let access = if app.shared.keyring.is_empty() { Access::Open } else { Access::Keys };
    let description = openapi::describe(described, Instance { max_wait: app.shared.max_wait, access });
    let routes = v1
        .merge(health)
        .merge(routes::docs::routes(&description))
        .fallback(|| async { StatusCode::NOT_FOUND })
        .method_not_allowed_fallback(|| async { StatusCode::METHOD_NOT_ALLOWED });
    let quota = Quota::new(app.shared.queues.redis().clone());
    auth::protect(routes, &app.shared.keyring, quota)
        .layer(
            ServiceBuilder::new()
                .layer(Attend { measure, access })
                .option_layer(cors::of(origins))
                .layer(MapFutureLayer::new(catch_panic)),
        )
        .with_state(app)
}
