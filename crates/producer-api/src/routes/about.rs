//! What the process says of itself, to which no key is needed: health, metrics, and the description of the interface, as
//! JSON and as a page.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use service::{
    Code, Problem,
    health::{self, Alive, Ready},
};
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use super::registry::{Limit, Needs, Routes};
use crate::App;

/// The page shows what `/openapi.json` says, by Swagger UI, which the binary carries.
const PAGE: &str = include_str!("docs.html");

/// Starts Swagger UI. In a file of its own, because a script within the page would need a hole in the policy.
const START: &str = include_str!("docs.js");

/// Nothing but what this server serves, and the pictures within the style sheet.
const POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
);

/// A version of Drover has one of each file.
const KEEP_AN_HOUR: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));

pub(super) fn register(routes: Routes) -> Routes {
    routes
        .add(Needs::Nothing, Limit::OfSteps, &[], routes!(live))
        .add(Needs::Nothing, Limit::OfSteps, &[Code::NotReady], routes!(ready))
        .add(Needs::Nothing, Limit::OfSteps, &[], routes!(metrics))
        .add(Needs::Nothing, Limit::OfSteps, &[], routes!(openapi))
        .add(Needs::Nothing, Limit::OfSteps, &[], routes!(docs))
        .add_part("/docs/{file}", get(file))
}

/// Whether the process serves
///
/// It does not depend on Redis: an outage of Redis is no reason to restart.
#[utoipa::path(get, path = "/livez", operation_id = "live", tag = "service", responses(
    (status = 200, description = "It serves", body = Alive),
))]
async fn live() -> Json<Alive> {
    Json(Alive::default())
}

/// Whether work can be done now
///
/// And what endangers messages though it can: `warnings` is there when Redis is run so that messages may be lost.
#[utoipa::path(get, path = "/readyz", operation_id = "ready", tag = "service", responses(
    (status = 200, description = "It is ready", body = Ready),
))]
async fn ready(State(app): State<App>) -> Result<Json<Ready>, Problem> {
    health::ready(app.shared.queues.redis(), &app.shared.subscriber, &app.shared.examiner).await.map(Json)
}

/// The figures of this process and of the queues, for Prometheus
///
/// With Redis away it answers without the queues. docs/OBSERVABILITY.md has every name.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "service", responses(
    (status = 200, description = "The figures", body = String, content_type = "text/plain"),
))]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.shared.metrics.page().await
}

/// This description
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "service", responses(
    (status = 200, description = "OpenAPI 3.1", body = Object),
))]
async fn openapi(State(app): State<App>) -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, app.shared.description.get().cloned().unwrap_or_default())
}

/// This description as a page
///
/// It loads nothing from other hosts, and asks this API what it is told to try.
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "service", responses(
    (status = 200, description = "The page", body = String, content_type = "text/html"),
))]
async fn docs() -> Response {
    answer("text/html; charset=utf-8", PAGE)
}

async fn file(Path(name): Path<String>) -> Response {
    if name == "start.js" {
        return answer("text/javascript; charset=utf-8", START);
    }
    // Its own page asks other hosts for what it shows first.
    let is_part = matches!(name.as_str(), "swagger-ui.css" | "swagger-ui-bundle.js" | "favicon-32x32.png");
    match utoipa_swagger_ui::serve(&name, Arc::new(Config::default())) {
        Ok(Some(file)) if is_part => {
            let bytes = file.bytes.into_owned();
            ([KEEP_AN_HOUR], answer(&file.content_type, bytes)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn answer(content_type: &str, body: impl IntoResponse) -> Response {
    let mut answer = body.into_response();
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    answer.headers_mut().extend([POLICY]);
    answer
}
