//! Patches of messages: JSON merge patches (RFC 7396) of messages that were never handed out.

use std::collections::BTreeMap;

use queue_core::{Headers, MessageName, NewMessage, Timestamp};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json, value::RawValue};
use service::{Code, FieldError};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type, schema::SchemaType},
};

use super::{Delay, Priority, json::Body};

/// Changes of a message. An absent member leaves the message's value unchanged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "an absent member is not the same as one that is null")]
#[schema(examples(json!({"priority": -1, "delay": null, "headers": {"tried": "twice", "old": null}})))]
pub(crate) struct MessagePatch {
    /// The new data, which replaces the old data as a whole: any JSON but null.
    #[serde(default, deserialize_with = "keep_null")]
    #[schema(schema_with = anything_but_null)]
    data: Option<Box<RawValue>>,
    /// The new name, which states the kind of message; null removes the name.
    #[serde(default, deserialize_with = "keep_null")]
    #[schema(inline, value_type = Option<MessageName>)]
    name: Option<Option<MessageName>>,
    /// How long from now until the message may be handed out; null: no delay.
    #[serde(default, deserialize_with = "keep_null")]
    #[schema(inline, value_type = Option<Delay>)]
    delay: Option<Option<Delay>>,
    /// The new priority: the message with the lower number goes first; null: 0.
    #[serde(default, deserialize_with = "keep_null")]
    #[schema(inline, value_type = Option<Priority>)]
    priority: Option<Option<Priority>>,
    /// The headers to change. Null as the value of a header removes that header; null for `headers` removes all headers.
    #[serde(default, deserialize_with = "keep_null")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    headers: Option<Option<BTreeMap<String, Option<String>>>>,
}

/// Deserializes a field in which null differs from absent: null becomes `Some(None)`.
fn keep_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
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
            let detail = "null would remove the data, but a message keeps its data; give other JSON";
            return Err(FieldError { pointer: "/data".into(), detail: detail.into() });
        }
        Ok(())
    }
}

impl MessagePatch {
    pub(crate) fn apply(&self, message: &mut NewMessage) -> Result<(), FieldError> {
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
            // An instant in the past makes the message due at once.
            Some(None) => message.deliver_at = Some(Timestamp::from_millis(0)),
            None => {}
        }
        match &self.headers {
            Some(Some(changes)) => {
                let patched = merge(&message.headers, changes);
                message.headers = patched.map_err(|detail| FieldError { pointer: "/headers".into(), detail })?;
            }
            Some(None) => message.headers = Headers::default(),
            None => {}
        }
        Ok(())
    }
}

/// The headers with the changes: a text adds or replaces a header, null removes it.
fn merge(headers: &Headers, changes: &BTreeMap<String, Option<String>>) -> Result<Headers, String> {
    let mut merged: BTreeMap<String, Value> = changes.iter().map(|(name, text)| (name.clone(), json!(text))).collect();
    if let Value::Object(headers) = json!(headers) {
        for (name, text) in headers {
            merged.entry(name).or_insert(text);
        }
    }
    merged.retain(|_, text| !text.is_null());
    serde_json::from_value(json!(merged)).map_err(|error| error.to_string())
}
