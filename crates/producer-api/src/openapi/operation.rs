use axum::http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Access,
    codes::{self, Code},
    object, parameters,
};
use crate::auth::{Needed, needed};

/// Beside a handler: the names of its parameters, but those of the path.
const PARAMETERS: &str = "x-parameters";
/// Beside a handler: the codes of its own refusals.
const REFUSALS: &str = "x-refusals";
/// Beside a handler: that it takes a body, and needs none.
const BODY_IS_OPTIONAL: &str = "x-body-is-optional";

/// One operation, as it stands beside its handler.
pub(super) struct Operation<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) described: &'a mut Value,
}

impl Operation<'_> {
    /// Adds what follows from what it says of itself.
    pub(super) fn complete(mut self, access: Access) {
        let own = self.take(REFUSALS);
        // Those of the path too: where they stand beside the operations, Swagger UI leaves them unread now and then.
        let mut parameters = parameters::of_path(self.path);
        parameters.extend(self.take(PARAMETERS).iter().map(|name| parameters::reference(name)));
        if !parameters.is_empty() {
            self.described["parameters"] = parameters.into();
        }
        let body_is_optional = self.described.as_object_mut().and_then(|members| members.remove(BODY_IS_OPTIONAL));
        if let Some(body) = self.described.get_mut("requestBody") {
            body["required"] = body_is_optional.is_none().into();
        }
        let needs = self.needs();
        let needs_key = access == Access::Keys && needs.is_some();
        if needs_key {
            self.described["security"] = json!([{"key": needs}]);
        }
        let mut words = own;
        words.extend(self.common().into_iter().map(str::to_owned));
        if needs_key {
            words.extend(["unauthorized", "forbidden", "rate_limited"].map(str::to_owned));
        }
        self.add_refusals(&words);
        self.add_headers(needs_key);
    }

    fn take(&mut self, extension: &str) -> Vec<String> {
        let taken = self.described.as_object_mut().and_then(|members| members.remove(extension));
        taken.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default()
    }

    /// The scopes that a key needs.
    fn needs(&self) -> Option<Vec<&'static str>> {
        let method = Method::from_bytes(self.method.to_uppercase().as_bytes()).ok()?;
        match needed(&method, self.path)? {
            Needed::Nothing => None,
            Needed::OnQueue(scope) | Needed::OnSome(scope) => Some(vec![scope.as_str()]),
        }
    }

    /// The refusals of all operations of its kind.
    fn common(&self) -> Vec<&'static str> {
        let mut words = vec!["bad_request", "malformed_request", "foreign_host", "internal"];
        if !self.path.starts_with("/v1/") {
            return words;
        }
        words.extend(["invalid_query", "request_timeout", "unavailable"]);
        for (parameter, refusal) in
            [("{queue}", "invalid_queue_name"), ("{id}", "invalid_id"), ("{key}", "invalid_signal_key")]
        {
            if self.path.contains(parameter) {
                // An empty one, or one with a slash, makes another path.
                words.extend([refusal, "not_found"]);
            }
        }
        let takes_body = self.described.get("requestBody").is_some();
        if takes_body {
            words.extend(["invalid_json", "incomplete_body", "body_too_large", "unsupported_media_type", "overloaded"]);
        } else if self.method == "post" {
            words.extend(["unexpected_body", "incomplete_body", "body_too_large", "foreign_origin"]);
        }
        words
    }

    fn add_refusals(&mut self, words: &[String]) {
        let mut all: Vec<&Code> = words.iter().flat_map(|word| codes::of_word(word)).collect();
        all.sort_by_key(|code| (code.status, code.word));
        all.dedup_by_key(|code| (code.status, code.word));
        for some in all.chunk_by(|one, other| one.status == other.status) {
            let status = some[0].status;
            self.described["responses"][status.to_string()] = refusal(status, some);
        }
    }

    fn add_headers(&mut self, needs_key: bool) {
        let Some(answers) = self.described["responses"].as_object_mut() else { return };
        for (status, answer) in answers {
            let mut names = vec!["X-Request-Id"];
            names.extend(match status.as_str() {
                "201" if self.path.ends_with("/messages") => Some("Location"),
                "401" => Some("WWW-Authenticate"),
                "429" | "503" => Some("Retry-After"),
                _ => None,
            });
            if needs_key {
                names.extend(["RateLimit-Policy", "RateLimit"]);
            }
            let reference = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
            answer["headers"] = object(names.into_iter().map(|name| (name.to_owned(), reference(name))));
        }
    }
}

/// The answer of a status with these codes, each with an example.
fn refusal(status: u16, some: &[&Code]) -> Value {
    let title = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    let words: Vec<&str> = some.iter().map(|code| code.word).collect();
    let lines: Vec<String> = some.iter().map(|code| format!("`{}`: {}", code.word, code.way_out)).collect();
    let examples: Map<String, Value> = some
        .iter()
        .map(|code| {
            let example = json!({
                "type": format!("urn:drover:problem:{}", code.word),
                "title": title,
                "status": status,
                "detail": code.way_out,
                "code": code.word,
                "request_id": "4fb4d29bc2e9c5de",
            });
            (code.word.to_owned(), json!({"summary": code.way_out, "value": example}))
        })
        .collect();
    json!({
        "description": lines.join("; "),
        "content": {"application/problem+json": {
            "schema": {
                "allOf": [{"$ref": "#/components/schemas/Problem"}],
                "properties": {"status": {"const": status}, "code": {"enum": words}},
            },
            "examples": examples,
        }},
    })
}
