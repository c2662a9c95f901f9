//! Messages: posting and reading them.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use queue_core::{Enqueued, Message, MessageRef, Millis, Queue, QueueName};
use serde::Serialize;
use service::{Code, Problem, config::Scope};
use utoipa_axum::routes;

use super::{
    IdPath, NoQuery, QueuePath, Wait, ndjson,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    auth::Caller,
    body::{BatchBody, JsonBody},
    idempotency::{Key, Kind},
    json, new_message, refusal,
    trace::Trace,
};

pub(super) fn register(routes: Routes) -> Routes {
    const ENQUEUE: Needs = Needs::OnQueue(Scope::Enqueue);
    let posting = &[
        Code::InvalidMessage,
        Code::InvalidIdempotencyKey,
        Code::IdempotencyKeyReused,
        Code::QueueFull,
        Code::TooManyWaits,
        Code::OutOfMemory,
    ];
    let posting_many = &[
        Code::InvalidMessage,
        Code::TooManyMessages,
        Code::InvalidIdempotencyKey,
        Code::IdempotencyKeyReused,
        Code::QueueFull,
        Code::OutOfMemory,
        Code::Stopping,
    ];
    let reading = &[Code::MessageNotFound, Code::TooManyWaits];
    routes
        .add(ENQUEUE, Limit::OfSteps, posting, routes!(create))
        .add(ENQUEUE, Limit::OfSteps, posting_many, routes!(create_batch))
        .add(Needs::OnQueue(Scope::Read), Limit::OfRequest, reading, routes!(show))
}

/// The most that a message's answer usually has beside its data, in bytes.
const BESIDE_THE_DATA: usize = 600;

/// What a POST answers: the message, and whether it stood already.
#[derive(Serialize)]
struct Created<M> {
    #[serde(flatten)]
    message: M,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

/// What is left to say of a message that is no longer kept: its state is null.
#[derive(Serialize)]
pub(super) struct Gone<'m> {
    pub(super) id: &'m str,
    pub(super) queue: &'m QueueName,
    state: Option<queue_core::State>,
}

impl<'m> Gone<'m> {
    pub(super) fn new(queue: &'m QueueName, id: &'m MessageRef) -> Self {
        Self { id: id.as_str(), queue, state: None }
    }
}

/// Post a message
///
/// With `wait` it is answered when the message is completed or failed, or when the wait is over.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/messages",
    operation_id = "post_message",
    tag = "messages",
    request_body(content = ref("NewMessage"), description = "The message", content_type = "application/json"),
    responses(
        (status = 201, description = "It is stored", body = ref("PostedMessage"), content_type = "application/json"),
        (status = 200, description = "One with that id stood already, or the request was made before with the same Idempotency-Key; nothing was changed", body = ref("DuplicateMessage"), content_type = "application/json"),
    ),
    extensions(("x-parameters" = json!(["wait", "idempotency-key"]))),
)]
pub(crate) async fn create(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    Wait(wait): Wait,
    caller: Caller,
    key: Key,
    trace: Trace,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let mut message = new_message::parse(&body)?;
    trace.mark(&mut message);
    let _waits = app.wait(&caller, wait.unwrap_or(Millis::ZERO))?;
    let queue = app.shared.queues.queue(&queue);
    let enqueued = match key {
        // With others that come at the same time. A key is about one request, whose call is its own. That, and waiting,
        // are boxed: what most do not need should not make every request's memory larger.
        Key(None) => queue.post(message).await.map_err(refusal::from_enqueue)?,
        key => {
            let enqueued = Box::pin(key.enqueue(&queue, vec![message], Kind::Message, &body)).await?;
            enqueued.into_iter().next().ok_or_else(refusal::internal)?
        }
    };
    let duplicate = !matches!(enqueued, Enqueued::Created(_));
    let status = if duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let id = enqueued.id().clone();
    let stored = match enqueued {
        Enqueued::Created(message) => match wait {
            None => Some(message),
            // It is stored; a wait that Redis cuts short is over, and nothing that is answered with a refusal.
            Some(wait) => Box::pin(find(&app, &queue, &id, wait)).await.unwrap_or(Some(message)),
        },
        Enqueued::Duplicate(..) => Box::pin(find(&app, &queue, &id, wait.unwrap_or(Millis::ZERO))).await?,
        Enqueued::Forgotten(_) => None,
    };
    let Some(message) = stored else {
        return Ok((status, Json(Created { message: Gone::new(queue.name(), &id), duplicate })).into_response());
    };
    let about = message.data.get().len() + BESIDE_THE_DATA;
    let mut answer = if duplicate {
        json::answer(&Created { message, duplicate }, about)?
    } else {
        // As above, without the detour by which one object is put into another.
        json::answer(&message, about)?
    };
    *answer.status_mut() = status;
    let location = new_message::location(queue.name(), &id).try_into().map_err(|_| refusal::internal())?;
    answer.headers_mut().insert(header::LOCATION, location);
    Ok(answer)
}

