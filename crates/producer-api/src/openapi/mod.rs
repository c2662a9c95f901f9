//! The description of the interface, `OpenAPI` 3.1: what stands beside the handlers, completed by what is said once.
//!
//! Beside a handler stands what is its own: its path, and what it takes and answers. The routes are registered with what a key
//! needs and with the codes of refusals. Here each gets what follows from that: the parameters of its path, the refusals of every request with a body, a query or a key,
//! the headers of every answer, the schemas. So a route can't forget them, and the handlers stay readable.

mod links;
mod operation;

#[cfg(test)]
mod agreement;

use queue_core::{Millis, NewMessage};
use serde_json::{Map, Value, json};
use service::Problem;
use utoipa::{PartialSchema, ToSchema, openapi::OpenApi};

use crate::{
    api::{
        reading::{Body, Given},
        settlement::Fail,
    },
    routes::Endpoints,
};
use operation::Operation;

/// What of the configuration shows in the description.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Instance {
    /// The longest wait of a request.
    pub(crate) max_wait: Millis,
    /// Whether requests need a key.
    pub(crate) access: Access,
}

/// Who may use this instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Whoever reaches it.
    Open,
    /// Who has a key.
    Keys,
}

const DESCRIPTION: &str = "\
A message queue over HTTP. Durations go in as whole milliseconds or as a text with the units ms, s, m, h, d, w (`\"1500ms\"`, \
`\"2s\"`, `\"1h 30m\"`) and come out as milliseconds; an optional field that is null counts as absent; instants are RFC 3339 in UTC, by Redis's clock. A field or a query parameter that is not known is \
refused. Every refusal is `application/problem+json` with a `code` that a program can match and a `detail` that names a way \
out. What the schemas can't say: all `headers` of a message have together at most 4096 bytes.";

/// Completes what the routes say of themselves.
pub(crate) fn describe(routes: &OpenApi, endpoints: &Endpoints, instance: Instance) -> Value {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    document["info"] = json!({
        "title": "Drover",
        "version": env!("CARGO_PKG_VERSION"),
        "description": DESCRIPTION,
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/", "description": "this server"}]);
    document["tags"] = json!([
        {"name": "messages", "description": "Post, read and change messages"},
        {"name": "leases", "description": "Consume: receive messages, and end or extend their leases"},
        {"name": "events", "description": "Listen to what happens"},
        {"name": "queues", "description": "How queues stand, their settings, and what is done to all of a queue"},
        {"name": "service", "description": "Health, figures, this description. They need no key"},
    ]);
    let mut schemas = Vec::from([(Problem::name().into_owned(), Problem::schema())]);
    Problem::schemas(&mut schemas);
    for (name, schema) in schemas {
        document["components"]["schemas"][name] = json!(schema);
    }
    document["components"]["schemas"]["Wait"] = json!(Millis::schema_within(Millis::ZERO, instance.max_wait));
    document["components"]["headers"] = headers();
    for (name, both) in [(NewMessage::name(), NewMessage::NOT_BOTH), (Fail::name(), Fail::NOT_BOTH)] {
        document["components"]["schemas"][&*name]["not"] = all_of(both);
    }
    if instance.access == Access::Keys {
        document["components"]["securitySchemes"] = json!({"key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "drv_<id>_<secret>",
            "description": "An API key, as `producer-api key` makes it. The scopes that an operation lists are what the \
                            key needs on the queue that is named.",
        }});
    }
    describe_fields(&mut document["components"]);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            complete_path(path, item, endpoints, instance.access);
        }
    }
    links::add(&mut document["paths"]);
    document
}

/// Where a type and a field both say something, the derived schema is all of two schemas, the second one an object with nothing but
/// the field's words. Those belong to the first.
fn describe_fields(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(all)) = members.get_mut("allOf")
                && let [first, words] = &mut all[..]
                && words["description"].is_string()
                && words.as_object().is_some_and(|words| words.len() == 2)
            {
                first["description"] = words["description"].take();
                *value = first.take();
                return describe_fields(value);
            }
            members.values_mut().for_each(describe_fields);
        }
        Value::Array(items) => items.iter_mut().for_each(describe_fields),
        _ => {}
    }
}

/// The schema of an object that has each of these members.
fn all_of(members: &[(&str, Given)]) -> Value {
    let given = members.iter().map(|(name, given)| {
        let schema = match given {
            Given::Anything => json!({"not": {"type": "null"}}),
            Given::False => json!({"const": false}),
        };
        ((*name).to_owned(), schema)
    });
    let required: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    json!({"required": required, "properties": object(given)})
}

fn complete_path(path: &str, item: &mut Value, endpoints: &Endpoints, access: Access) {
    let Some(methods) = item.as_object_mut() else { return };
    for (method, described) in methods.iter_mut() {
        let known = method.to_uppercase().parse().ok().and_then(|method| endpoints.find(&method, path));
        if let Some(endpoint) = known {
            Operation { path, endpoint, described }.complete(access);
        }
    }
}

fn headers() -> Value {
    let text = |description: &str, required: bool, example: &str| json!({"description": description, "required": required, "schema": {"type": "string"}, "example": example});
    let seconds = json!({"type": "integer", "minimum": 0});
    json!({
        "Location": text("The path of the message", true, "/v1/queues/my-queue/messages/21759559372713"),
        "X-Request-Id": text("The id that the log has of the request: its own `x-request-id`, or one that was drawn", true, "4fb4d29bc2e9c5de"),
        "Retry-After": {"description": "In how many seconds another try makes sense", "required": true, "schema": seconds, "example": 1},
        "WWW-Authenticate": text("What the request lacks", true, "Bearer realm=\"drover\""),
        "RateLimit-Policy": text("The limit of the key, if it has one: quota and window in seconds", false, "\"key\";q=600;w=60"),
        "RateLimit": text("How many requests are left to the key, and in how many seconds there are more", false, "\"key\";r=599;t=63"),
    })
}

/// An object with these members.
fn object(members: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(members.into_iter().collect::<Map<_, _>>())
}
