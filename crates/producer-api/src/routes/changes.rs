//! What is done with one message by hand, and what is said when its state forbids it.

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use queue_core::{Changed, Message, MessageRef, Millis, Queue, QueueName, State as MessageState};
use service::{Code, Problem, config::Scope};
use utoipa_axum::routes;

use super::{
    IdPath, QueuePath,
    messages::find,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    api::{
        message::{ChangedMessage, GoneMessage, location},
        query::NoQuery,
    },
    body::NoBody,
    refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    const MANAGE: Needs = Needs::OnQueue(Scope::Manage);
    let cancelling = &[Code::MessageNotFound, Code::MessageCompleted, Code::MessageFailed];
    let retrying = &[
        Code::MessageNotFound,
        Code::MessageHeld,
        Code::MessageDelayed,
        Code::MessageWaiting,
        Code::MessageActive,
        Code::MessageCompleted,
    ];
    let promoting = &[
        Code::MessageNotFound,
        Code::MessageHeld,
        Code::MessageWaiting,
        Code::MessageActive,
        Code::MessageCompleted,
        Code::MessageFailed,
    ];
    routes
        .add(MANAGE, Limit::OfRequest, &[Code::MessageNotFound, Code::MessageActive], routes!(erase))
        .add(MANAGE, Limit::OfRequest, cancelling, routes!(cancel))
        .add(MANAGE, Limit::OfRequest, retrying, routes!(retry))
        .add(MANAGE, Limit::OfRequest, promoting, routes!(promote))
}

/// The error's code of a message that was cancelled.
const CANCELLED: &str = "cancelled";

/// Erase a message
///
/// It is forgotten, with all that belongs to it.
#[utoipa::path(
    delete,
    path = "/v1/queues/{queue}/messages/{id}",
    operation_id = "erase_message",
    tag = "messages",
    responses((status = 204, description = "It is gone")),
)]
pub(crate) async fn erase(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    let queue = app.shared.queues.queue(&queue);
    let changed = queue.erase(&id).await.map_err(refusal::from_queue)?;
    refuse_unless_changed(changed, Operation::Erase, queue.name(), &id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancel a message
///
/// What has not started fails with the error `cancelled`; the consumer of an active one is told to stop.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/messages/{id}/cancel",
    operation_id = "cancel_message",
    tag = "messages",
    responses(
        (status = 200, description = "It is cancelled", body = ChangedMessage),
        (status = 202, description = "It is active, and its consumer is told", body = ChangedMessage),
    ),
)]
pub(crate) async fn cancel(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    _: NoQuery,
    _: NoBody,
) -> Result<Response, Problem> {
    let queue = app.shared.queues.queue(&queue);
    let changed = queue.cancel(&id).await.map_err(refusal::from_queue)?;
    let message = find(&app, &queue, &id, Millis::ZERO).await?;
    let was_cancelled = |message: &Message| message.error.as_ref().is_some_and(|error| error.code == CANCELLED);
    if matches!(changed, Changed::Refused(MessageState::Failed)) && message.as_ref().is_some_and(was_cancelled) {
        return Ok(answer(StatusCode::OK, message, &queue, &id));
    }
    refuse_unless_changed(changed, Operation::Cancel, queue.name(), &id)?;
    let status = if changed == Changed::Requested { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok(answer(status, message, &queue, &id))
}

/// Retry a failed message
///
/// It becomes ready at once, with its attempts anew and without a `ttl`.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/messages/{id}/retry",
    operation_id = "retry_message",
    tag = "messages",
    responses((status = 200, description = "It is ready", body = ChangedMessage)),
)]
pub(crate) async fn retry(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    _: NoQuery,
    _: NoBody,
) -> Result<Response, Problem> {
    let queue = app.shared.queues.queue(&queue);
    let changed = queue.retry(&id).await.map_err(refusal::from_queue)?;
    refuse_unless_changed(changed, Operation::Retry, queue.name(), &id)?;
    let message = find(&app, &queue, &id, Millis::ZERO).await?;
    Ok(answer(StatusCode::OK, message, &queue, &id))
}

