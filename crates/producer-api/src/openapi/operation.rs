//! One operation of the description, completed by what follows from its route: the parameters of its path, the refusals of all
//! requests of its kind, the scope that a key needs, and the headers of its answers.

use axum::http::Method;
use serde_json::{Map, Value, json};
use service::Code;

use super::{Access, object, parameters};
use crate::routes::{Endpoint, Needs};

/// Beside a handler: the names of its parameters, but those of the path.
const PARAMETERS: &str = "x-parameters";
/// Beside a handler: that it takes a body, and needs none.
const BODY_IS_OPTIONAL: &str = "x-body-is-optional";

/// The refusals of every request.
const OF_ALL: [Code; 4] = [Code::BadRequest, Code::MalformedRequest, Code::ForeignHost, Code::Internal];
/// The refusals of requests under `/v1`.
const OF_V1: [Code; 3] = [Code::InvalidQuery, Code::RequestTimeout, Code::Unavailable];
/// The refusals by the parameters of a path. An empty one, or one with a slash, makes another path.
const OF_PARAMETERS: [(&str, [Code; 2]); 3] = [
    ("{queue}", [Code::InvalidQueueName, Code::NotFound]),
    ("{id}", [Code::InvalidId, Code::NotFound]),
    ("{key}", [Code::InvalidSignalKey, Code::NotFound]),
];
/// The refusals of a body that is read.
const OF_BODIES: [Code; 5] =
    [Code::InvalidJson, Code::IncompleteBody, Code::BodyTooLarge, Code::UnsupportedMediaType, Code::Overloaded];
/// The refusals of a body where none is read.
const OF_NO_BODY: [Code; 4] = [Code::UnexpectedBody, Code::IncompleteBody, Code::BodyTooLarge, Code::ForeignOrigin];
/// The refusals of keys.
const OF_KEYS: [Code; 3] = [Code::Unauthorized, Code::Forbidden, Code::RateLimited];

/// One operation, as it stands beside its handler, and as it was registered.
pub(super) struct Operation<'a> {
    pub(super) path: &'a str,
    pub(super) endpoint: &'a Endpoint,
    pub(super) described: &'a mut Value,
}

impl Operation<'_> {
    /// Adds what follows from what it says of itself.
    pub(super) fn complete(mut self, access: Access) {
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
        let scope = match self.endpoint.needs {
            Needs::OnQueue(scope) | Needs::OnSome(scope) if access == Access::Keys => Some(scope),
            _ => None,
        };
        if let Some(scope) = scope {
            self.described["security"] = json!([{"key": [scope.as_str()]}]);
        }
        let of_keys = if scope.is_some() { &OF_KEYS[..] } else { &[] };
        let mut codes: Vec<Code> = [self.endpoint.refusals, of_keys].concat();
        codes.extend(self.common());
        self.add_refusals(codes);
        self.add_headers(scope.is_some());
    }

    fn take(&mut self, extension: &str) -> Vec<String> {
        let taken = self.described.as_object_mut().and_then(|members| members.remove(extension));
        taken.and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default()
    }

    /// The refusals of all operations of its kind.
    fn common(&self) -> Vec<Code> {
        let mut codes = OF_ALL.to_vec();
        if !self.path.starts_with("/v1/") {
            return codes;
        }
        codes.extend(OF_V1);
        let parameters = OF_PARAMETERS.iter().filter(|(parameter, _)| self.path.contains(parameter));
        codes.extend(parameters.flat_map(|(_, refusals)| refusals));
        if self.described.get("requestBody").is_some() {
            codes.extend(OF_BODIES);
        } else if self.endpoint.method == Method::POST {
            codes.extend(OF_NO_BODY);
        }
        codes
    }

    fn add_refusals(&mut self, mut codes: Vec<Code>) {
        codes.sort_unstable();
        codes.dedup();
        for some in codes.chunk_by(|one, other| one.status() == other.status()) {
            let status = some[0].status().as_u16();
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
fn refusal(status: u16, some: &[Code]) -> Value {
    let lines: Vec<String> = some.iter().map(|code| format!("`{}`: {}", code.as_str(), code.help())).collect();
    let examples: Map<String, Value> = some
        .iter()
        .map(|code| {
            let example = json!({
                "type": format!("urn:drover:problem:{}", code.as_str()),
                "title": code.title(),
                "status": status,
                "detail": code.help(),
                "code": code,
                "request_id": "4fb4d29bc2e9c5de",
            });
            (code.as_str().to_owned(), json!({"summary": code.help(), "value": example}))
        })
        .collect();
    json!({
        "description": lines.join("; "),
        "content": {"application/problem+json": {
            "schema": {
                "allOf": [{"$ref": "#/components/schemas/Problem"}],
                "properties": {"status": {"const": status}, "code": {"enum": some}},
            },
            "examples": examples,
        }},
    })
}