/// Post many messages
///
/// As JSON 1 to 1,000, all or none; or line by line, any number, stored while they come in. What has been stored of lines stays
/// stored, also when the client goes away half-way or the server can't go on.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/messages/batch",
    operation_id = "post_messages",
    tag = "messages",
    request_body(content((ref("NewBatch") = "application/json"), (ref("NewLines") = "application/x-ndjson"))),
    responses(
        (status = 201, description = "All are stored; an entry for each", body = ref("PostedBatch"), content_type = "application/json"),
        (status = 200, description = "Each stood already; or what came of the lines", content((ref("BatchOrLines") = "application/json"))),
    ),
    extensions(("x-parameters" = json!(["idempotency-key"]))),
)]
pub(crate) async fn create_batch(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
    key: Key,
    trace: Trace,
    body: BatchBody,
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
    let queue = app.shared.queues.queue(&queue);
    let body = match (body, &key) {
        (BatchBody::Json(body), _) => body,
        (BatchBody::Lines(..), Key(Some(_))) => return Err(refusal::no_key_for_lines()),
        (BatchBody::Lines(body, memory), Key(None)) => return ndjson::enqueue(&app, &queue, trace, body, memory).await,
    };
    let mut messages = new_message::parse_batch(&body)?;
    for message in &mut messages {
        trace.mark(message);
    }
    let enqueued = key.enqueue(&queue, messages, Kind::Batch, &body).await?;
    let messages: Vec<Entry> = enqueued
        .iter()
        .map(|enqueued| Entry {
            id: enqueued.id().to_string(),
            state: enqueued.state(),
            duplicate: !matches!(enqueued, Enqueued::Created(_)),
        })
        .collect();
    let nothing_new = messages.iter().all(|entry| entry.duplicate);
    let status = if nothing_new { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(Batch { messages })).into_response())
}

/// Read a message
///
/// With `wait` it is answered when the message is completed or failed, or when the wait is over.
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}/messages/{id}",
    operation_id = "read_message",
    tag = "messages",
    responses((status = 200, description = "The message", body = ref("Message"), content_type = "application/json")),
    extensions(("x-parameters" = json!(["wait"]))),
)]
pub(crate) async fn show(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    Wait(wait): Wait,
    caller: Caller,
) -> Result<Json<Message>, Problem> {
    let wait = wait.unwrap_or(Millis::ZERO);
    let _waits = app.wait(&caller, wait)?;
    let queue = app.shared.queues.queue(&queue);
    let message = find(&app, &queue, &id, wait).await?;
    message.map(Json).ok_or_else(|| refusal::message_not_found(queue.name(), &id))
}

/// The message, at once or when it has finished or the wait is over; `None` if it is not, or no longer, kept.
pub(super) async fn find(app: &App, queue: &Queue, id: &MessageRef, wait: Millis) -> Result<Option<Message>, Problem> {
    let message = if wait.is_zero() {
        queue.read(std::slice::from_ref(id)).await.map(|mut found| found.pop().flatten())
    } else {
        queue.read_when_finished(id, wait, &app.shared.subscriber).await
    };
    message.map_err(refusal::from_queue)
}