/// Promote a delayed message
///
/// It becomes ready at once, also when it backs off.
#[utoipa::path(
    post,
    path = "/v1/queues/{queue}/messages/{id}/promote",
    operation_id = "promote_message",
    tag = "messages",
    responses((status = 200, description = "It is ready", body = ChangedMessage)),
)]
pub(crate) async fn promote(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    _: NoQuery,
    _: NoBody,
) -> Result<Response, Problem> {
    let queue = app.shared.queues.queue(&queue);
    let changed = queue.promote(&id).await.map_err(refusal::from_queue)?;
    refuse_unless_changed(changed, Operation::Promote, queue.name(), &id)?;
    let message = find(&app, &queue, &id, Millis::ZERO).await?;
    Ok(answer(StatusCode::OK, message, &queue, &id))
}

fn refuse_unless_changed(
    changed: Changed,
    operation: Operation,
    queue: &QueueName,
    id: &MessageRef,
) -> Result<(), Problem> {
    match changed {
        Changed::Done | Changed::Requested => Ok(()),
        Changed::Refused(found) => Err(refuse(operation, found, queue, id)),
        Changed::Unknown => Err(refusal::message_not_found(queue, id)),
    }
}

/// The message as it is now. It may have gone since: a queue can keep none that has finished.
fn answer(status: StatusCode, message: Option<Message>, queue: &Queue, id: &MessageRef) -> Response {
    let message = match message {
        Some(message) => ChangedMessage::Kept(Box::new(message)),
        None => ChangedMessage::Gone(GoneMessage::new(queue.name(), id)),
    };
    (status, Json(message)).into_response()
}

/// What may be done with one message.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Erase,
    Cancel,
    Retry,
    Promote,
}

/// Names the state that was found, in the code too, and the way out.
fn refuse(operation: Operation, found: MessageState, queue: &QueueName, id: &MessageRef) -> Problem {
    let rule = match operation {
        Operation::Erase => "an active message can't be erased",
        Operation::Cancel => "only what has not finished can be cancelled",
        Operation::Retry => "only a failed message can be retried",
        Operation::Promote => "only a delayed message can be promoted",
    };
    let path = location(queue, id);
    let way_out = match (operation, found) {
        (Operation::Erase, _) => format!("cancel it, POST {path}/cancel, or let it finish, then erase it"),
        (Operation::Cancel, MessageState::Failed) => format!("erase it if nobody needs it: DELETE {path}"),
        (Operation::Cancel, _) => "its result stays; post another message to undo what it did".into(),
        (Operation::Promote, MessageState::Failed) => format!("retry it: POST {path}/retry"),
        (_, MessageState::Held) => {
            format!("send the signal that it is held for: POST /v1/queues/{queue}/signals/{{its \"hold\"}}")
        }
        (_, MessageState::Delayed) => format!("promote it: POST {path}/promote"),
        (_, MessageState::Waiting) => "it is handed out without that, as soon as a consumer is free".into(),
        (_, MessageState::Active) => format!("wait for what comes of it: GET {path}?wait=20s"),
        (_, MessageState::Completed | MessageState::Failed) => match id {
            MessageRef::Id(_) => "to do the work once more, post its data as a new message".into(),
            // The id is taken for as long as the message stands: posted again with it, the message would be a duplicate.
            MessageRef::Own(_) => format!(
                "to do the work once more, post it as a new message with another id, or erase this one, DELETE {path}, and post \
                 it again"
            ),
        },
    };
    let detail = format!("message {id} is {}, and {rule}; {way_out}", found.as_str());
    Problem::new(code(found), detail)
}

fn code(found: MessageState) -> Code {
    match found {
        MessageState::Held => Code::MessageHeld,
        MessageState::Delayed => Code::MessageDelayed,
        MessageState::Waiting => Code::MessageWaiting,
        MessageState::Active => Code::MessageActive,
        MessageState::Completed => Code::MessageCompleted,
        MessageState::Failed => Code::MessageFailed,
    }
}
