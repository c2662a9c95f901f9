//! The `OpenAPI` 3.1 description of the API. The handler of a route describes the path, body and responses of its operation.
//! The module `openapi` adds the parts that follow from the registration of the route: path parameters, error responses, scope,
//! headers and links.

#[cfg(test)]
mod agreement;
mod links;
mod operation;

use queue_core::Millis;
use serde_json::{Map, Value, json};
use service::Problem;
use utoipa::{PartialSchema, ToSchema, openapi::OpenApi};

use crate::auth::{Access, endpoint::Endpoints};
use operation::Operation;

const API_DESCRIPTION: &str = "\
A message queue over HTTP. Requests give durations as whole milliseconds or as a text with the units ms, s, m, h, d, w \
(`\"1500ms\"`, `\"2s\"`, `\"1h 30m\"`), and responses give them as milliseconds. An optional field that is null counts as \
absent. Instants are RFC 3339 in UTC, by Redis's clock. An unknown field or query parameter is refused. Every \
refusal is `application/problem+json` with a `code` that programs match and a `detail` that says what to do. The schemas \
can't state one rule: all `headers` of a message together have at most 4096 bytes.";

/// Returns the complete `OpenAPI` document, from the descriptions of the handlers, the registered endpoints, the configured
/// maximum wait and the access mode.
pub(crate) fn describe(routes: &OpenApi, endpoints: &Endpoints, max_wait: Millis, access: Access) -> Value {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    document["info"] = json!({
        "title": "Drover",
        "version": env!("CARGO_PKG_VERSION"),
        "description": API_DESCRIPTION,
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    document["servers"] = json!([{"url": "/", "description": "this server"}]);
    document["tags"] = json!([
        {"name": "messages", "description": "Post, read and change messages"},
        {"name": "leases", "description": "Receive messages, and end or extend their leases"},
        {"name": "events", "description": "Listen to events"},
        {"name": "queues", "description": "Status and settings of queues, and operations on all messages of a queue"},
        {"name": "schedules", "description": "Post messages over time, by cron patterns or at intervals"},
        {"name": "keys", "description": "The rights of the API key"},
        {"name": "service", "description": "Health, metrics and this description; they need no key"},
    ]);
    let mut schemas = Vec::from([(Problem::name().into_owned(), Problem::schema())]);
    Problem::schemas(&mut schemas);
    for (name, schema) in schemas {
        document["components"]["schemas"][name] = json!(schema);
    }
    document["components"]["schemas"]["Wait"] = json!(Millis::schema_within(Millis::ZERO, max_wait));
    document["components"]["headers"] = header_components();
    let not_null_schema = json!({"not": {"type": "null"}});
    for (name, exclusive) in [
        ("NewMessage", json!({"delay": not_null_schema, "deliver_at": not_null_schema})),
        ("NewSchedule", json!({"cron": not_null_schema, "every": not_null_schema})),
        ("Fail", json!({"retry": {"const": false}, "retry_after": not_null_schema})),
        ("Release", json!({"delay": not_null_schema, "hold": not_null_schema})),
    ] {
        let required_names: Vec<&String> = exclusive.as_object().into_iter().flat_map(Map::keys).collect();
        document["components"]["schemas"][name]["not"] = json!({"required": required_names, "properties": exclusive});
    }
    if access == Access::Keys {
        document["components"]["securitySchemes"] = json!({"key": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "drv_<id>_<secret>",
            "description": "An API key, as `producer-api key` makes it. An operation lists the scope that the key \
                            needs on the queue of its path.",
        }});
    }
    describe_fields(&mut document["components"]);
    if let Some(paths) = document["paths"].as_object_mut() {
        for (path, item) in paths {
            complete_operations_of_path(path, item, endpoints, access);
        }
    }
    links::add(&mut document["paths"]);
    document
}

/// If a field and its type's schema have one description each, the derived schema is `allOf` with the type's schema and a
/// second schema that has only the field's description. `describe_fields` replaces a field's derived `allOf` by the schema of
/// the field's type, with the field's description.
fn describe_fields(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::Array(all)) = members.get_mut("allOf")
                && let [first, second] = &mut all[..]
                && second["description"].is_string()
                && second.as_object().is_some_and(|second| second.len() == 2)
            {
                first["description"] = second["description"].take();
                *value = first.take();
                return describe_fields(value);
            }
            members.values_mut().for_each(describe_fields);
        }
        Value::Array(items) => items.iter_mut().for_each(describe_fields),
        _ => {}
    }
}

fn complete_operations_of_path(path: &str, item: &mut Value, endpoints: &Endpoints, access: Access) {
    let Some(methods) = item.as_object_mut() else { return };
    for (method, description) in methods.iter_mut() {
        let endpoint = method.to_uppercase().parse().ok().and_then(|method| endpoints.find(&method, path));
        if let Some(endpoint) = endpoint {
            Operation { path, endpoint, description }.complete(access);
        }
    }
}

fn header_components() -> Value {
    let text = |description: &str, required: bool, example: &str| json!({"description": description, "required": required, "schema": {"type": "string"}, "example": example});
    let seconds_schema = json!({"type": "integer", "minimum": 0});
    json!({
        "Location": text("The path of the message", true, "/v1/queues/my-queue/messages/21759559372713"),
        "X-Request-Id": text("The id of the request in the log: the `x-request-id` that the client sent, or a new one", true, "4fb4d29bc2e9c5de"),
        "Retry-After": {"description": "The number of seconds after which to try again", "required": true, "schema": seconds_schema, "example": 1},
        "WWW-Authenticate": text("How to authenticate", true, "Bearer realm=\"drover\""),
        "RateLimit-Policy": text("The limit of the key, if it has one: quota and window in seconds", false, "\"key\";q=600;w=60"),
        "RateLimit": text("The number of requests that the key may make now, and the number of seconds until it may make more", false, "\"key\";r=599;t=63"),
    })
}
