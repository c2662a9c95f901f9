use std::time::Duration;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode},
    middleware,
    response::Response,
};
use queue_core::Quota;
use service::{REQUEST_ID, config::Origin, render_problems};
use tower::ServiceBuilder;
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};
use tracing::{Span, debug, field, info_span};

use utoipa_axum::router::OpenApiRouter;

use crate::{
    App, auth, cors,
    openapi::{self, Access, Instance},
    routes,
};

/// All routes, with what every request goes through.
pub fn router(app: App, health: Router<App>, origins: &[Origin]) -> Router {
    let body_limit = DefaultBodyLimit::max(app.shared.body_limit);
    // What a client may wait for comes on top of what the rest of a request may take.
    let time_limit = app.shared.request_timeout.to_std() + app.shared.max_wait.to_std();
    let time_limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, time_limit);
    let v1 = routes::v1().layer(time_limit).merge(routes::v1_without_time_limit());
    let (v1, described) = OpenApiRouter::default().nest("/v1", v1).split_for_parts();
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
                .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId))
                .layer(PropagateRequestIdLayer::new(REQUEST_ID))
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(request_span)
                        .on_request(())
                        .on_response(log_response)
                        .on_failure(()),
                )
                .option_layer(cors::of(origins))
                .layer(middleware::from_fn(render_problems))
                .layer(CatchPanicLayer::new())
                .layer(body_limit),
        )
        .with_state(app)
}

#[derive(Clone)]
struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&format!("{:016x}", rand::random::<u64>())).ok().map(RequestId::new)
    }
}

fn request_span(request: &Request) -> Span {
    let id = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or("");
    info_span!("request", method = %request.method(), path = request.uri().path(), id, key = field::Empty)
}

fn log_response(response: &Response, duration: Duration, _: &Span) {
    debug!(status = response.status().as_u16(), duration_ms = duration.as_secs_f64() * 1e3, "answered");
}
