//! Queues: how they stand, their settings, and what is done to all of a queue.

use axum::{Json, extract::State, http::StatusCode};
use queue_core::{Queue, QueueName, QueueStatus};
use serde::Serialize;
use service::{Code, Problem, config::Scope, wording};
use utoipa_axum::routes;

use super::{
    Confirmed, NoQuery, PurgedState, QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    auth::Caller,
    body::{JsonBody, NoBody},
    json, refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    const MANAGE: Needs = Needs::OnQueue(Scope::Manage);
    routes
        .add(Needs::OnSome(Scope::Read), Limit::OfRequest, &[], routes!(list))
        .add(Needs::OnQueue(Scope::Read), Limit::OfRequest, &[Code::QueueNotFound], routes!(show))
        .add(
            MANAGE,
            Limit::OfRequest,
            &[Code::QueueNotFound, Code::InvalidSettings, Code::SettingsConflict],
            routes!(configure),
        )
        .add(MANAGE, Limit::OfRequest, &[Code::QueueNotFound, Code::NotConfirmed], routes!(delete))
        .add(MANAGE, Limit::OfRequest, &[Code::QueueNotFound], routes!(pause))
        .add(MANAGE, Limit::OfRequest, &[Code::QueueNotFound], routes!(resume))
        .add(MANAGE, Limit::OfSteps, &[Code::QueueNotFound], routes!(purge))
        .add(MANAGE, Limit::OfSteps, &[Code::QueueNotFound], routes!(retry_failed))
}

/// What `GET /v1/queues` answers.
#[derive(Serialize)]
pub(crate) struct List {
    queues: Vec<QueueStatus>,
}

/// What `POST /v1/queues/{queue}/purge` answers.
#[derive(Serialize)]
pub(crate) struct Purged {
    purged: u64,
}

/// What `POST /v1/queues/{queue}/retry_failed` answers.
#[derive(Serialize)]
pub(crate) struct Retried {
    retried: u64,
}

/// Read all queues
#[utoipa::path(
    get,
    path = "/v1/queues",
    operation_id = "list_queues",
    tag = "queues",
    responses((status = 200, description = "All that the key may read", body = ref("Queues"), content_type = "application/json")),
)]
pub(crate) async fn list(State(app): State<App>, caller: Caller, _: NoQuery) -> Result<Json<List>, Problem> {
    let mut queues = Vec::new();
    let names = app.shared.queues.names().await.map_err(refusal::from_queue)?;
    for name in names.iter().filter(|name| caller.may_read(name)) {
        // A name may stand in the index before its queue does.
        queues.extend(app.shared.queues.queue(name).status().await.map_err(refusal::from_queue)?);
    }
    Ok(Json(List { queues }))
}

/// Read a queue
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}",
    operation_id = "read_queue",
    tag = "queues",
    responses((status = 200, description = "How it stands", body = ref("Queue"), content_type = "application/json")),
)]
pub(crate) async fn show(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
) -> Result<Json<QueueStatus>, Problem> {
    status(&app.shared.queues.queue(&name)).await.map(Json)
}

