use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use queue_core::{Enqueued, Message, MessageRef, Millis, Queue};
use serde::Serialize;
use service::Problem;

use super::{IdPath, NoQuery, QueuePath, Wait};
use crate::{App, json::JsonBody, new_message, refusal};

/// What a POST answers: the message, and whether it stood already.
#[derive(Serialize)]
struct Created<'m> {
    #[serde(flatten)]
    message: &'m Message,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// `POST /v1/queues/{queue}/messages`
pub(crate) async fn create(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    Wait(wait): Wait,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let message = new_message::parse(&body)?;
    let queue = app.shared.queues.queue(&queue);
    let enqueued = queue.enqueue(vec![message]).await.map_err(refusal::from_queue)?;
    let (duplicate, message) = match enqueued.into_iter().next() {
        Some(Enqueued::Created(message)) => (false, message),
        Some(Enqueued::Duplicate(message)) => (true, message),
        Some(Enqueued::Forgotten(_)) | None => {
            return Err(refusal::from_queue(queue_core::Error::Unexpected("nothing was enqueued".into())));
        }
    };
    let message = match wait {
        Some(wait) => read(&app, &queue, &message.id, wait).await?,
        None => message,
    };
    let status = if duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let location = new_message::location(queue.name(), &message.id);
    Ok((status, [(header::LOCATION, location)], Json(Created { message: &message, duplicate })).into_response())
}

/// `POST /v1/queues/{queue}/messages/batch`
pub(crate) async fn create_batch(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Entry {
        id: String,
        state: Option<queue_core::State>,
        duplicate: bool,
    }
    #[derive(Serialize)]
    struct Batch {
        messages: Vec<Entry>,
    }
    let messages = new_message::parse_batch(&body)?;
    let enqueued = app.shared.queues.queue(&queue).enqueue(messages).await.map_err(refusal::from_queue)?;
    let messages = enqueued
        .iter()
        .map(|enqueued| Entry {
            id: enqueued.id().to_string(),
            state: enqueued.message().map(|message| message.state),
            duplicate: matches!(enqueued, Enqueued::Duplicate(_)),
        })
        .collect();
    Ok((StatusCode::CREATED, Json(Batch { messages })).into_response())
}

/// `GET /v1/queues/{queue}/messages/{id}`
pub(crate) async fn show(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    Wait(wait): Wait,
) -> Result<Json<Message>, Problem> {
    let queue = app.shared.queues.queue(&queue);
    read(&app, &queue, &id, wait.unwrap_or(Millis::ZERO)).await.map(Json)
}

async fn read(app: &App, queue: &Queue, id: &MessageRef, wait: Millis) -> Result<Message, Problem> {
    let message = if wait.is_zero() {
        queue.read(std::slice::from_ref(id)).await.map(|mut found| found.pop().flatten())
    } else {
        queue.read_when_finished(id, wait, &app.shared.subscriber).await
    };
    message.map_err(refusal::from_queue)?.ok_or_else(|| refusal::message_not_found(queue.name(), id))
}
