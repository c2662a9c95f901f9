//! What is done with one message by hand, and what is said when its state forbids it.

use std::collections::BTreeMap;

use axum::{extract::State, http::StatusCode, response::Response};
use queue_core::{
    Changed, Headers, Message, MessageName, MessageRef, Millis, NewMessage, Priority, Queue, QueueName,
    State as MessageState, Timestamp,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json, value::RawValue};
use service::{Code, FieldError, Problem, config::Scope};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type, schema::SchemaType},
};
use utoipa_axum::routes;

use super::{
    IdPath, QueuePath,
    messages::find,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    answer::{AnswerMemory, Reserved},
    api::{
        Delay,
        message::{ChangedMessage, GoneMessage, location},
        query::NoQuery,
        reading::{self, Body},
    },
    body::{JsonBody, NoBody},
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
    let patching = &[
        Code::InvalidMessage,
        Code::MessageNotFound,
        Code::MessageDelayed,
        Code::MessageWaiting,
        Code::MessageActive,
        Code::MessageCompleted,
        Code::MessageFailed,
        Code::OutOfMemory,
    ];
    routes
        .add(MANAGE, Limit::OfRequest, patching, routes!(patch))
        .add(MANAGE, Limit::OfRequest, &[Code::MessageNotFound, Code::MessageActive], routes!(erase))
        .add(MANAGE, Limit::OfRequest, cancelling, routes!(cancel))
        .add(MANAGE, Limit::OfRequest, retrying, routes!(retry))
        .add(MANAGE, Limit::OfRequest, promoting, routes!(promote))
}

/// The error's code of a message that was cancelled.
const CANCELLED: &str = "cancelled";

/// What to change of a message: what is not named stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "what is not named is not the same as what is null")]
#[schema(examples(json!({"priority": -1, "delay": null, "headers": {"tried": "twice", "old": null}})))]
pub(crate) struct MessagePatch {
    /// The payload, as a whole: any JSON but null.
    #[serde(default, deserialize_with = "named")]
    #[schema(schema_with = anything_but_null)]
    data: Option<Box<RawValue>>,
    /// The kind of message; null: none.
    #[serde(default, deserialize_with = "named")]
    #[schema(inline, value_type = Option<MessageName>)]
    name: Option<Option<MessageName>>,
    /// How long from now until it may be handed out; null: no time.
    #[serde(default, deserialize_with = "named")]
    #[schema(inline, value_type = Option<Delay>)]
    delay: Option<Option<Delay>>,
    /// The lower goes first; null: 0.
    #[serde(default, deserialize_with = "named")]
    #[schema(inline, value_type = Option<Priority>)]
    priority: Option<Option<Priority>>,
    /// Headers to change; null takes away one, or all of them.
    #[serde(default, deserialize_with = "named")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    headers: Option<Option<BTreeMap<String, Option<String>>>>,
}

/// Reads a field for which a null is not the same as none.
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn anything_but_null() -> Object {
    let types = [Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(types)).build()
}

impl Body for MessagePatch {
    const INVALID: Code = Code::InvalidMessage;

    fn check(&self) -> Result<(), FieldError> {
        if self.data.as_ref().is_some_and(|data| data.get() == "null") {
            let detail = "null would take the data away, and a message keeps its data; give other JSON";
            return Err(FieldError { pointer: "/data".into(), detail: detail.into() });
        }
        Ok(())
    }
}

impl MessagePatch {
    fn apply(&self, message: &mut NewMessage) -> Result<(), FieldError> {
        if let Some(data) = &self.data {
            message.data.clone_from(data);
        }
        if let Some(name) = &self.name {
            message.name.clone_from(name);
        }
        if let Some(priority) = self.priority {
            message.priority = priority.unwrap_or_default();
        }
        match self.delay {
            Some(Some(delay)) => message.delay = Some(delay),
            // An instant that is past: at once.
            Some(None) => message.deliver_at = Some(Timestamp::from_millis(0)),
            None => {}
        }
        match &self.headers {
            Some(Some(changes)) => {
                let patched = merged(&message.headers, changes);
                message.headers = patched.map_err(|detail| FieldError { pointer: "/headers".into(), detail })?;
            }
            Some(None) => message.headers = Headers::default(),
            None => {}
        }
        Ok(())
    }
}

/// A text adds or replaces a header, a null takes it away.
fn merged(headers: &Headers, changes: &BTreeMap<String, Option<String>>) -> Result<Headers, String> {
    let mut merged: BTreeMap<String, Value> = changes.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
    if let Value::Object(headers) = json!(headers) {
        for (name, text) in headers {
            merged.entry(name).or_insert(text);
        }
    }
    merged.retain(|_, text| !text.is_null());
    serde_json::from_value(json!(merged)).map_err(|error| error.to_string())
}

