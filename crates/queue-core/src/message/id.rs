//! The ids of messages: Drover's id, and the id by which a client names a message.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::{
    names::{OwnId, validated_text},
    parse_error::ParseError,
    time::Timestamp,
};

validated_text! {
    /// Drover's id of a message: 14 decimal digits. A message that was posted later has a larger id.
    MessageId, up to 14 of "^[0-9]{14}$", |text| {
        if text.len() == 14 && text.bytes().all(|b| b.is_ascii_digit()) { Ok(()) } else {
            Err("a message's id is 14 digits")
        }
    }
}

impl MessageId {
    /// Estimates the time of the post from the id: ids count units of 10 µs since 2020, and may run ahead of the clock.
    pub(crate) fn posted_at(&self) -> Timestamp {
        const YEAR_2020_MS: u64 = 1_577_836_800_000;
        Timestamp::from_millis(YEAR_2020_MS + self.as_str().parse::<u64>().unwrap_or(0) / 100)
    }
}

/// An id by which a client names a message: Drover's id, or the producer's own id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum MessageRef {
    /// Drover's id of the message.
    Id(MessageId),
    /// The own id of the message, which the producer chose.
    Own(OwnId),
}

impl MessageRef {
    /// Returns the text of the id.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Id(id) => id.as_str(),
            Self::Own(id) => id.as_str(),
        }
    }
}

impl Serialize for MessageRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for MessageRef {
    fn schema() -> RefOr<Schema> {
        /// A regular expression that matches Drover's ids and own ids.
        const PATTERN: &str = r"^(?:[0-9]{14}|(?!\.{1,2}$)(?!batch$)(?![0-9]+$)[^/\u0000-\u001f\u007f-\u009f]+)$";
        let text_schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(PATTERN));
        text_schema.min_length(Some(1)).max_length(Some(256)).into()
    }
}

impl ToSchema for MessageRef {}

impl FromStr for MessageRef {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        text.parse().map(Self::Id).or_else(|_| text.parse().map(Self::Own))
    }
}

impl From<MessageId> for MessageRef {
    fn from(id: MessageId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for MessageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
