//! A message as it comes over HTTP: `{"data": …, "delay": "2s", …}`.

use std::borrow::Cow;

use queue_core::{Backoff, Due, MessageRef, Millis, NewMessage, OwnId, Timestamp};
use serde_json::value::RawValue;
use service::{FieldError, Problem, unknown, wording};

use crate::{
    fields::{Reader, field_error},
    json::{self, Object},
    refusal,
};

/// Every field of a message, for the error about one that is not.
const FIELDS: [&str; 12] = [
    "data",
    "name",
    "id",
    "delay",
    "deliver_at",
    "priority",
    "max_attempts",
    "backoff",
    "timeout",
    "ttl",
    "hold",
    "headers",
];

/// Reads the body of a POST of one message.
pub(crate) fn parse(body: &[u8]) -> Result<NewMessage, Problem> {
    let object = json::object(body)?;
    let mut errors = Vec::new();
    read(&object, "", &mut errors).ok_or_else(|| refusal::invalid_message(errors))
}

/// Reads one line of a stream of messages.
pub(crate) fn parse_line(line: &[u8]) -> Result<NewMessage, Problem> {
    let object = json::object_of_line(line)?;
    let mut errors = Vec::new();
    read(&object, "", &mut errors).ok_or_else(|| refusal::invalid_message(errors))
}

/// Reads the body of a POST of a batch: `{"messages": [ … ]}`.
pub(crate) fn parse_batch(body: &[u8]) -> Result<Vec<NewMessage>, Problem> {
    let object = json::object(body)?;
    let values = json::only_list(&object, "messages").map_err(|error| refusal::invalid_message(vec![error]))?;
    let mut errors = Vec::new();
    if values.is_empty() || values.len() > queue_core::MAX_MESSAGES_PER_CALL {
        return Err(refusal::too_many_messages(values.len()));
    }
    let mut messages = Vec::with_capacity(values.len());
    for (index, value) in values.iter().enumerate() {
        let pointer = format!("/messages/{index}");
        match serde_json::from_str::<Object<'_>>(value.get()) {
            Ok(object) => messages.extend(read(&object, &pointer, &mut errors)),
            Err(error) => errors.push(FieldError { pointer, detail: wording::of_value(&error) }),
        }
    }
    if errors.is_empty() { Ok(messages) } else { Err(refusal::invalid_message(errors)) }
}

/// Reads one message; `None` if anything was added to `errors`.
fn read(object: &Object<'_>, pointer: &str, errors: &mut Vec<FieldError>) -> Option<NewMessage> {
    let before = errors.len();
    let mut data = None;
    let mut delay: Option<Millis> = None;
    let mut deliver_at: Option<Timestamp> = None;
    // The payload is put in at the end, when it is known to be there.
    let mut message = NewMessage::new(RawValue::NULL.to_owned());
    for (name, value) in &object.0 {
        let mut reader = Reader { pointer, name, value, errors };
        match name.as_ref() {
            "data" => data = Some((*value).to_owned()),
            "name" => message.name = reader.read(),
            // Where batches are posted there is no room for a message.
            "id" => {
                message.id = reader.read_checked(|id: &OwnId| {
                    if id.as_str() == "batch" {
                        Err("an id must not be \"batch\": its path is where batches are posted")
                    } else {
                        Ok(())
                    }
                });
            }
            "delay" => {
                delay = reader.read_checked(|delay| {
                    if *delay > Due::LONGEST_DELAY { Err("must be at most 3650 days") } else { Ok(()) }
                });
            }
            "deliver_at" => deliver_at = reader.read(),
            "priority" => message.priority = reader.read().unwrap_or_default(),
            "max_attempts" => message.max_attempts = reader.read(),
            "backoff" => message.backoff = reader.read_object(|_: &Backoff| Ok(())),
            "timeout" => message.timeout = reader.read_duration(NewMessage::LONGEST_TIMEOUT, "must be 1 ms to 7 days"),
            "ttl" => message.ttl = reader.read_duration(Due::LONGEST_DELAY, "must be 1 ms to 3650 days"),
            "hold" => message.hold = reader.read(),
            "headers" => message.headers = reader.read().unwrap_or_default(),
            other => errors.push(field_error(pointer, other, unknown(other, FIELDS))),
        }
    }
    message.due = match (delay, deliver_at) {
        (Some(_), Some(_)) => {
            let detail = "give either delay or deliver_at, not both";
            errors.push(field_error(pointer, "deliver_at", detail.into()));
            Due::Now
        }
        (Some(delay), None) if !delay.is_zero() => Due::After(delay),
        (None, Some(instant)) => Due::At(instant),
        _ => Due::Now,
    };
    match data {
        Some(data) => message.data = data,
        None => errors.push(field_error(pointer, "data", "required: the payload, any JSON".into())),
    }
    (errors.len() == before).then_some(message)
}

