//! Messages as producers post them and as the API returns them.

use queue_core::{Message, MessagePatch, MessageRef, NewMessage, QueueName, State};
use serde::Serialize;
use service::{Code, FieldError};
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, Type},
};

use super::{True, json::Body};

impl Body for NewMessage {
    const INVALID_BODY_CODE: Code = Code::InvalidMessage;

    fn check(&self) -> Result<(), FieldError> {
        match self.contradiction() {
            Some(invalid) => Err(field_error(invalid)),
            None => Ok(()),
        }
    }
}

impl Body for MessagePatch {
    const INVALID_BODY_CODE: Code = Code::InvalidMessage;
}

/// Returns the error of a field, from the name of the field and the mistake.
pub(crate) fn field_error((field, detail): (&str, &str)) -> FieldError {
    FieldError { pointer: format!("/{field}"), detail: detail.into() }
}

/// A posted message, and whether it existed before this post.
#[derive(Serialize, ToSchema)]
pub(crate) struct PostedMessage {
    #[serde(flatten)]
    pub(crate) message: Message,
    /// Present, and true, only if the message existed before this post.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(inline, nullable = false)]
    pub(crate) duplicate: Option<True>,
}

/// The message that existed before this post; only its id and its queue if it is no longer kept.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum DuplicateMessage {
    Kept(Box<KeptDuplicate>),
    Forgotten(ForgottenDuplicate),
}

/// A message that existed before this post.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeptDuplicate {
    #[serde(flatten)]
    pub(crate) message: Message,
    #[schema(inline)]
    pub(crate) duplicate: True,
}

/// A message that existed before this post and is no longer kept.
#[derive(Serialize, ToSchema)]
#[schema(as = GoneDuplicate)]
pub(crate) struct ForgottenDuplicate {
    #[serde(flatten)]
    pub(crate) message: ForgottenMessage,
    #[schema(inline)]
    pub(crate) duplicate: True,
}

/// A message that is no longer kept: its state is null.
#[derive(Serialize, ToSchema)]
#[schema(as = GoneMessage)]
pub(crate) struct ForgottenMessage {
    #[schema(inline)]
    id: MessageRef,
    #[schema(inline)]
    queue: QueueName,
    #[schema(required, schema_with = null_schema)]
    state: Option<State>,
}

fn null_schema() -> Object {
    ObjectBuilder::new().schema_type(Type::Null).build()
}

impl ForgottenMessage {
    pub(crate) fn new(queue: &QueueName, id: &MessageRef) -> Self {
        Self { id: id.clone(), queue: queue.clone(), state: None }
    }
}

/// The message after the change; only its id and its queue if it is no longer kept.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ChangedMessage {
    Kept(Box<Message>),
    Forgotten(ForgottenMessage),
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct MessagePage {
    pub(crate) messages: Vec<Message>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next_cursor: Option<String>,
}

/// Returns the URL path of a message.
pub(crate) fn message_path(queue: &QueueName, id: &MessageRef) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const PATH_SEGMENT_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    let id = utf8_percent_encode(id.as_str(), PATH_SEGMENT_ESCAPES);
    let id: std::borrow::Cow<'_, str> = id.into();
    ["/v1/queues/", queue.as_str(), "/messages/", &id].concat()
}

#[cfg(test)]
mod tests {
    use queue_core::{Millis, settings::Settings};
    use serde_json::{Map, Value, json, value::RawValue};
    use service::Problem;
    use utoipa::PartialSchema;

    use super::*;
    use crate::api::{batch::NewBatch, json};

    fn parse_message(body: &str) -> Result<NewMessage, Problem> {
        json::parse_body(body.as_bytes())
    }

    fn first_mistake(body: &str) -> (String, String) {
        let FieldError { pointer, detail } = parse_message(body).unwrap_err().errors()[0].clone();
        (pointer, detail)
    }

    /// Returns a message with null in every field.
    fn message_with_nulls() -> String {
        let schema = json!(NewMessage::schema());
        let null_members: Map<String, Value> =
            schema["properties"].as_object().unwrap().keys().map(|field| (field.clone(), Value::Null)).collect();
        json!(null_members).to_string()
    }

