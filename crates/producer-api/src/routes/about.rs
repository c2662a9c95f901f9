//! The endpoints that need no key: health, metrics, and the `OpenAPI` description as JSON and as a web page.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use service::{
    Code,
    health::{self, Alive, Ready},
};
use utoipa_axum::routes;
use utoipa_swagger_ui::Config;

use super::registry::Routes;
use crate::{app::App, auth::endpoint::RequiredScope, errors::Result};

/// The web page `/docs`, which shows `/openapi.json` with Swagger UI. The binary contains Swagger UI.
const DOCS_PAGE: &str = include_str!("docs.html");

/// The script that starts Swagger UI. The script of the page `/docs` is a separate file, because [`DOCS_POLICY`] forbids inline
/// scripts.
const DOCS_SCRIPT: &str = include_str!("docs.js");

/// The content security policy that allows the page `/docs` to load only files of the API server, and images embedded in the
/// style sheet.
const DOCS_POLICY: (HeaderName, HeaderValue) = (
    header::CONTENT_SECURITY_POLICY,
    HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
);

/// The header that allows browsers to cache the files of Swagger UI for an hour. The files of Swagger UI change only with
/// the version of Drover.
const CACHE_ONE_HOUR: (HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));

pub(super) fn register(routes: Routes) -> Routes {
    routes
        .tag("service")
        .add_unlimited(RequiredScope::Nothing, &[], routes!(live))
        .add_unlimited(RequiredScope::Nothing, &[Code::NotReady], routes!(ready))
        .add_unlimited(RequiredScope::Nothing, &[], routes!(metrics))
        .add_unlimited(RequiredScope::Nothing, &[], routes!(openapi))
        .add_unlimited(RequiredScope::Nothing, &[], routes!(docs))
        .add_file("/docs/{file}", get(docs_file))
}

/// Check that the process serves requests
///
/// `/livez` does not depend on Redis, because an outage of Redis is no reason to restart the process.
#[utoipa::path(get, path = "/livez", responses(
    (status = 200, description = "The process serves requests", body = Alive),
))]
async fn live() -> Json<Alive> {
    Json(Alive::default())
}

/// Check that the process is ready for work
///
/// `warnings` lists the settings of Redis with which messages may be lost.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "The process is ready", body = Ready),
))]
async fn ready(State(app): State<App>) -> Result<Json<Ready>> {
    health::ready(app.queues.redis(), &app.subscriber, &app.health_monitor).await.map(Json)
}

/// Read metrics of this process and of the queues, for Prometheus
///
/// During an outage of Redis the metrics of the queues are omitted. docs/OBSERVABILITY.md lists all metrics.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "The metrics in the text format of Prometheus", body = String, content_type = "text/plain"),
))]
async fn metrics(State(app): State<App>) -> impl IntoResponse {
    app.metrics.page().await
}

/// Read the `OpenAPI` description of the API
#[utoipa::path(get, path = "/openapi.json", responses(
    (status = 200, description = "The `OpenAPI` 3.1 document", body = Object),
))]
async fn openapi(State(app): State<App>) -> impl IntoResponse {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, app.description.get().cloned().unwrap_or_default())
}

/// Show the `OpenAPI` description of the API as a web page
///
/// The page loads nothing from other hosts. Requests that are sent from the page go to this API.
#[utoipa::path(get, path = "/docs", responses(
    (status = 200, description = "The web page", body = String, content_type = "text/html"),
))]
async fn docs() -> Response {
    respond("text/html; charset=utf-8", DOCS_PAGE)
}

async fn docs_file(Path(name): Path<String>) -> Response {
    if name == "start.js" {
        return respond("text/javascript; charset=utf-8", DOCS_SCRIPT);
    }
    // Swagger UI's own page is not served, because it loads its example from another host.
    let is_served = matches!(name.as_str(), "swagger-ui.css" | "swagger-ui-bundle.js" | "favicon-32x32.png");
    match utoipa_swagger_ui::serve(&name, Arc::new(Config::default())) {
        Ok(Some(file)) if is_served => {
            let bytes = file.bytes.into_owned();
            ([CACHE_ONE_HOUR], respond(&file.content_type, bytes)).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn respond(content_type: &str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    }
    response.headers_mut().extend([DOCS_POLICY]);
    response
}
