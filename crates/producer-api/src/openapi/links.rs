//! The `OpenAPI` links from a response to the operations that take its values as parameters.

use serde_json::{Value, json};

/// The operations to which the response to a posted message links.
const MESSAGE_OPERATIONS: [&str; 5] =
    ["read_message", "erase_message", "cancel_message", "retry_message", "promote_message"];
/// The operations to which the response with received leases links.
const LEASE_OPERATIONS: [&str; 4] = ["complete_lease", "fail_lease", "release_lease", "extend_lease"];

/// Adds `OpenAPI` links to the responses of the operations in `paths`.
pub(super) fn add(paths: &mut Value) {
    let queue = "$response.body#/queue";
    for to in MESSAGE_OPERATIONS {
        let parameters = json!({"queue": queue, "id": "$response.body#/id"});
        add_link(paths, ("post_message", "201"), to, json!({"parameters": parameters}));
    }
    let parameters = json!({"queue": queue, "confirm": queue});
    add_link(paths, ("configure_queue", "200"), "read_queue", json!({"parameters": {"queue": queue}}));
    add_link(paths, ("configure_queue", "200"), "delete_queue", json!({"parameters": parameters}));
    for to in LEASE_OPERATIONS {
        let body = json!({"lease": "$response.body#/messages/0/lease"});
        let lease = json!({"parameters": {"queue": "$request.path.queue"}, "requestBody": body});
        add_link(paths, ("receive", "200"), to, lease);
    }
}

fn add_link(paths: &mut Value, (from, status): (&str, &str), to: &str, mut link: Value) {
    link["operationId"] = to.into();
    let operations = paths.as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let mut operations = operations.filter_map(Value::as_object_mut).flat_map(|methods| methods.values_mut());
    if let Some(operation) = operations.find(|operation| operation["operationId"] == from) {
        operation["responses"][status]["links"][to] = link;
    }
}
