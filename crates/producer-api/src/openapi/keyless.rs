//! What the routes that need no key say of themselves. Some are served by what both services share, which knows nothing
//! of this description.
#![expect(dead_code, reason = "they are described here and handled elsewhere")]

use utoipa::OpenApi;

/// Their paths.
#[derive(OpenApi)]
#[openapi(paths(live, ready, metrics, openapi, docs))]
pub(super) struct Keyless;

/// Whether the process serves
///
/// It does not depend on Redis: an outage of Redis is no reason to restart.
#[utoipa::path(get, path = "/livez", operation_id = "live", tag = "service", responses(
    (status = 200, description = "It serves", body = ref("Alive"), content_type = "application/json"),
))]
fn live() {}

/// Whether work can be done now
///
/// And what endangers messages though it can: `warnings` is there when Redis is run so that messages may be lost.
#[utoipa::path(get, path = "/readyz", operation_id = "ready", tag = "service",
    responses((status = 200, description = "It is ready", body = ref("Ready"), content_type = "application/json")),
    extensions(("x-refusals" = json!(["not_ready"]))))]
fn ready() {}

/// The figures of this process and of the queues, for Prometheus
///
/// With Redis away it answers without the queues. docs/OBSERVABILITY.md has every name.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "service", responses(
    (status = 200, description = "The figures", body = String, content_type = "text/plain"),
))]
fn metrics() {}

/// This description
#[utoipa::path(get, path = "/openapi.json", operation_id = "openapi", tag = "service", responses(
    (status = 200, description = "OpenAPI 3.1", body = ref("Description"), content_type = "application/json"),
))]
fn openapi() {}

/// This description as a page
///
/// It loads nothing from other hosts, and asks this API what it is told to try.
#[utoipa::path(get, path = "/docs", operation_id = "docs", tag = "service", responses(
    (status = 200, description = "The page", body = String, content_type = "text/html"),
))]
fn docs() {}
