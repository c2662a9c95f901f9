//! The endpoints that post messages and read a message.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use queue_core::{Enqueued, Message, MessageRef, Millis, NewMessage, Queue};
use serde::Deserialize;
use service::{Code, config::Scope};
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{ndjson, registry::Routes};
use crate::{
    api::{
        True, Wait,
        batch::{BatchEntry, BatchOrLines, NewBatch, PostedBatch},
        json,
        message::{DuplicateMessage, ForgottenDuplicate, ForgottenMessage, KeptDuplicate, PostedMessage, message_path},
    },
    app::App,
    auth::endpoint::RequiredScope,
    errors::{self, Result},
    request::{
        BatchBody, JsonBody, MessagePath, NoQuery, Query, QueuePath, idempotency::IdempotencyHeader, query,
        trace::Trace,
    },
    response::Responder,
};

pub(super) fn register(routes: Routes) -> Routes {
    const ENQUEUE_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Enqueue);
    let post_errors = [
        Code::InvalidMessage,
        Code::InvalidIdempotencyKey,
        Code::IdempotencyKeyReused,
        Code::QueueExclusive,
        Code::QueueFull,
        Code::OutOfMemory,
    ];
    let post_one_errors = [&post_errors[..], &[Code::TooManyWaits]].concat();
    let post_many_errors = [&post_errors[..], &[Code::TooManyMessages, Code::Stopping]].concat();
    let read_errors = &[Code::MessageNotFound, Code::TooManyWaits];
    routes
        .tag("messages")
        .add_unlimited(ENQUEUE_SCOPE, &post_one_errors, routes!(post_message))
        .add_unlimited(ENQUEUE_SCOPE, &post_many_errors, routes!(post_messages))
        .add(RequiredScope::OnQueue(Scope::Read), read_errors, routes!(read_message))
}

/// The usual size of a response with a message in bytes, without the message's data.
const USUAL_BYTES_BESIDE_DATA: usize = 600;

/// The query of a request that waits until a message has finished: `?wait=20s`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct WaitQuery {
    /// The time to wait until the message has completed or failed. Without `wait`, the response comes at once.
    #[serde(default, deserialize_with = "query::parse_text")]
    wait: Option<Wait>,
}

impl WaitQuery {
    fn checked_wait(self, app: &App) -> Result<Option<Millis>> {
        let wait = self.wait.map(|wait| wait.check_limit(*app.limits.max_wait)).transpose();
        wait.map_err(|detail| errors::invalid_query(format_args!("wait {detail}")))
    }
}

