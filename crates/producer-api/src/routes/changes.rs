//! The operations on one message: patch, erase, cancel, retry and promote, and the errors when the message's state forbids an
//! operation.

use axum::{http::StatusCode, response::Response};
use queue_core::{Changed, Message, MessagePatch, MessageRef, Millis, QueueName, State};
use service::{Code, Problem, config::Scope};
use utoipa_axum::routes;

use super::{messages::find_message, registry::Routes};
use crate::{
    api::{
        json,
        message::{ChangedMessage, ForgottenMessage, field_error, message_path},
    },
    auth::endpoint::RequiredScope,
    errors::{self, Result},
    request::{JsonBody, MessagePath, NoBody, NoQuery},
    response::{ReservedMemory, Responder},
};

pub(super) fn register(routes: Routes) -> Routes {
    const MANAGE_SCOPE: RequiredScope = RequiredScope::OnQueue(Scope::Manage);
    let patch_errors = [&[Code::InvalidMessage, Code::OutOfMemory], &*Operation::Patch.error_codes()].concat();
    routes
        .tag("messages")
        .add(MANAGE_SCOPE, &patch_errors, routes!(patch_message))
        .add(MANAGE_SCOPE, &Operation::Erase.error_codes(), routes!(erase_message))
        .add(MANAGE_SCOPE, &Operation::Cancel.error_codes(), routes!(cancel_message))
        .add(MANAGE_SCOPE, &Operation::Retry.error_codes(), routes!(retry_message))
        .add(MANAGE_SCOPE, &Operation::Promote.error_codes(), routes!(promote_message))
}

/// The error code of a message that was cancelled.
const CANCELLED_CODE: &str = "cancelled";

/// Patch a message
///
/// Applies a merge patch (RFC 7396) to a message that was never leased. The `data` of the message is replaced as a whole.
#[utoipa::path(
    patch, path = "/v1/queues/{queue}/messages/{id}",
    request_body(content((MessagePatch = "application/merge-patch+json"), (MessagePatch = "application/json")), description = "The changes of the message"),
    responses((status = 200, description = "The message after the change", body = ChangedMessage)),
)]
async fn patch_message(
    path: MessagePath,
    _: NoQuery,
    responder: Responder,
    JsonBody(body): JsonBody,
) -> Result<Response> {
    let message_patch: MessagePatch = json::parse_body(&body)?;
    let memory_for_response = responder.reserve(1)?;
    let patch_result = path.queue.patch(&path.id, &message_patch).await.map_err(errors::queue_error)?;
    let change_outcome =
        patch_result.map_err(|invalid| errors::invalid_field(Code::InvalidMessage, field_error(invalid)))?;
    respond(path, Operation::Patch, change_outcome, memory_for_response).await
}

/// Erase a message
///
/// The message is deleted with its result, its error and its other data.
#[utoipa::path(
    delete, path = "/v1/queues/{queue}/messages/{id}",
    responses((status = 204, description = "The message is deleted")),
)]
async fn erase_message(MessagePath { queue, id, .. }: MessagePath, _: NoQuery) -> Result<StatusCode> {
    let change_outcome = queue.erase(&id).await.map_err(errors::queue_error)?;
    Operation::Erase.check_outcome(change_outcome, queue.name(), &id)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Cancel a message
///
/// A message that has not started fails with the error `cancelled`; the consumer of an active message is told to stop.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/messages/{id}/cancel",
    responses(
        (status = 200, description = "The message is cancelled", body = ChangedMessage),
        (status = 202, description = "The message is active, and its consumer is told to stop", body = ChangedMessage),
    ),
)]
async fn cancel_message(path: MessagePath, _: NoQuery, responder: Responder, _: NoBody) -> Result<Response> {
    let memory_for_response = responder.reserve(1)?;
    let change_outcome = path.queue.cancel(&path.id).await;
    respond(path, Operation::Cancel, change_outcome.map_err(errors::queue_error)?, memory_for_response).await
}

/// Retry a failed message
///
/// The failed message becomes ready at once. A retried message has all its attempts again, and no `ttl`.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/messages/{id}/retry",
    responses((status = 200, description = "The message is ready", body = ChangedMessage)),
)]
async fn retry_message(path: MessagePath, _: NoQuery, responder: Responder, _: NoBody) -> Result<Response> {
    let memory_for_response = responder.reserve(1)?;
    let change_outcome = path.queue.retry(&path.id).await;
    respond(path, Operation::Retry, change_outcome.map_err(errors::queue_error)?, memory_for_response).await
}

/// Promote a delayed message
///
/// The delayed message becomes ready at once, even during its back-off.
#[utoipa::path(
    post, path = "/v1/queues/{queue}/messages/{id}/promote",
    responses((status = 200, description = "The message is ready", body = ChangedMessage)),
)]
async fn promote_message(path: MessagePath, _: NoQuery, responder: Responder, _: NoBody) -> Result<Response> {
    let memory_for_response = responder.reserve(1)?;
    let change_outcome = path.queue.promote(&path.id).await;
    respond(path, Operation::Promote, change_outcome.map_err(errors::queue_error)?, memory_for_response).await
}

