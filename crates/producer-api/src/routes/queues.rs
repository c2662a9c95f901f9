//! The endpoints that list queues, read and change a queue's settings, and pause, resume, purge or delete a queue.

use axum::{Json, extract, http::StatusCode, response::Response};
use queue_core::{Queue, QueueName, QueueStatus, settings::SettingsPatch};
use service::{Code, config::Scope};
use utoipa_axum::routes;

use super::registry::Routes;
use crate::{
    api::{
        json, limit_or,
        queue::{Confirmation, PurgeQuery, Purged, QueueQuery, Queues, Retried},
    },
    app::App,
    auth::endpoint::RequiredScope,
    errors::{self, Result},
    request::{JsonBody, NoBody, NoQuery, Query, QueuePath},
    response::Responder,
};

pub(super) fn register(routes: Routes) -> Routes {
    const MANAGE_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Manage);
    let configure_errors = &[Code::QueueNotFound, Code::InvalidSettings, Code::SettingsConflict];
    routes
        .tag("queues")
        .add(RequiredScope::OnAnyQueue(Scope::Read), &[Code::CursorNotFound], routes!(list_queues))
        .add(RequiredScope::OnQueue(Scope::Read), &[Code::QueueNotFound], routes!(read_queue))
        .add(MANAGE_SCOPE, configure_errors, routes!(configure_queue))
        .add(MANAGE_SCOPE, &[Code::QueueNotFound, Code::NotConfirmed], routes!(delete_queue))
        .add(MANAGE_SCOPE, &[Code::QueueNotFound], routes!(pause_queue))
        .add(MANAGE_SCOPE, &[Code::QueueNotFound], routes!(resume_queue))
        .add_unlimited(MANAGE_SCOPE, &[Code::QueueNotFound], routes!(purge_queue))
        .add_unlimited(MANAGE_SCOPE, &[Code::QueueNotFound, Code::QueueExclusive], routes!(retry_failed))
}

const DEFAULT_PAGE_SIZE: usize = 100;

/// List queues
///
/// Lists all queues that the key may read, or only the queues whose names begin with a prefix, in the order of their names,
/// page by page.
#[utoipa::path(
    get, path = "/v1/queues", responses((status = 200, description = "A page of the list", body = Queues)), params(QueueQuery),
)]
async fn list_queues(
    extract::State(app): extract::State<App>,
    Query(QueueQuery { prefix, limit, cursor }): Query<QueueQuery>,
    responder: Responder,
) -> Result<Response> {
    // The cursor is the last name that was read for the previous page. Only names of queues that the key may read are read, so
    // the cursor reveals no other name.
    let after_name = cursor.map(QueueName::try_from).transpose().map_err(|_| errors::INVALID_CURSOR)?;
    let prefix = prefix.as_ref().map_or("", QueueName::as_str);
    let limit = limit_or(DEFAULT_PAGE_SIZE, limit);
    let page = app.queues.list(&responder.caller.readable_queues(), prefix, after_name.as_ref(), limit).await;
    let (queues, next_cursor) = page.map_err(errors::queue_error)?;
    responder.respond_to_read(&Queues { queues, next_cursor }, 0)
}

/// Read a queue
#[utoipa::path(
    get, path = "/v1/queues/{queue}",
    responses((status = 200, description = "The status of the queue", body = QueueStatus)),
)]
async fn read_queue(path: QueuePath, _: NoQuery) -> Result<Json<QueueStatus>> {
    read_status(&path.queue).await.map(Json)
}