/// Change settings
///
/// A merge patch (RFC 7396): what it does not name stays, a null brings back the default. The queue begins with its first
/// settings; an empty patch begins none.
#[utoipa::path(
    patch,
    path = "/v1/queues/{queue}",
    operation_id = "configure_queue",
    tag = "queues",
    request_body(content((ref("SettingsPatch") = "application/merge-patch+json"), (ref("SettingsPatch") = "application/json"))),
    responses((status = 200, description = "How the queue stands", body = ref("Queue"), content_type = "application/json")),
)]
pub(crate) async fn configure(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Json<QueueStatus>, Problem> {
    // Not any JSON is a patch, and a field that stands twice is a mistake.
    json::object(&body)?;
    let patch = json::parse(&body).map_err(|error| refusal::not_json(wording::of_document(&error)))?;
    let queue = app.shared.queues.queue(&name);
    let configured = queue.configure(&patch).await.map_err(|error| refusal::of_queue(error, &name))?;
    configured.map_err(|invalid| refusal::invalid_settings(&invalid))?;
    status(&queue).await.map(Json)
}

/// Pause a queue
///
/// Nothing more is handed out until it is resumed.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/pause",
    operation_id = "pause_queue",
    tag = "queues",
    responses((status = 200, description = "How it stands", body = ref("Queue"), content_type = "application/json")),
)]
pub(crate) async fn pause(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    _: NoBody,
) -> Result<Json<QueueStatus>, Problem> {
    let queue = app.shared.queues.queue(&name);
    // A slip in the name must not begin a queue.
    status(&queue).await?;
    queue.pause().await.map_err(|error| refusal::of_queue(error, &name))?;
    status(&queue).await.map(Json)
}

/// Resume a queue
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/resume",
    operation_id = "resume_queue",
    tag = "queues",
    responses((status = 200, description = "How it stands", body = ref("Queue"), content_type = "application/json")),
)]
pub(crate) async fn resume(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    _: NoBody,
) -> Result<Json<QueueStatus>, Problem> {
    let queue = app.shared.queues.queue(&name);
    status(&queue).await?;
    queue.resume().await.map_err(|error| refusal::of_queue(error, &name))?;
    status(&queue).await.map(Json)
}

/// Purge a queue
///
/// Forgets the messages that are in a state now.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/purge",
    operation_id = "purge_queue",
    tag = "queues",
    responses((status = 200, description = "How many there were", body = ref("Purged"), content_type = "application/json")),
    extensions(("x-parameters" = json!(["purged"]))),
)]
pub(crate) async fn purge(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    PurgedState(state): PurgedState,
    _: NoBody,
) -> Result<Json<Purged>, Problem> {
    let queue = app.shared.queues.queue(&name);
    status(&queue).await?;
    let purged = app.see_through(async move { queue.purge(state).await }).await?;
    purged.map(|purged| Json(Purged { purged })).map_err(refusal::from_queue)
}

/// Retry all failed messages
///
/// Those that have failed until now become ready, the oldest first.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/retry_failed",
    operation_id = "retry_failed",
    tag = "queues",
    responses((status = 200, description = "How many there were", body = ref("Retried"), content_type = "application/json")),
)]
pub(crate) async fn retry_failed(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    _: NoQuery,
    _: NoBody,
) -> Result<Json<Retried>, Problem> {
    let queue = app.shared.queues.queue(&name);
    status(&queue).await?;
    let retried = app.see_through(async move { queue.retry_failed().await }).await?;
    retried.map(|retried| Json(Retried { retried })).map_err(refusal::from_queue)
}

/// Delete a queue
///
/// With everything in it, active messages too: their leases are gone.
#[utoipa::path(
    delete,
    path = "/v1/queues/{queue}",
    operation_id = "delete_queue",
    tag = "queues",
    responses((status = 204, description = "It is gone")),
    extensions(("x-parameters" = json!(["confirm"]))),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    Confirmed(confirmed): Confirmed,
) -> Result<StatusCode, Problem> {
    if confirmed != name.as_str() {
        return Err(refusal::not_confirmed(&name));
    }
    let queue = app.shared.queues.queue(&name);
    // Two steps, of which the second is not to be left out.
    let was_there = app.see_through(async move { queue.delete().await }).await?;
    if was_there.map_err(refusal::from_queue)? { Ok(StatusCode::NO_CONTENT) } else { Err(not_found(&name)) }
}

async fn status(queue: &Queue) -> Result<QueueStatus, Problem> {
    let status = queue.status().await.map_err(refusal::from_queue)?;
    status.ok_or_else(|| not_found(queue.name()))
}

fn not_found(name: &QueueName) -> Problem {
    refusal::queue_not_found(name)
}