/// Responds with the changed message, or refuses an operation that the message's state forbids. The caller has reserved the
/// memory for the response before the change.
async fn respond(
    path: MessagePath,
    operation: Operation,
    changed: Changed,
    reserved: ReservedMemory,
) -> Result<Response> {
    let MessagePath { app, queue, id } = path;
    let is_failed = changed == Changed::Refused(State::Failed) && operation == Operation::Cancel;
    if !is_failed {
        operation.check_outcome(changed, queue.name(), &id)?;
    }
    let message = find_message(&app, &queue, &id, Millis::ZERO).await?;
    // A repeated cancel gets the same response as the first.
    let was_cancelled = |message: &Message| message.error.as_ref().is_some_and(|error| error.code == CANCELLED_CODE);
    if is_failed && !message.as_ref().is_some_and(was_cancelled) {
        operation.check_outcome(changed, queue.name(), &id)?;
    }
    // The message may be forgotten already, because the queue may keep no finished messages.
    let message = message.map_or_else(
        || ChangedMessage::Forgotten(ForgottenMessage::new(queue.name(), &id)),
        |message| ChangedMessage::Kept(Box::new(message)),
    );
    let mut response = reserved.json_response(&message)?;
    if changed == Changed::Requested {
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

/// An operation on one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Erase,
    Cancel,
    Retry,
    Promote,
    Patch,
}

impl Operation {
    fn error_codes(self) -> Vec<Code> {
        let forbidden_states: &[State] = match self {
            Self::Erase => &[State::Active],
            Self::Cancel => &[State::Completed, State::Failed],
            Self::Retry => &[State::Held, State::Delayed, State::Waiting, State::Active, State::Completed],
            Self::Promote => &[State::Held, State::Waiting, State::Active, State::Completed, State::Failed],
            Self::Patch => &[State::Delayed, State::Waiting, State::Active, State::Completed, State::Failed],
        };
        let exclusive = matches!(self, Self::Retry).then_some(Code::QueueExclusive);
        forbidden_states.iter().copied().map(code_of_state).chain([Code::MessageNotFound]).chain(exclusive).collect()
    }

    /// Returns an error unless the operation changed the message.
    fn check_outcome(self, changed: Changed, queue: &QueueName, id: &MessageRef) -> Result<()> {
        match changed {
            Changed::Done | Changed::Requested => Ok(()),
            Changed::Refused(state) => Err(self.refusal(state, queue, id)),
            Changed::Unknown => Err(errors::message_not_found(queue, id)),
        }
    }

    /// Returns the error response to an operation that the message's state forbids. The error text names the state and says
    /// what to do.
    fn refusal(self, state: State, queue: &QueueName, id: &MessageRef) -> Problem {
        let rule = match self {
            Self::Erase => "an active message can't be erased",
            Self::Cancel => "only a message that has not finished can be cancelled",
            Self::Retry => "only a failed message can be retried",
            Self::Promote => "only a delayed message can be promoted",
            Self::Patch => "only a message that was never handed out can be changed",
        };
        let path = message_path(queue, id);
        let advice = match (self, state) {
            (Self::Erase, _) => format!("cancel it, POST {path}/cancel, or let it finish, then erase it"),
            (Self::Cancel, State::Failed) => format!("erase it if nobody needs it: DELETE {path}"),
            (Self::Cancel, _) => "its result stays; post another message to undo what it did".into(),
            (Self::Patch, State::Held | State::Delayed | State::Waiting | State::Active) => {
                format!("cancel it, POST {path}/cancel, and post another one")
            }
            (Self::Promote, State::Failed) => format!("retry it: POST {path}/retry"),
            (_, State::Held) => {
                format!("send the signal that it is held for: POST /v1/queues/{queue}/signals/{{its \"hold\"}}")
            }
            (_, State::Delayed) => format!("promote it: POST {path}/promote"),
            (_, State::Waiting) => "it is handed out without that, as soon as a consumer is free".into(),
            (_, State::Active) => format!("wait until it has finished: GET {path}?wait=20s"),
            (_, State::Completed | State::Failed) => match id {
                MessageRef::Id(_) => "to do the work once more, post its data as a new message".into(),
                // While the finished message exists, a new message with the id of the finished message would be a duplicate.
                MessageRef::Own(_) => format!(
                    "to do the work once more, post it as a new message with another id, or erase this one, DELETE {path}, and post \
                     it again"
                ),
            },
        };
        Problem::new(code_of_state(state), format!("message {id} is {}, and {rule}; {advice}", state.as_str()))
    }
}

/// Returns the error code for the state of a message, such as `message_failed`.
fn code_of_state(state: State) -> Code {
    let is_for_state = |code: &Code| code.as_str().strip_prefix("message_") == Some(state.as_str());
    Code::ALL.iter().copied().find(is_for_state).unwrap_or(Code::Internal)
}
