//! Merge patches (RFC 7396) of messages that were never leased.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::value::RawValue;
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type, schema::SchemaType},
};

use crate::{
    json::null_as_some_none,
    message::new::{Delay, Headers, NewMessage, Priority},
    names::MessageName,
};

/// Changes of a message. An absent member leaves the message's value unchanged.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"priority": -1, "delay": null, "headers": {"tried": "twice", "old": null}})))]
pub struct MessagePatch {
    /// The new data, which replaces the old data as a whole: any JSON but null.
    #[serde(default, deserialize_with = "anything_but_null")]
    #[schema(schema_with = anything_but_null_schema)]
    pub data: Option<Box<RawValue>>,
    /// The new name, which states the kind of message; null removes the name.
    #[serde(default, deserialize_with = "null_as_some_none")]
    #[schema(inline, value_type = Option<MessageName>)]
    pub name: Option<Option<MessageName>>,
    /// The new delay, which counts from now; null removes the delay.
    #[serde(default, deserialize_with = "null_as_some_none")]
    #[schema(inline, value_type = Option<Delay>)]
    pub delay: Option<Option<Delay>>,
    /// The new priority: a message with a lower number is leased first; null stands for 0.
    #[serde(default, deserialize_with = "null_as_some_none")]
    #[schema(inline, value_type = Option<Priority>)]
    pub priority: Option<Option<Priority>>,
    /// The headers to change. Null as the value of a header removes that header; null for `headers` removes all headers.
    #[serde(default, deserialize_with = "null_as_some_none")]
    #[schema(value_type = Option<BTreeMap<String, Option<String>>>)]
    pub headers: Option<Option<BTreeMap<String, Option<String>>>>,
}

fn anything_but_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let data: Box<RawValue> = Box::deserialize(deserializer)?;
    if data.get() == "null" {
        return Err(D::Error::custom("null would remove the data, but a message keeps its data; give other JSON"));
    }
    Ok(Some(data))
}

fn anything_but_null_schema() -> Object {
    let permitted_types = [Type::Object, Type::Array, Type::String, Type::Number, Type::Boolean];
    ObjectBuilder::new().schema_type(SchemaType::from_iter(permitted_types)).build()
}

impl MessagePatch {
    /// Applies the patch to a message, except for the due time, which `patch.lua` computes.
    ///
    /// # Errors
    ///
    /// Returns the field whose new value is invalid, and the reason.
    pub(crate) fn apply(&self, message: &mut NewMessage) -> Result<(), (&'static str, &'static str)> {
        // The pattern has no `..`, so the compiler reports a field that is not applied.
        let Self { data, name, delay: _, priority, headers } = self;
        if let Some(data) = data {
            message.data.clone_from(data);
        }
        if let Some(name) = name {
            message.name.clone_from(name);
        }
        if let Some(priority) = priority {
            message.priority = priority.unwrap_or_default();
        }
        match headers {
            Some(Some(changes)) => {
                message.headers = message.headers.with_changes(changes).map_err(|detail| ("headers", detail))?;
            }
            Some(None) => message.headers = Headers::default(),
            None => {}
        }
        Ok(())
    }
}
