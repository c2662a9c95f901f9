//! Names, keys and ids: each type validates its text, explains in its error what is invalid, and provides the JSON schema.

use std::{fmt, str::FromStr};

use crate::parse_error::ParseError;

/// Defines a newtype over a validated text, with the conversions that such a type needs.
macro_rules! validated_text {
    ($(#[$doc:meta])* $name:ident, up to $max:literal of $pattern:literal, $validate:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the name, the key or the id as a text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = ParseError;

            fn try_from(text: String) -> Result<Self, ParseError> {
                let validate: fn(&str) -> Result<(), &'static str> = $validate;
                validate(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                text.to_owned().try_into()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                use utoipa::openapi::{ObjectBuilder, Type};
                let text_schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some($pattern));
                text_schema.min_length(Some(1)).max_length(Some($max)).into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
pub(crate) use validated_text;

fn is_identifier(text: &str, max: usize) -> bool {
    text.len() <= max
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.:-".contains(&b))
}

fn is_plain_text(text: &str, max: usize) -> bool {
    // A character has at most four bytes, so the characters of a text with more than `max * 4` bytes need not be counted.
    (1..=max * 4).contains(&text.len()) && text.chars().count() <= max && !text.chars().any(char::is_control)
}

/// Whether a text can be a segment of a URL's path; clients remove the segments `.` and `..` before they send a request.
fn is_path_segment(text: &str, max: usize) -> bool {
    is_plain_text(text, max) && !text.contains('/') && text != "." && text != ".."
}

validated_text! {
    /// The name of a queue: 1 to 128 letters, digits or characters of `_.:-`; the first character is a letter or a digit.
    QueueName, up to 128 of r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$", |text| {
        if is_identifier(text, 128) { Ok(()) } else {
            Err("a queue's name is 1 to 128 characters of A-Z a-z 0-9 _ . : - and starts with a letter or digit")
        }
    }
}

validated_text! {
    /// The name of a schedule: 1 to 128 letters, digits or characters of `_.:-`; the first character is a letter or a digit.
    ScheduleName, up to 128 of r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$", |text| {
        if is_identifier(text, 128) { Ok(()) } else {
            Err("a schedule's name is 1 to 128 characters of A-Z a-z 0-9 _ . : - and starts with a letter or digit")
        }
    }
}

validated_text! {
    /// The kind of a message, by which workers choose the handler: 1 to 128 characters without control characters.
    MessageName, up to 128 of r"^[^\u0000-\u001f\u007f-\u009f]+$", |text| {
        if is_plain_text(text, 128) { Ok(()) } else {
            Err("a message's name is 1 to 128 characters without control characters")
        }
    }
}

validated_text! {
    /// An id that the producer chose. Clients may use an own id instead of Drover's id. Drover's ids are all digits, so an own id
    /// that is all digits is refused. `batch` is reserved, because the API has the path `messages/batch`.
    OwnId, up to 256 of r"^(?!\.{1,2}$)(?!batch$)(?![0-9]+$)[^/\u0000-\u001f\u007f-\u009f]+$", |text| {
        if !is_path_segment(text, 256) {
            Err("an id is 1 to 256 characters without control characters or slashes, and not dots alone")
        } else if text == "batch" {
            Err("an id must not be \"batch\", which is reserved")
        } else if text.bytes().all(|b| b.is_ascii_digit()) {
            Err("an id of your own must not be all digits, as Drover's ids are; put a letter in it")
        } else {
            Ok(())
        }
    }
}

validated_text! {
    /// The key of the signal that a held message waits for.
    SignalKey, up to 256 of r"^(?!\.{1,2}$)[^/\u0000-\u001f\u007f-\u009f]+$", |text| {
        if is_path_segment(text, 256) { Ok(()) } else {
            Err("a key is 1 to 256 characters without control characters or slashes, and not dots alone")
        }
    }
}

validated_text! {
    /// The key of a group. The messages of a group are leased in order, and the groups of a queue have turns.
    GroupKey, up to 256 of r"^(?!\.{1,2}$)[^/\u0000-\u001f\u007f-\u009f]+$", |text| {
        if is_path_segment(text, 256) { Ok(()) } else {
            Err("a group is 1 to 256 characters without control characters or slashes, and not dots alone")
        }
    }
}

validated_text! {
    /// A key that a producer sends with a request, so that a repeated request has no further effect.
    IdempotencyKey, up to 255 of r"^[!-~]+$", |text| {
        if (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) { Ok(()) } else {
            Err("an idempotency key is 1 to 255 visible ASCII characters")
        }
    }
}

validated_text! {
    /// The id of a process or client that leases messages. A process generates its consumer id: if operators configured consumer ids,
    /// two processes could have the same id, and an exclusive queue would take them for one owner.
    ConsumerId, up to 64 of r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$", |text| {
        if is_identifier(text, 64) { Ok(()) } else {
            Err("a consumer's id is 1 to 64 characters of A-Z a-z 0-9 _ . : -")
        }
    }
}

impl ConsumerId {
    /// Issues a new id that no other consumer has.
    pub fn issue() -> Self {
        Self(format!("c-{:012x}", rand::random::<u64>() >> 16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_name_is_up_to_128_allowed_characters() {
        for good in ["q", "my-queue", "0", "a_b.c:d-e", &"x".repeat(128)] {
            assert!(good.parse::<QueueName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "{a}", "ä", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<QueueName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn own_ids_are_never_all_digits() {
        assert!("order-42".parse::<OwnId>().is_ok());
        assert!("42a".parse::<OwnId>().is_ok());
        assert!("ä".repeat(256).parse::<OwnId>().is_ok(), "characters are counted, not bytes");
        for bad in ["42", "batch", "", ".", "..", "a\tb", "a/b", &"x".repeat(257), &"ä".repeat(257)] {
            assert!(bad.parse::<OwnId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn issued_consumer_ids_differ() {
        assert_ne!(ConsumerId::issue(), ConsumerId::issue());
    }
}
