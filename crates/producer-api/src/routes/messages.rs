//! Messages: posting and reading them.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use queue_core::{Enqueued, Message, MessageRef, Millis, NewMessage, Queue};
use serde::Deserialize;
use service::{Code, Problem, config::Scope};
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{
    IdPath, QueuePath, ndjson,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    answer::AnswerMemory,
    api::{
        True, Wait,
        batch::{BatchEntry, BatchOrLines, NewBatch, PostedBatch},
        message::{DuplicateMessage, GoneDuplicate, GoneMessage, KeptDuplicate, PostedMessage, location},
        query::{self, NoQuery, Query},
        reading,
    },
    auth::Caller,
    body::{BatchBody, JsonBody},
    idempotency::{Key, Kind},
    refusal,
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

/// `?wait=20s`
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct WaitQuery {
    /// Answer when the message is completed or failed, or when this time is over. Without it: at once.
    #[serde(default, deserialize_with = "query::text")]
    wait: Option<Wait>,
}

impl WaitQuery {
    fn wait(self, app: &App) -> Result<Option<Millis>, Problem> {
        let wait = self.wait.map(|wait| wait.within(app)).transpose();
        wait.map_err(|detail| refusal::invalid_query(format_args!("wait {detail}")))
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
    request_body(content = NewMessage, description = "The message"),
    responses(
        (status = 201, description = "It is stored", body = PostedMessage),
        (status = 200, description = "One with that id stood already, or the request was made before with the same Idempotency-Key; nothing was changed", body = DuplicateMessage),
    ),
    params(WaitQuery, Key),
)]
pub(crate) async fn create(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    Query(query): Query<WaitQuery>,
    memory: AnswerMemory,
    key: Key,
    trace: Trace,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let wait = query.wait(&app)?;
    let mut message: NewMessage = reading::body(&body)?;
    trace.mark(&mut message);
    let _waits = app.wait(memory.caller(), wait.unwrap_or(Millis::ZERO))?;
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
        let message = GoneMessage::new(queue.name(), &id);
        return Ok(if duplicate {
            let gone = DuplicateMessage::Gone(GoneDuplicate { message, duplicate: True });
            (status, Json(gone)).into_response()
        } else {
            (status, Json(message)).into_response()
        });
    };
    let about = message.data.get().len() + BESIDE_THE_DATA;
    let mut answer = if duplicate {
        memory.read(&DuplicateMessage::Kept(Box::new(KeptDuplicate { message, duplicate: True })), about)?
    } else {
        // A `PostedMessage`, without the detour by which one object is put into another.
        memory.done(&message, about)?
    };
    *answer.status_mut() = status;
    let location = location(queue.name(), &id).try_into().map_err(|_| refusal::internal())?;
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
    request_body(content((NewBatch = "application/json"), (String = "application/x-ndjson", example = "{\"data\":1}\n{\"data\":2,\"id\":\"order-43\"}\n")), description = "Many messages; as NDJSON a NewMessage a line, as many as there are, and empty lines are passed over"),
    responses(
        (status = 201, description = "All are stored; an entry for each", body = PostedBatch),
        (status = 200, description = "Each stood already; or what came of the lines", body = BatchOrLines),
    ),
    params(Key),
)]
pub(crate) async fn create_batch(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    _: NoQuery,
    memory: AnswerMemory,
    key: Key,
    trace: Trace,
    body: BatchBody,
) -> Result<Response, Problem> {
    let queue = app.shared.queues.queue(&queue);
    let body = match (body, &key) {
        (BatchBody::Json(body), _) => body,
        (BatchBody::Lines(..), Key(Some(_))) => return Err(refusal::no_key_for_lines()),
        (BatchBody::Lines(body, share), Key(None)) => return ndjson::enqueue(&app, &queue, trace, body, share).await,
    };
    let NewBatch { mut messages } = reading::body(&body)?;
    if messages.is_empty() || messages.len() > Queue::MAX_MESSAGES {
        return Err(refusal::too_many_messages(messages.len()));
    }
    for message in &mut messages {
        trace.mark(message);
    }
    let enqueued = key.enqueue(&queue, messages, Kind::Batch, &body).await?;
    let messages: Vec<BatchEntry> = enqueued.iter().map(BatchEntry::from).collect();
    let nothing_new = messages.iter().all(|entry| entry.duplicate);
    let status = if nothing_new { StatusCode::OK } else { StatusCode::CREATED };
    let mut answer = memory.done(&BatchOrLines::Batch(PostedBatch { messages }), 0)?;
    *answer.status_mut() = status;
    Ok(answer)
}

/// Read a message
///
/// With `wait` it is answered when the message is completed or failed, or when the wait is over.
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}/messages/{id}",
    operation_id = "read_message",
    tag = "messages",
    responses((status = 200, description = "The message", body = Message)),
    params(WaitQuery),
)]
pub(crate) async fn show(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    Query(query): Query<WaitQuery>,
    caller: Caller,
    memory: AnswerMemory,
) -> Result<Response, Problem> {
    let wait = query.wait(&app)?.unwrap_or(Millis::ZERO);
    let _waits = app.wait(&caller, wait)?;
    let queue = app.shared.queues.queue(&queue);
    let message = find(&app, &queue, &id, wait).await?;
    let message = message.ok_or_else(|| refusal::message_not_found(queue.name(), &id))?;
    memory.read(&message, message.data.get().len() + BESIDE_THE_DATA)
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
