//! The headers of the request that posts a message. Texts in headers are encoded so that the receiver gets every text of a
//! message exactly as the producer wrote it. The header `webhook-signature` has the signatures of Standard Webhooks.

use std::time::SystemTime;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use sha2::Sha256;

use crate::{config::WebhookSecret, job::Job};

/// The ASCII characters that are percent-encoded in the value of a header.
const HEADER_ESCAPES: &AsciiSet = &CONTROLS.add(b'%');
/// The characters that are percent-encoded in the id of a webhook. A dot in the id is percent-encoded, because a dot separates
/// the id from the timestamp in the signed text.
const ID_ESCAPES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Returns the headers of the request for a message.
pub(super) fn request_headers(job: &Job, secrets: &[WebhookSecret], body: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // A header whose value has a control character is omitted. Only trace headers that a producer wrote can contain a
    // control character.
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    let message = job.message();
    set("drover-message-id", header_text(message.id.as_str()));
    set("drover-queue", header_text(message.queue.as_str()));
    set("drover-attempt", job.attempt().to_string());
    if let Some(name) = &message.name {
        set("drover-name", header_text(name.as_str()));
    }
    if let Some(group) = &message.group {
        set("drover-group", header_text(group.as_str()));
    }
    if !message.headers.is_empty() {
        set("drover-headers", ascii_json(&serde_json::json!(message.headers).to_string()));
    }
    if let Some(signal) = job.signal() {
        set("drover-signal", ascii_json(signal.get()));
    }
    for (name, value) in job.trace_headers() {
        if let Some(value) = value {
            set(name, value);
        }
    }
    // An id is unique only within its queue, and a receiver may get messages of several queues.
    let id_part = |text: &str| utf8_percent_encode(text, ID_ESCAPES).to_string();
    let id = format!("{}:{}", id_part(message.queue.as_str()), id_part(message.id.as_str()));
    // The header `webhook-timestamp` contains the time by the clock of this machine.
    let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    if !secrets.is_empty() {
        set("webhook-signature", signatures(secrets, &id, timestamp, body));
    }
    set("webhook-id", id);
    set("webhook-timestamp", timestamp.to_string());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("drover/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// Encodes a text as the value of a header. `header_text` also encodes the spaces at both ends of the text, because receivers
/// trim the values of headers.
fn header_text(text: &str) -> String {
    let inner_text = text.trim_matches(' ');
    let leading_spaces = text.len() - text.trim_start_matches(' ').len();
    let trailing_spaces = text.len() - leading_spaces - inner_text.len();
    [
        "%20".repeat(leading_spaces),
        utf8_percent_encode(inner_text, HEADER_ESCAPES).to_string(),
        "%20".repeat(trailing_spaces),
    ]
    .concat()
}

/// Returns JSON in ASCII, with all other characters escaped. Line ends and tabs occur only between tokens, where a space is
/// equivalent.
fn ascii_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii_control() && char != '\u{7f}' {
            text.push(' ');
        } else if char.is_ascii() && char != '\u{7f}' {
            text.push(char);
        } else {
            let mut utf16_units = [0; 2];
            text.extend(char.encode_utf16(&mut utf16_units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// Returns the signatures of a body by the rules of Standard Webhooks, one signature for each secret.
fn signatures(secrets: &[WebhookSecret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let signature_by = |secret: &WebhookSecret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose()).expect("a key of HMAC may have any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    secrets.iter().map(signature_by).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;

    use super::*;
    use crate::testing::TestJob;

    #[test]
    fn any_producer_text_can_be_sent_in_a_header() {
        let job = TestJob::new("a.b", &1)
            .name("grüße 100%")
            .group("käufer 7")
            .id("bestellung.ä 1")
            .header("x", "ä\n\u{7f}😀")
            .attempt(2)
            .job();
        let headers = request_headers(&job, &[], b"1");
        let value = |name: &str| headers[name].to_str().unwrap();
        assert_eq!(value("drover-message-id"), "bestellung.%C3%A4 1");
        assert_eq!(value("drover-name"), "gr%C3%BC%C3%9Fe 100%25");
        assert_eq!(value("drover-group"), "k%C3%A4ufer 7");
        assert_eq!(value("drover-attempt"), "2");
        assert_eq!(value("drover-headers"), r#"{"x":"\u00e4\n\u007f\ud83d\ude00"}"#);
        assert_eq!(value("webhook-id"), "a%2Eb:bestellung%2E%C3%A4%201");
        assert!(!headers.contains_key("webhook-signature") && !headers.contains_key("drover-signal"));
    }

    #[test]
    fn receiver_decodes_exactly_the_producer_text() {
        for exact in [" a", "a ", "  ", " a  b ", "%20", "+", "\u{a0}a", "a\u{2028}", "ä", "a=b; c=\"d\"", ","] {
            let headers = request_headers(&TestJob::new("q", &1).name(exact).id(exact).job(), &[], b"1");
            // The test trims the value of a header, as the HTTP parser of a receiver does.
            let received_header = |name: &str| headers[name].to_str().unwrap().trim().to_owned();
            let decode_text = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            for name in ["drover-name", "drover-message-id"] {
                assert_eq!(decode_text(&received_header(name)), exact, "{name}");
            }
            let id = received_header("webhook-id");
            let id_parts: Vec<String> = id.split(':').map(decode_text).collect();
            assert_eq!(id_parts, ["q", exact], "{id}");
        }
    }

    #[test]
    fn signal_data_is_sent_in_its_own_header() {
        let signal = serde_json::value::RawValue::from_string("{\r\n\t\"ä\": [1,\n2]}".into()).unwrap();
        let headers = request_headers(&TestJob::new("q", &1).signal(&signal).job(), &[], b"1");
        assert_eq!(headers["drover-signal"], r#"{   "\u00e4": [1, 2]}"#);
    }

    #[test]
    fn webhook_signatures_are_those_of_the_library_standardwebhooks() {
        // The expected signatures were made with the public library standardwebhooks for Python.
        let secrets: Vec<WebhookSecret> =
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"; 2].map(|s| s.parse().unwrap()).into();
        let body = br#"{"test": 2432232314}"#;
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        assert_eq!(signatures(&secrets, id, 1_614_265_330, body), format!("{one} {one}"));
        assert_eq!(signatures(&[], id, 1_614_265_330, body), "");
    }
}