    #[test]
    fn optional_field_of_a_message_that_is_null_counts_as_absent() {
        let null_members = message_with_nulls();
        let message = parse_message(&null_members).unwrap();
        assert_eq!(format!("{message:?}"), format!("{:?}", NewMessage::new(RawValue::NULL.to_owned())));
        assert_eq!(message.data.get(), "null", "null is data too");
        assert!(parse_message("\u{feff} {\"data\":1}").is_ok(), "a byte order mark is skipped");
        let message =
            parse_message(r#"{"data":1,"delay":"1s","deliver_at":null,"backoff":{"delay":5,"max":null}}"#).unwrap();
        let mut expected = Settings::default().backoff;
        expected.delay = Millis::new(5).try_into().unwrap();
        assert_eq!(message.backoff, Some(expected));
        let batch = format!(r#"{{"messages":[{null_members}]}}"#);
        assert_eq!(json::parse_body::<NewBatch>(batch.as_bytes()).unwrap().messages.len(), 1);
        // An unknown field is refused even if it is null.
        assert_eq!(first_mistake(r#"{"data":1,"dealy":null}"#).0, "/dealy");
    }

    #[test]
    fn mistake_in_a_message_is_reported_with_its_pointer() {
        assert_eq!(first_mistake("{}"), ("/data".into(), "required".into()));
        assert_eq!(first_mistake(r#"{"dta":1}"#), ("/dta".into(), "unknown: did you mean \"data\"?".into()));
        for (field, value, expected) in [
            ("delay", "-1", "a duration must not be negative"),
            ("delay", "\"3651d\"", "must be 0s to 3650d"),
            ("delay", "true", "a duration"),
            ("priority", "1.5", "a whole number"),
            ("priority", "99999999999999999999999999", "must be a whole number from -2097152"),
            ("max_attempts", "0", "must be a whole number from 1 to 1000"),
            ("name", "\"\"", "1 to 128 characters"),
            ("name", "\"\\ud83d\"", "half of a character"),
            ("id", "\"42\"", "put a letter in it"),
            ("id", "\"batch\"", "an id must not be \"batch\""),
            ("headers", "{\"a\":1}", "it is 1, and must be a text"),
            ("backoff", "{\"jitter\":2}", "must be a number from 0 to 1"),
            ("backoff", "[\"fixed\",5]", "it is a list, and must be an object"),
            ("deliver_at", "\"soon\"", "RFC 3339"),
            ("timeout", "0", "must be 1ms to 7d"),
            ("ttl", "\"3651d\"", "must be 1ms to 3650d"),
            ("hold", "\"a/b\"", "without control characters or slashes"),
        ] {
            let (pointer, detail) = first_mistake(&format!(r#"{{"data":1,"{field}":{value}}}"#));
            assert!(pointer.starts_with(&format!("/{field}")) && detail.contains(expected), "{pointer}: {detail}");
        }
        assert_eq!(first_mistake(r#"{"data":1,"headers":{"a":5}}"#).0, "/headers/a");
        for (backoff, pointer) in [
            (r#"{"jitter":5}"#, "/backoff/jitter"),
            (r#"{"delya":5}"#, "/backoff/delya"),
            (r#"{"a: /b":5}"#, "/backoff/a: ~1b"),
            (r#"{"delay":"soon"}"#, "/backoff/delay"),
            (r#"{"type":{"fixed":1}}"#, "/backoff/type"),
            ("[1]", "/backoff"),
        ] {
            let (found, detail) = first_mistake(&format!(r#"{{"data":1,"backoff":{backoff}}}"#));
            assert!(found == pointer && !detail.contains('`'), "{found}: {detail}");
        }
        let mistake_of_two_times = first_mistake(r#"{"data":1,"delay":1,"deliver_at":"2030-01-01T00:00:00Z"}"#);
        assert_eq!(mistake_of_two_times, ("/deliver_at".into(), "give either delay or deliver_at, not both".into()));
    }

    #[test]
    fn mistake_in_a_long_text_of_a_message_gets_a_short_error() {
        let long_text = "x".repeat(100_000);
        let bodies = [
            format!(r#"{{"data":1,"{long_text}":1}}"#),
            format!(r#"{{"data":1,"delay":"{long_text}"}}"#),
            format!(r#"{{"data":1,"{long_text}":1,"{long_text}":1}}"#),
            format!("{{{}}}", (0..10_000).map(|n| format!("\"a{n}\":1")).collect::<Vec<_>>().join(",")),
        ];
        for body in bodies {
            let problem = serde_json::to_string(&parse_message(&body).unwrap_err()).unwrap();
            assert!(problem.len() < 2_000, "{} bytes", problem.len());
        }
    }

    #[test]
    fn body_that_is_no_object_is_invalid_json() {
        for body in ["", "{", "[]", "1", "nul", r#"{"data":1}x"#, r#"{"data":1,"data":2}"#, "{\"data\":\"\u{1}\"}"] {
            assert_eq!(parse_message(body).unwrap_err().code(), Code::InvalidJson, "{body}");
        }
        assert_eq!(json::parse_body::<NewMessage>(b"{\"data\":\"\xff\"}").unwrap_err().code(), Code::InvalidJson);
        let problem = json::parse_line::<NewMessage>(b"{\"data\":1,}").unwrap_err();
        assert!(problem.detail.contains("at column 11") && !problem.detail.contains("line 1"), "{}", problem.detail);
    }

    #[test]
    fn mistake_in_a_batch_points_to_its_message() {
        for (body, pointer) in [
            (r#"{"messages":[{"data":1},{"data":2,"delay":-1},3]}"#, "/messages/1/delay"),
            (r#"{"messages":[{"data":1},{"data":1,"backoff":{"jitter":5}}]}"#, "/messages/1/backoff/jitter"),
            (r#"{"messages":[{"data":1},3]}"#, "/messages/1"),
            (r#"{"messages":[[1]]}"#, "/messages/0"),
            (r#"{"messages":[{"data":1,"data":1}]}"#, "/messages/0/data"),
            (r#"{"messages":[{"data":1,"delay":1,"deliver_at":"2030-01-01T00:00:00Z"}]}"#, "/messages/0/deliver_at"),
            ("{}", "/messages"),
            (r#"{"messages":null}"#, "/messages"),
            (r#"{"messges":[]}"#, "/messges"),
        ] {
            let problem = json::parse_body::<NewBatch>(body.as_bytes()).err().unwrap();
            assert_eq!(problem.errors()[0].pointer, pointer, "{body}: {}", problem.detail);
        }
    }

    #[test]
    fn own_id_of_a_message_is_escaped_in_the_header_location() {
        let location = message_path(&"q".parse().unwrap(), &"a b?#%ä".parse().unwrap());
        assert_eq!(location, "/v1/queues/q/messages/a%20b%3F%23%25%C3%A4");
    }
}