/// Post a message
///
/// With `wait`, the response comes when the message has completed or failed, or when the wait is over.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/messages", request_body(content = NewMessage, description = "The message to post"),
    responses(
        (status = 201, description = "The message is stored", body = PostedMessage),
        (status = 200, description = "A message with the id exists already, or an earlier request had the same Idempotency-Key; nothing was changed", body = DuplicateMessage),
    ),
    params(WaitQuery, IdempotencyHeader),
)]
async fn post_message(
    QueuePath { app, queue }: QueuePath,
    Query(query): Query<WaitQuery>,
    responder: Responder,
    key: IdempotencyHeader,
    trace: Trace,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    let wait = query.checked_wait(&app)?;
    let mut message: NewMessage = json::parse_body(&body)?;
    trace.add_to_headers_of(&mut message);
    let _wait_share = app.count_waiting_request(responder.caller.key(), wait.unwrap_or(Millis::ZERO))?;
    let enqueue_outcome = match key {
        // Messages that are posted at the same time without an Idempotency-Key share one call to Redis; a request with a key
        // makes its own call. The futures of rarer cases (an Idempotency-Key, a wait, a duplicate) are boxed, so that all
        // other requests need less memory.
        IdempotencyHeader(None) => queue.post(message).await.map_err(errors::enqueue_error)?,
        key => {
            let enqueue_outcomes = Box::pin(key.enqueue(&queue, vec![message], "message", &body)).await?;
            enqueue_outcomes.into_iter().next().ok_or(errors::INTERNAL_ERROR)?
        }
    };
    let duplicate = !matches!(enqueue_outcome, Enqueued::Created(_));
    let status = if duplicate { StatusCode::OK } else { StatusCode::CREATED };
    let id = enqueue_outcome.id().clone();
    let stored_message = match enqueue_outcome {
        Enqueued::Created(message) => match wait {
            None => Some(message),
            // The message is stored, so an error of Redis while the request waits for the end of the message only ends that
            // wait.
            Some(wait) => Box::pin(find_message(&app, &queue, &id, wait)).await.unwrap_or(Some(message)),
        },
        Enqueued::Duplicate(..) => Box::pin(find_message(&app, &queue, &id, wait.unwrap_or(Millis::ZERO))).await?,
        Enqueued::Forgotten(_) => None,
    };
    let Some(message) = stored_message else {
        let message = ForgottenMessage::new(queue.name(), &id);
        return Ok(if duplicate {
            let forgotten_duplicate = DuplicateMessage::Forgotten(ForgottenDuplicate { message, duplicate: True });
            (status, Json(forgotten_duplicate)).into_response()
        } else {
            (status, Json(message)).into_response()
        });
    };
    let expected_bytes = message.data.get().len() + USUAL_BYTES_BESIDE_DATA;
    let mut response = if duplicate {
        responder.respond_to_read(
            &DuplicateMessage::Kept(Box::new(KeptDuplicate { message, duplicate: True })),
            expected_bytes,
        )?
    } else {
        // A `Message` serializes like a `PostedMessage` without `duplicate`, but avoids the copy that `flatten` makes.
        responder.respond_to_change(&message, expected_bytes)?
    };
    *response.status_mut() = status;
    let location = message_path(queue.name(), &id).try_into().map_err(|_| errors::INTERNAL_ERROR)?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Post many messages
///
/// A JSON body has 1 to 1,000 messages, of which all or none are stored. An NDJSON body has any number of messages, which are
/// stored while they arrive. Stored messages stay stored, even if the client disconnects or the server can't continue.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/messages/batch",
    request_body(content((NewBatch = "application/json"), (String = "application/x-ndjson", example = "{\"data\":1}\n{\"data\":2,\"id\":\"order-43\"}\n")), description = "The messages to post. An NDJSON body has any number of lines, each with one NewMessage; empty lines are skipped"),
    responses(
        (status = 201, description = "All messages are stored; the response has an entry for each message", body = PostedBatch),
        (status = 200, description = "Each message of a JSON body existed already; for an NDJSON body, the outcome of its lines", body = BatchOrLines),
    ),
    params(IdempotencyHeader),
)]
async fn post_messages(
    QueuePath { app, queue }: QueuePath,
    _: NoQuery,
    responder: Responder,
    key: IdempotencyHeader,
    trace: Trace,
    body: BatchBody,
) -> Result<Response> {
    let body = match (body, &key) {
        (BatchBody::Json(body), _) => body,
        (BatchBody::Lines(..), IdempotencyHeader(Some(_))) => return Err(errors::NO_IDEMPOTENCY_KEY_FOR_LINES.into()),
        (BatchBody::Lines(body, share), IdempotencyHeader(None)) => {
            return ndjson::enqueue(&app, &queue, trace, body, share).await;
        }
    };
    let NewBatch { mut messages } = json::parse_body(&body)?;
    if messages.is_empty() || messages.len() > Queue::MAX_MESSAGES {
        return Err(errors::too_many_messages(messages.len()));
    }
    for message in &mut messages {
        trace.add_to_headers_of(message);
    }
    let enqueue_outcomes = key.enqueue(&queue, messages, "batch", &body).await?;
    let messages: Vec<BatchEntry> = enqueue_outcomes.iter().map(BatchEntry::from).collect();
    let nothing_new = messages.iter().all(|entry| entry.duplicate);
    let mut response = responder.respond_to_change(&BatchOrLines::Batch(PostedBatch { messages }), 0)?;
    *response.status_mut() = if nothing_new { StatusCode::OK } else { StatusCode::CREATED };
    Ok(response)
}

/// Read a message
///
/// With `wait`, the response comes when the message has completed or failed, or when the wait is over.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/messages/{id}",
    responses((status = 200, description = "The message that the path names", body = Message)), params(WaitQuery),
)]
async fn read_message(
    MessagePath { app, queue, id }: MessagePath,
    Query(query): Query<WaitQuery>,
    responder: Responder,
) -> Result<Response> {
    let wait = query.checked_wait(&app)?.unwrap_or(Millis::ZERO);
    let _wait_share = app.count_waiting_request(responder.caller.key(), wait)?;
    let message = find_message(&app, &queue, &id, wait).await?;
    let message = message.ok_or_else(|| errors::message_not_found(queue.name(), &id))?;
    responder.respond_to_read(&message, message.data.get().len() + USUAL_BYTES_BESIDE_DATA)
}

/// Reads a message. If `wait` is not zero, the function returns when the message has finished or the wait is over. Returns
/// `None` if the message does not exist or is no longer kept.
pub(super) async fn find_message(app: &App, queue: &Queue, id: &MessageRef, wait: Millis) -> Result<Option<Message>> {
    let message = if wait.is_zero() {
        queue.read(std::slice::from_ref(id)).await.map(|mut found| found.pop().flatten())
    } else {
        queue.read_when_finished(id, wait, &app.subscriber).await
    };
    message.map_err(errors::queue_error)
}
