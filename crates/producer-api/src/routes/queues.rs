use axum::{Json, extract::State};
use queue_core::QueueStatus;
use serde::Serialize;
use service::Problem;

use super::{NoQuery, QueuePath};
use crate::{App, refusal};

/// What `GET /v1/queues` answers.
#[derive(Serialize)]
pub(crate) struct List {
    queues: Vec<QueueStatus>,
}

/// `GET /v1/queues`
pub(crate) async fn list(State(app): State<App>, _: NoQuery) -> Result<Json<List>, Problem> {
    let mut queues = Vec::new();
    for name in app.shared.queues.names().await.map_err(refusal::from_queue)? {
        // A name may stand in the registry before its queue does.
        queues.extend(app.shared.queues.queue(&name).status().await.map_err(refusal::from_queue)?);
    }
    Ok(Json(List { queues }))
}

/// `GET /v1/queues/{queue}`
pub(crate) async fn show(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
) -> Result<Json<QueueStatus>, Problem> {
    let status = app.shared.queues.queue(&queue).status().await.map_err(refusal::from_queue)?;
    status.map(Json).ok_or_else(|| refusal::queue_not_found(&queue))
}
