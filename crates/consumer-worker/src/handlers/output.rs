//! Converts bytes to the result of a message: the body of an HTTP response, or the output of a program.

use queue_core::{Failure, Queue};
use serde_json::value::RawValue;

use crate::routing::Outcome;

/// Completes a message with these bytes: JSON is kept unchanged, an empty output becomes null, and any other text becomes a
/// string. Invalid JSON is no failure, because the work is done and another attempt would repeat the work.
pub(super) fn into_result(bytes: &[u8]) -> Outcome {
    let text = bytes.trim_ascii();
    if text.is_empty() {
        return Outcome::Complete(RawValue::NULL.to_owned());
    }
    match serde_json::from_slice::<Box<RawValue>>(text) {
        Ok(json) => Outcome::Complete(json),
        Err(_) => Outcome::complete(&String::from_utf8_lossy(text)),
    }
}

/// Returns the outcome of a message whose output has more bytes than a result may have.
pub(super) fn outcome_of_too_large_result(source: &str, advice: &str) -> Outcome {
    Outcome::FailForGood(Failure::new(
        "result_too_large",
        format!(
            "{source} has more than the {} bytes that a result may have; {advice} discards the output",
            Queue::MAX_RESULT_BYTES
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_any_other_output_become_the_result_of_a_message() {
        for (bytes, expected) in [
            (&b"{\"a\": [1, 1e400]}\n"[..], "{\"a\": [1, 1e400]}"),
            (b"", "null"),
            (b" \r\n", "null"),
            (b"12345678901234567890123", "12345678901234567890123"),
            (b"done\n", "\"done\""),
            (b"<html>", "\"<html>\""),
            (b"{\"a\":", "\"{\\\"a\\\":\""),
            (b"1 2", "\"1 2\""),
            (b"\xff\xfe", "\"\u{fffd}\u{fffd}\""),
        ] {
            let Outcome::Complete(result) = into_result(bytes) else {
                panic!("{bytes:?} does not complete the message")
            };
            assert_eq!(result.get(), expected);
        }
        let nested_json = "[".repeat(50_000) + &"]".repeat(50_000);
        assert!(matches!(into_result(nested_json.as_bytes()), Outcome::Complete(_)), "JSON of any depth is kept");
    }
}
