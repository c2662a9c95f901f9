use serde_json::{Value, json};

/// From what was answered to what can be asked with it: operation, status, then operation and its parameters.
type Link = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const LINKS: &[Link] = &[
    ("post_message", "201", "read_message", OF_MESSAGE),
    ("post_message", "201", "erase_message", OF_MESSAGE),
    ("post_message", "201", "cancel_message", OF_MESSAGE),
    ("post_message", "201", "retry_message", OF_MESSAGE),
    ("post_message", "201", "promote_message", OF_MESSAGE),
    ("configure_queue", "200", "read_queue", OF_QUEUE),
    (
        "configure_queue",
        "200",
        "delete_queue",
        &[("queue", "$response.body#/queue"), ("confirm", "$response.body#/queue")],
    ),
];

const OF_MESSAGE: &[(&str, &str)] = &[("queue", "$response.body#/queue"), ("id", "$response.body#/id")];
const OF_QUEUE: &[(&str, &str)] = &[("queue", "$response.body#/queue")];

/// Operations that take a lease of those received.
const SETTLING: [&str; 4] = ["complete_lease", "fail_lease", "release_lease", "extend_lease"];

/// Adds the links to the answers.
pub(super) fn add(paths: &mut Value) {
    for (from, status, to, parameters) in LINKS {
        let parameters: Value = parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        link(paths, from, status, to, &json!({"operationId": to, "parameters": parameters}));
    }
    for to in SETTLING {
        let (parameters, body) =
            (json!({"queue": "$request.path.queue"}), json!({"lease": "$response.body#/messages/0/lease"}));
        link(paths, "receive", "200", to, &json!({"operationId": to, "parameters": parameters, "requestBody": body}));
    }
}

fn link(paths: &mut Value, from: &str, status: &str, name: &str, link: &Value) {
    let operations = paths.as_object_mut().into_iter().flat_map(|paths| paths.values_mut());
    let operations = operations.filter_map(Value::as_object_mut).flat_map(|methods| methods.values_mut());
    for operation in operations.filter(|operation| operation["operationId"] == from) {
        operation["responses"][status]["links"][name] = link.clone();
    }
}