/// Change settings
///
/// Applies a merge patch (RFC 7396) to the settings: an absent setting stays unchanged, and null restores the default. The
/// first settings create the queue; an empty patch creates no queue.
#[utoipa::path(
    patch, path = "/v1/queues/{queue}",
    request_body(content((SettingsPatch = "application/merge-patch+json"), (SettingsPatch = "application/json")), description = "The settings to change"),
    responses((status = 200, description = "The status of the queue", body = QueueStatus)),
)]
async fn configure_queue(path: QueuePath, _: NoQuery, JsonBody(body): JsonBody) -> Result<Json<QueueStatus>> {
    let queue = path.queue;
    let configure_result = queue.configure(&json::parse_members(&body)?.into()).await;
    configure_result.map_err(|error| errors::existing_queue_error(error, queue.name()))?;
    read_status(&queue).await.map(Json)
}

/// Pause a queue
///
/// A paused queue leases no messages until it is resumed.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/pause",
    responses((status = 200, description = "The status of the queue", body = QueueStatus)),
)]
async fn pause_queue(path: QueuePath, _: NoQuery, _: NoBody) -> Result<Json<QueueStatus>> {
    let queue = path.queue;
    // The status is read before the queue is paused, so that a mistyped name does not create a queue.
    read_status(&queue).await?;
    queue.pause().await.map_err(|error| errors::existing_queue_error(error, queue.name()))?;
    read_status(&queue).await.map(Json)
}

/// Resume a queue
#[utoipa::path(
    post, path = "/v1/queues/{queue}/resume",
    responses((status = 200, description = "The status of the queue", body = QueueStatus)),
)]
async fn resume_queue(path: QueuePath, _: NoQuery, _: NoBody) -> Result<Json<QueueStatus>> {
    let queue = path.queue;
    read_status(&queue).await?;
    queue.resume().await.map_err(|error| errors::existing_queue_error(error, queue.name()))?;
    read_status(&queue).await.map(Json)
}

/// Purge a queue
///
/// Deletes all messages that are in the given state now.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/purge",
    responses((status = 200, description = "The number of deleted messages", body = Purged)), params(PurgeQuery),
)]
async fn purge_queue(
    QueuePath { app, queue }: QueuePath,
    Query(query): Query<PurgeQuery>,
    _: NoBody,
) -> Result<Json<Purged>> {
    let state = query.state()?;
    read_status(&queue).await?;
    let purged_count = app.run_to_end(async move { queue.purge(state).await }).await?;
    purged_count.map(|purged_count| Json(Purged { purged: purged_count })).map_err(errors::queue_error)
}

/// Retry all failed messages
///
/// All messages that have failed until now become ready, the oldest failure first.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/retry_failed",
    responses((status = 200, description = "The number of messages that are ready again", body = Retried)),
)]
async fn retry_failed(QueuePath { app, queue }: QueuePath, _: NoQuery, _: NoBody) -> Result<Json<Retried>> {
    read_status(&queue).await?;
    let retried_count = app.run_to_end(async move { queue.retry_failed().await }).await?;
    retried_count.map(|retried_count| Json(Retried { retried: retried_count })).map_err(errors::queue_error)
}

/// Delete a queue
///
/// The queue is deleted with everything in it. Active messages are deleted too, and their leases are over.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}", responses((status = 204, description = "The queue is deleted")),
    params(Confirmation),
)]
async fn delete_queue(
    QueuePath { app, queue }: QueuePath,
    Query(Confirmation { confirm }): Query<Confirmation>,
) -> Result<StatusCode> {
    let name = queue.name().clone();
    match confirm {
        None => return Err(errors::NO_CONFIRMATION.into()),
        Some(confirmed) if confirmed != name.as_str() => return Err(errors::wrong_confirmation(&name)),
        Some(_) => {}
    }
    // The deletion runs to its end even if the client disconnects, because it has two steps.
    let had_existed = app.run_to_end(async move { queue.delete().await }).await?;
    if had_existed.map_err(errors::queue_error)? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(errors::queue_not_found(&name))
    }
}

async fn read_status(queue: &Queue) -> Result<QueueStatus> {
    let status = queue.status().await.map_err(errors::queue_error)?;
    status.ok_or_else(|| errors::queue_not_found(queue.name()))
}