/// Patch a message
///
/// A merge patch (RFC 7396) of a message that was never handed out. Its `data` is replaced as a whole.
#[utoipa::path(
    patch,
    path = "/v1/queues/{queue}/messages/{id}",
    operation_id = "patch_message",
    tag = "messages",
    request_body(content((MessagePatch = "application/merge-patch+json"), (MessagePatch = "application/json")), description = "What to change"),
    responses((status = 200, description = "The message as it is now", body = ChangedMessage)),
)]
pub(crate) async fn patch(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    IdPath(id): IdPath,
    _: NoQuery,
    memory: AnswerMemory,
    JsonBody(body): JsonBody,
) -> Result<Response, Problem> {
    let patch: MessagePatch = reading::body(&body)?;
    let reserved = memory.reserve(1)?;
    let queue = app.shared.queues.queue(&queue);
    let patched = queue.patch(&id, |message| patch.apply(message)).await.map_err(refusal::from_queue)?;
    let changed = patched.map_err(|error| refusal::invalid_field(Code::InvalidMessage, error))?;
    refuse_unless_changed(changed, Operation::Patch, queue.name(), &id)?;
    let message = find(&app, &queue, &id, Millis::ZERO).await?;
    answer(reserved, StatusCode::OK, message, &queue, &id)
}

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
    memory: AnswerMemory,
    _: NoBody,
) -> Result<Response, Problem> {
    // Before anything is changed.
    let reserved = memory.reserve(1)?;
    let queue = app.shared.queues.queue(&queue);
    let changed = queue.cancel(&id).await.map_err(refusal::from_queue)?;
    let message = find(&app, &queue, &id, Millis::ZERO).await?;
    let was_cancelled = |message: &Message| message.error.as_ref().is_some_and(|error| error.code == CANCELLED);
    if matches!(changed, Changed::Refused(MessageState::Failed)) && message.as_ref().is_some_and(was_cancelled) {
        return answer(reserved, StatusCode::OK, message, &queue, &id);
    }
    refuse_unless_changed(changed, Operation::Cancel, queue.name(), &id)?;
    let status = if changed == Changed::Requested { StatusCode::ACCEPTED } else { StatusCode::OK };
    answer(reserved, status, message, &queue, &id)
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
    memory: AnswerMemory,
    _: NoBody,
) -> Result<Response, Problem> {
    // Before anything is changed.
    let reserved = memory.reserve(1)?;
    let queue = app.shared.queues.queue(&queue);
    let changed = queue.retry(&id).await.map_err(refusal::from_queue)?;
    refuse_unless_changed(changed, Operation::Retry, queue.name(), &id)?;
    let message = find(&app, &queue, &id, Millis::ZERO).await?;
    answer(reserved, StatusCode::OK, message, &queue, &id)
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
    memory: AnswerMemory,
    _: NoBody,
) -> Result<Response, Problem> {
    // Before anything is changed.
    let reserved = memory.reserve(1)?;
    let queue = app.shared.queues.queue(&queue);
    let changed = queue.promote(&id).await.map_err(refusal::from_queue)?;
    refuse_unless_changed(changed, Operation::Promote, queue.name(), &id)?;
    let message = find(&app, &queue, &id, Millis::ZERO).await?;
    answer(reserved, StatusCode::OK, message, &queue, &id)
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
fn answer(
    reserved: Reserved,
    status: StatusCode,
    message: Option<Message>,
    queue: &Queue,
    id: &MessageRef,
) -> Result<Response, Problem> {
    let message = match message {
        Some(message) => ChangedMessage::Kept(Box::new(message)),
        None => ChangedMessage::Gone(GoneMessage::new(queue.name(), id)),
    };
    let mut answer = reserved.json(&message)?;
    *answer.status_mut() = status;
    Ok(answer)
}

/// What may be done with one message.
#[derive(Debug, Clone, Copy)]
enum Operation {
    Erase,
    Cancel,
    Retry,
    Promote,
    Patch,
}

/// Names the state that was found, in the code too, and the way out.
fn refuse(operation: Operation, found: MessageState, queue: &QueueName, id: &MessageRef) -> Problem {
    let rule = match operation {
        Operation::Erase => "an active message can't be erased",
        Operation::Cancel => "only what has not finished can be cancelled",
        Operation::Retry => "only a failed message can be retried",
        Operation::Promote => "only a delayed message can be promoted",
        Operation::Patch => "only a message that was never handed out can be changed",
    };
    let path = location(queue, id);
    let way_out = match (operation, found) {
        (Operation::Erase, _) => format!("cancel it, POST {path}/cancel, or let it finish, then erase it"),
        (Operation::Cancel, MessageState::Failed) => format!("erase it if nobody needs it: DELETE {path}"),
        (Operation::Cancel, _) => "its result stays; post another message to undo what it did".into(),
        (Operation::Patch, MessageState::Delayed | MessageState::Waiting | MessageState::Active) => {
            format!("cancel it, POST {path}/cancel, and post another one")
        }
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
