//! Completes one operation of the `OpenAPI` description from its registration: the path parameters, the error responses, the
//! scope that a key needs, and the response headers.

use axum::http::Method;
use queue_core::{MessageRef, QueueName, ScheduleName, SignalKey};
use serde_json::{Map, Value, json};
use service::Code;
use utoipa::PartialSchema;

use crate::auth::{
    Access,
    endpoint::{Endpoint, RequiredScope},
};

/// The error codes that the response of every operation may have.
const COMMON_REFUSALS: [Code; 4] = [Code::BadRequest, Code::MalformedRequest, Code::ForeignHost, Code::Internal];
/// The error codes that the response of every operation under `/v1` may have.
const V1_REFUSALS: [Code; 4] = [Code::InvalidQuery, Code::RequestTimeout, Code::Overloaded, Code::Unavailable];
/// The error codes for path parameters. A path parameter can cause `not_found`, because an empty parameter or a parameter
/// with a slash changes the path.
const PARAMETER_REFUSALS: [(&str, [Code; 2]); 4] = [
    ("{queue}", [Code::InvalidQueueName, Code::NotFound]),
    ("{id}", [Code::InvalidId, Code::NotFound]),
    ("{key}", [Code::InvalidSignalKey, Code::NotFound]),
    ("{name}", [Code::InvalidScheduleName, Code::NotFound]),
];
/// The error codes that the response of every operation with a request body may have.
const BODY_REFUSALS: [Code; 4] =
    [Code::InvalidJson, Code::IncompleteBody, Code::BodyTooLarge, Code::UnsupportedMediaType];
/// The error codes that the response of every `POST` operation without a request body may have.
const BODILESS_POST_REFUSALS: [Code; 4] =
    [Code::UnexpectedBody, Code::IncompleteBody, Code::BodyTooLarge, Code::ForeignOrigin];
/// The error codes that the response of every operation that needs a key may have; an operation that needs a scope also
/// has `forbidden`.
const KEY_REFUSALS: [Code; 2] = [Code::Unauthorized, Code::RateLimited];

/// One operation of the API: its registration, and the description that `complete` completes.
pub(super) struct Operation<'a> {
    pub(super) path: &'a str,
    pub(super) endpoint: &'a Endpoint,
    pub(super) description: &'a mut Value,
}

