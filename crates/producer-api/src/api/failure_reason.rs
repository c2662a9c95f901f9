//! The reason why an attempt failed, as a consumer states it.
//!
//! In a reason, lone UTF-16 surrogates are replaced, and a missing code or message gets a default, so that a consumer can
//! always end its attempt.

use queue_core::Failure;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use service::wording;
use utoipa::ToSchema;

use super::json;

/// The reason why an attempt failed: a text, or an object with the parts of the error.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
pub(super) enum Reason {
    Text(#[schema(inline)] LossyText),
    Parts(Parts),
}

impl Default for Reason {
    fn default() -> Self {
        Self::Parts(Parts::default())
    }
}

/// The parts of the error of an attempt.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Parts {
    /// A word that programs match; `failed` if absent. A word longer than 128 bytes is cut.
    #[schema(inline)]
    code: Option<LossyText>,
    /// A sentence for people. A sentence longer than 8 KiB as JSON is cut, and then ends with … (cut).
    #[schema(inline)]
    message: Option<LossyText>,
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        let (code, message) = match reason {
            Reason::Text(message) => (None, Some(message)),
            Reason::Parts(Parts { code, message }) => (code, message),
        };
        let or_default =
            |text: Option<LossyText>, default: &str| text.map_or_else(|| default.to_owned(), |LossyText(text)| text);
        Self::new(or_default(code, "failed"), or_default(message, "the consumer gave no reason"))
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        if json.get().starts_with('{') {
            return json::parse_part(&json).map(Self::Parts).map_err(de::Error::custom);
        }
        let text = serde_json::from_str(json.get()).map(Self::Text);
        text.map_err(|error| de::Error::custom(wording::value_mistake(&error)))
    }
}

// A text in which each half of a character (a `\u` escape without its other half) is replaced by U+FFFD.
#[derive(Debug, ToSchema)]
pub(super) struct LossyText(String);

impl<'de> Deserialize<'de> for LossyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = String;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text")
            }

            // The text is read as bytes, because a `String` can't contain a lone surrogate.
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
                let mut text = String::with_capacity(bytes.len());
                for chunk in bytes.utf8_chunks() {
                    text.push_str(chunk.valid());
                    // A lone surrogate has three bytes, and each byte is an invalid chunk. Only the first byte of a lone
                    // surrogate is not a UTF-8 continuation byte.
                    if chunk.invalid().first().is_some_and(|byte| byte & 0b1100_0000 != 0b1000_0000) {
                        text.push(char::REPLACEMENT_CHARACTER);
                    }
                }
                Ok(text)
            }
        }
        deserializer.deserialize_bytes(Bytes).map(Self)
    }
}