/// The path of a message.
pub(crate) fn location(queue: &queue_core::QueueName, id: &MessageRef) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    let id: Cow<'_, str> = utf8_percent_encode(id.as_str(), SEGMENT).into();
    ["/v1/queues/", queue.as_str(), "/messages/", &id].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(body: &str) -> Vec<(String, String)> {
        let problem = serde_json::to_value(parse(body.as_bytes()).unwrap_err()).unwrap();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        errors.iter().map(|error| (text(&error["pointer"]), text(&error["detail"]))).collect()
    }

    #[test]
    fn every_field_is_taken() {
        let message = parse(
            br#"{"data": {"a":[]}, "name":"n", "id":"order-1", "delay":"2s", "priority":-3, "max_attempts":7,
                 "backoff":{"type":"fixed","delay":5}, "timeout":"1m", "ttl":"3650d", "hold":"paid:42", "headers":{"a":"b"}}"#,
        )
        .unwrap();
        assert_eq!(message.data.get(), r#"{"a":[]}"#);
        assert_eq!(message.name.unwrap().as_str(), "n");
        assert_eq!(message.id.unwrap().as_str(), "order-1");
        assert_eq!(message.due, Due::After(Millis::from_secs(2)));
        assert_eq!(message.priority.get(), -3);
        assert_eq!(message.max_attempts.unwrap().get(), 7);
        assert_eq!(*message.backoff.unwrap().delay, Millis::new(5));
        assert_eq!((message.timeout, message.ttl), (Some(Millis::from_secs(60)), Some(Millis::from_days(3_650))));
        assert_eq!(message.hold.unwrap().as_str(), "paid:42");
        assert_eq!(message.headers.get("a"), Some("b"));
        assert_eq!(parse(br#"{"data":null}"#).unwrap().data.get(), "null", "null is data too");
    }

    #[test]
    fn an_optional_field_that_is_null_counts_as_absent() {
        let nulls = r#"{"data":null,"name":null,"id":null,"delay":null,"deliver_at":null,"priority":null,"max_attempts":null,
            "backoff":null,"timeout":null,"ttl":null,"hold":null,"headers":null}"#;
        let message = parse(nulls.as_bytes()).unwrap();
        assert_eq!(format!("{message:?}"), format!("{:?}", NewMessage::new(RawValue::NULL.to_owned())));
        let message = parse(br#"{"data":1,"delay":"1s","deliver_at":null,"backoff":{"delay":5,"max":null}}"#).unwrap();
        assert_eq!(message.backoff, Some(Backoff { delay: Millis::new(5).try_into().unwrap(), ..Backoff::default() }));
        assert_eq!(parse_batch(format!(r#"{{"messages":[{nulls}]}}"#).as_bytes()).unwrap().len(), 1);
        assert!(parse_line(nulls.replace('\n', " ").as_bytes()).is_ok());
        // A key that does not exist is told all the same.
        assert_eq!(errors(r#"{"data":1,"dealy":null}"#)[0].0, "/dealy");
        assert!(parse_batch(br#"{"messages":null}"#).unwrap_err().errors()[0].detail.starts_with("required"));
    }

    #[test]
    fn what_is_wrong_is_told_field_by_field() {
        assert_eq!(
            errors(r#"{"dta":1}"#),
            [
                ("/dta".into(), "unknown: did you mean \"data\"?".into()),
                ("/data".into(), "required: the payload, any JSON".into()),
            ]
        );
        let all = errors(
            r#"{"data":1,"delay":-1,"priority":1.5,"max_attempts":0,"name":"","id":"42","headers":{"a":1},
                "backoff":{"jitter":2},"deliver_at":"soon"}"#,
        );
        let pointers: Vec<&str> = all.iter().map(|(pointer, _)| pointer.as_str()).collect();
        let expected = ["/delay", "/priority", "/max_attempts", "/name", "/id", "/headers", "/backoff", "/deliver_at"];
        assert_eq!(pointers, expected);
        assert_eq!(all[0].1, "a duration must not be negative");
        assert_eq!(errors(r#"{"data":1,"delay":1,"deliver_at":"2030-01-01T00:00:00Z"}"#)[0].0, "/deliver_at");
        assert_eq!(errors(r#"{"data":1,"delay":"3651d"}"#)[0].1, "must be at most 3650 days");
        assert!(errors(r#"{"data":1,"delay":true}"#)[0].1.contains("a duration"));
        for (field, told) in [("timeout", "1 ms to 7 days"), ("ttl", "1 ms to 3650 days")] {
            for bad in ["0", "\"3651d\""] {
                let told_of = errors(&format!(r#"{{"data":1,"{field}":{bad}}}"#));
                assert_eq!(told_of, [(format!("/{field}"), format!("must be {told}"))]);
            }
        }
        assert_eq!(errors(r#"{"data":1,"backoff":["fixed",5]}"#)[0].1, "it is a list, and must be an object");
        assert!(errors(r#"{"data":1,"hold":"a/b"}"#)[0].1.contains("without control characters or slashes"));
    }

    #[test]
    fn what_is_said_of_bad_input_is_no_longer_than_a_person_reads() {
        let long = "x".repeat(100_000);
        let bodies = [
            format!(r#"{{"data":1,"{long}":1}}"#),
            format!(r#"{{"data":1,"delay":"{long}"}}"#),
            format!(r#"{{"data":1,"{long}":1,"{long}":1}}"#),
            format!("{{{}}}", (0..10_000).map(|n| format!("\"a{n}\":1")).collect::<Vec<_>>().join(",")),
        ];
        for body in bodies {
            let problem = serde_json::to_string(&parse(body.as_bytes()).unwrap_err()).unwrap();
            assert!(problem.len() < 2_000, "{} bytes", problem.len());
        }
    }

    #[test]
    fn what_is_not_an_object_is_not_json_that_is_expected() {
        for body in ["", "{", "[]", "1", "nul", r#"{"data":1}x"#, r#"{"data":1,"data":2}"#, "{\"data\":\"\u{1}\"}"] {
            let problem = serde_json::to_value(parse(body.as_bytes()).unwrap_err()).unwrap();
            assert_eq!((&problem["status"], &problem["code"]), (&400.into(), &"invalid_json".into()), "{body}");
        }
        assert!(parse(b"{\"data\":\"\xff\"}").is_err());
    }

    #[test]
    fn a_batch_points_at_the_message() {
        let problem = parse_batch(br#"{"messages":[{"data":1},{"data":2,"delay":-1},3]}"#).unwrap_err();
        let problem = serde_json::to_value(problem).unwrap();
        assert_eq!(problem["errors"][0]["pointer"], "/messages/1/delay");
        assert_eq!(problem["errors"][1]["pointer"], "/messages/2");
        for body in [r#"{"messages":[]}"#, "{}", r#"{"messages":1}"#, r#"{"messges":[]}"#] {
            assert!(parse_batch(body.as_bytes()).is_err(), "{body}");
        }
        let many = format!(r#"{{"messages":[{}]}}"#, vec![r#"{"data":1}"#; 1_001].join(","));
        assert!(parse_batch(many.as_bytes()).is_err());
    }

    #[test]
    fn an_id_of_the_producers_own_is_escaped_in_the_location() {
        let location = location(&"q".parse().unwrap(), &"a b?#%ä".parse().unwrap());
        assert_eq!(location, "/v1/queues/q/messages/a%20b%3F%23%25%C3%A4");
    }
}
