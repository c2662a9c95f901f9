use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode},
};
use queue_core::Quota;
use service::{REQUEST_ID, config::Origin, new_request_id, render_problem};
use tower::{
    ServiceBuilder,
    util::{MapRequestLayer, MapResponseLayer},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestId, PropagateRequestIdLayer, RequestId, SetRequestIdLayer},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};

use crate::{
    App, auth, cors,
    metrics::Measure,
    openapi::{self, Access, Instance},
    request_span, routes,
};

/// All routes, with what every request goes through: in one layer, because each one more costs every request its copy of
/// all that lie within.
pub(crate) fn router(app: App, health: Router<App>, origins: &[Origin], measure: Measure) -> Router {
    let body_limit = DefaultBodyLimit::max(app.shared.body_limit);
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
                .layer(measure)
                .layer(MapRequestLayer::new(forget_unfit_id))
                .layer(SetRequestIdLayer::new(REQUEST_ID, NewRequestId))
                .layer(MapResponseLayer::new(render_problem))
                .layer(PropagateRequestIdLayer::new(REQUEST_ID))
                .layer(
                    TraceLayer::new_for_http()
                        .make_span_with(request_span::begin)
                        .on_request(())
                        .on_response(request_span::end)
                        .on_body_chunk(())
                        .on_eos(())
                        .on_failure(()),
                )
                .option_layer(cors::of(origins))
                .layer(CatchPanicLayer::new())
                .layer(body_limit),
        )
        .with_state(app)
}

/// The longest id of a client's own that is kept.
const LONGEST_ID: usize = 128;

/// An id of a client's own goes into answers and into the log, so it must be one, and short and readable there.
fn forget_unfit_id(mut request: Request) -> Request {
    let is_fit = {
        let mut ids = request.headers().get_all(REQUEST_ID).iter().map(HeaderValue::as_bytes);
        match (ids.next(), ids.next()) {
            (None, _) => return request,
            (Some(id), None) => (1..=LONGEST_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic),
            (Some(_), Some(_)) => false,
        }
    };
    if !is_fit {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

#[derive(Clone)]
struct NewRequestId;

impl MakeRequestId for NewRequestId {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        HeaderValue::from_str(&new_request_id()).ok().map(RequestId::new)
    }
}