impl Operation<'_> {
    /// Completes the `OpenAPI` description of an operation by what follows from the endpoint's registration: tag, path
    /// parameters, scopes, error responses and headers.
    pub(super) fn complete(mut self, access: Access) {
        self.description["tags"] = json!([self.endpoint.tag]);
        self.add_path_parameters();
        self.correct_optional_body();
        // The scopes that a key needs; `None` if the request needs no key.
        let scopes = match self.endpoint.needs {
            _ if access == Access::Open => None,
            RequiredScope::Nothing => None,
            RequiredScope::AnyKey => Some(vec![]),
            RequiredScope::OnQueue(scope) | RequiredScope::OnAnyQueue(scope) => Some(vec![scope.as_str()]),
        };
        let mut refusals_of_keys = Vec::new();
        if let Some(scopes) = &scopes {
            self.description["security"] = json!([{"key": scopes}]);
            refusals_of_keys.extend(KEY_REFUSALS);
            refusals_of_keys.extend((!scopes.is_empty()).then_some(Code::Forbidden));
        }
        let mut codes: Vec<Code> = [&self.endpoint.refusals[..], &refusals_of_keys].concat();
        codes.extend(self.common_codes());
        self.add_refusals(codes);
        self.add_headers(scopes.is_some());
    }

    /// Adds the parameters of the path to the operation. `OpenAPI` also allows parameters at a path, for all operations of the
    /// path, but Swagger UI does not always read such parameters.
    fn add_path_parameters(&mut self) {
        let refusals_of_path = [
            ("queue", "The name of the queue", QueueName::schema(), "orders"),
            ("id", "The id of the message: Drover's, or the producer's own", MessageRef::schema(), "21759559372713"),
            ("key", "The key of the signal that messages wait for", SignalKey::schema(), "paid:42"),
            ("name", "The name of the schedule", ScheduleName::schema(), "report"),
        ];
        let refusals_of_path =
            refusals_of_path.into_iter().filter(|(name, ..)| self.path.contains(&format!("{{{name}}}")));
        let mut parameters: Vec<Value> = refusals_of_path
            .map(|(name, description, schema, example)| {
                json!({"name": name, "in": "path", "required": true, "description": description, "schema": schema,
                       "example": example})
            })
            .collect();
        if let Some(Value::Array(own)) = self.description.get_mut("parameters").map(Value::take) {
            parameters.extend(own);
        }
        if !parameters.is_empty() {
            self.description["parameters"] = parameters.into();
        }
    }

    /// Corrects the derived description of an optional body: the body may be absent, but must not be null.
    fn correct_optional_body(&mut self) {
        let Some(body) = self.description.get_mut("requestBody") else { return };
        let mut is_optional = false;
        for content in body["content"].as_object_mut().into_iter().flat_map(Map::values_mut) {
            if let Some(schema) =
                content.pointer("/schema/oneOf").and_then(Value::as_array).and_then(|all| all.first()).cloned()
            {
                content["schema"] = schema;
                is_optional = true;
            }
        }
        body["required"] = (!is_optional).into();
    }

    /// Returns the error codes that follow from the path, the method and the body of the operation.
    fn common_codes(&self) -> Vec<Code> {
        let mut codes = COMMON_REFUSALS.to_vec();
        if !self.path.starts_with("/v1/") {
            return codes;
        }
        codes.extend(V1_REFUSALS);
        let parameters = PARAMETER_REFUSALS.iter().filter(|(parameter, _)| self.path.contains(parameter));
        codes.extend(parameters.flat_map(|(_, refusals)| refusals));
        if self.description.get("requestBody").is_some() {
            codes.extend(BODY_REFUSALS);
        } else if self.endpoint.method == Method::POST {
            codes.extend(BODILESS_POST_REFUSALS);
        }
        codes
    }

    fn add_refusals(&mut self, mut codes: Vec<Code>) {
        codes.sort_unstable();
        codes.dedup();
        for group in codes.chunk_by(|one, other| one.status() == other.status()) {
            let status = group[0].status().as_u16();
            self.description["responses"][status.to_string()] = error_response(status, group);
        }
    }

    fn add_headers(&mut self, needs_key: bool) {
        let Some(responses) = self.description["responses"].as_object_mut() else { return };
        for (status, response) in responses {
            let mut header_names = vec!["X-Request-Id"];
            header_names.extend(match status.as_str() {
                "201" if self.path.ends_with("/messages") || self.path.ends_with("/run") => Some("Location"),
                "401" => Some("WWW-Authenticate"),
                "429" | "503" => Some("Retry-After"),
                _ => None,
            });
            if needs_key {
                header_names.extend(["RateLimit-Policy", "RateLimit"]);
            }
            let header_reference = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
            response["headers"] =
                json_object(header_names.into_iter().map(|name| (name.to_owned(), header_reference(name))));
        }
    }
}

/// Returns the description of the error response with this status and these codes, with an example for each code.
fn error_response(status: u16, codes: &[Code]) -> Value {
    let code_lines: Vec<String> = codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.help())).collect();
    let examples: Map<String, Value> = codes
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
        "description": code_lines.join("; "),
        "content": {"application/problem+json": {
            "schema": {
                "allOf": [{"$ref": "#/components/schemas/Problem"}],
                "properties": {"status": {"const": status}, "code": {"enum": codes}},
            },
            "examples": examples,
        }},
    })
}

/// Returns a JSON object with these members.
fn json_object(members: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(members.into_iter().collect::<Map<_, _>>())
}
