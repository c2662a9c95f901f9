//! Signals, which release held messages, and the list of sticky signals.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use queue_core::{Signal, SignalKey, Signalled, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use service::Code;
use utoipa::{IntoParams, ToSchema};

use super::{Limit, json::Body};
use crate::request::query;

impl Body for Signal {
    const INVALID_BODY_CODE: Code = Code::InvalidSignal;
}

/// The effect of a signal.
#[derive(Serialize, ToSchema)]
pub(crate) struct Released {
    /// The number of held messages that the signal released.
    pub(crate) released: u64,
    /// The instant until which the signal is kept, so that newly posted messages with the key are not held; null if the signal is not
    /// sticky.
    #[schema(required)]
    pub(crate) sticky_until: Option<Timestamp>,
}

impl From<Signalled> for Released {
    fn from(Signalled { released, sticky_until }: Signalled) -> Self {
        Self { released, sticky_until }
    }
}

/// A sticky signal.
#[derive(Serialize, ToSchema)]
pub(crate) struct StickySignal {
    /// The hold key of the signal, for which messages wait.
    #[schema(inline)]
    pub(crate) key: SignalKey,
    /// The data of the signal, which each released message has in its field `signal`.
    #[schema(required, value_type = Value)]
    pub(crate) data: Option<Box<RawValue>>,
    /// The instant until which newly posted messages with the key are not held.
    pub(crate) sticky_until: Timestamp,
    /// The number of messages that are still held for the key, and that the signal will release.
    pub(crate) held: u64,
}

/// A page of sticky signals.
#[derive(Serialize, ToSchema)]
pub(crate) struct SignalPage {
    pub(crate) signals: Vec<StickySignal>,
    /// The cursor of the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(crate) next_cursor: Option<String>,
}

/// The query of a list of signals.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SignalQuery {
    /// The maximum number of signals; 50 if absent.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    pub(crate) limit: Option<Limit>,
    /// The `next_cursor` of the previous page.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    pub(crate) cursor: Option<String>,
}

/// Returns the cursor after a page, as an opaque text: the key of the page's last signal, and the instant until which that
/// signal is sticky.
pub(crate) fn encode_cursor(sticky_until: Timestamp, key: &SignalKey) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}:{key}", sticky_until.as_millis()))
}

/// Decodes a cursor that [`encode_cursor`] returned.
pub(crate) fn decode_cursor(cursor: &str) -> Option<(Timestamp, SignalKey)> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (sticky_until, key) = text.split_once(':')?;
    let sticky_until = sticky_until
        .parse()
        .ok()
        .map(Timestamp::from_millis)
        .filter(|sticky_until| *sticky_until < Timestamp::LIMIT)?;
    Some((sticky_until, key.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::json;

    #[test]
    fn fields_of_a_signal_are_read_and_invalid_fields_are_refused() {
        let parse_signal = |body: &str| json::parse_body::<Signal>(body.as_bytes());
        let signal = parse_signal(r#"{"data": {"paid": [] }, "sticky_for": "30d"}"#).unwrap();
        assert_eq!(signal.data.unwrap().get(), r#"{"paid": [] }"#);
        assert_eq!(signal.sticky_for.unwrap().to_string(), "30d");
        for none in ["{}", r#"{"data":null,"sticky_for":null}"#] {
            let signal = parse_signal(none).unwrap();
            assert!(signal.data.is_none() && signal.sticky_for.is_none());
        }
        let long_text = format!(r#"{{"data":"{}"}}"#, "x".repeat(4_095));
        for (body, pointer) in [
            (long_text.as_str(), "/data"),
            (r#"{"sticky_for":0}"#, "/sticky_for"),
            (r#"{"sticky_for":"31d"}"#, "/sticky_for"),
            (r#"{"stick_for":1}"#, "/stick_for"),
        ] {
            let problem = parse_signal(body).unwrap_err();
            assert_eq!((problem.code(), problem.errors()[0].pointer.as_str()), (Code::InvalidSignal, pointer));
        }
        assert_eq!(parse_signal("[]").unwrap_err().code(), Code::InvalidJson);
    }

    #[test]
    fn cursor_is_decoded_to_its_signal_and_any_other_text_is_refused() {
        let (sticky_until, key) = (Timestamp::from_millis(1_795_424_400_000), "a:b ä".parse().unwrap());
        assert_eq!(decode_cursor(&encode_cursor(sticky_until, &key)), Some((sticky_until, key)));
        for other in ["", "!", "AAAA", &URL_SAFE_NO_PAD.encode("5:a/b"), &URL_SAFE_NO_PAD.encode("x:a")] {
            assert_eq!(decode_cursor(other), None, "{other}");
        }
    }
}
