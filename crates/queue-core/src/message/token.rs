//! The token of a lease, and its secret half.

use std::{borrow::Cow, fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::{message::id::MessageId, parse_error::ParseError};

/// The secret half of a lease's token: 128 random bits, generated for each lease call.
///
/// The caller generates the secret, not Redis, so no secret is used twice, even if Redis was restored from a backup or emptied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn generate() -> Self {
        Self(URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The token of one lease: it names the message and proves the right to work on it. The text of a token is the message's id, `-`,
/// and 22 characters that can't be guessed.
#[derive(Clone, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct LeaseToken {
    id: MessageId,
    secret: Secret,
}

impl LeaseToken {
    pub(crate) fn new(id: MessageId, secret: Secret) -> Self {
        Self { id, secret }
    }

    /// The id of the leased message.
    pub fn id(&self) -> &MessageId {
        &self.id
    }

    pub(crate) fn secret(&self) -> &str {
        self.secret.as_str()
    }
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.id, self.secret.0)
    }
}

impl Serialize for LeaseToken {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl PartialSchema for LeaseToken {
    fn schema() -> RefOr<Schema> {
        let text_schema =
            ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]{14}-[A-Za-z0-9_-]{21}[AQgw]$"));
        let text_schema = text_schema.examples(["21759559372713-mY9hV1Qb0mX3cG7n2sKk5A"]);
        text_schema.description(Some("The token that came with the lease")).into()
    }
}

impl ToSchema for LeaseToken {
    fn name() -> Cow<'static, str> {
        "Lease".into()
    }
}

/// The debug output shows only the message's id, because a reader of a log with the whole token could settle the lease.
impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({}-…)", self.id)
    }
}

impl TryFrom<String> for LeaseToken {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl FromStr for LeaseToken {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const NOT_A_TOKEN: &str = "a lease token is the text that came with the lease, unchanged";
        let (id, secret) = text.split_once('-').ok_or(NOT_A_TOKEN)?;
        let is_secret = secret.len() == 22 && URL_SAFE_NO_PAD.decode(secret).is_ok();
        if !is_secret {
            return Err(NOT_A_TOKEN.into());
        }
        let id = id.parse().map_err(|_| NOT_A_TOKEN)?;
        Ok(Self { id, secret: Secret(secret.to_owned()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_token_reads_back_as_it_was_written() {
        let token = LeaseToken::new("21718923400017".parse().unwrap(), Secret::generate());
        assert_eq!(token.to_string().parse::<LeaseToken>().unwrap(), token);
        assert!("21718923400017-short".parse::<LeaseToken>().is_err());
        assert!("".parse::<LeaseToken>().is_err());
    }

    #[test]
    fn lease_token_is_hidden_in_debug_output() {
        let token = LeaseToken::new("21718923400017".parse().unwrap(), Secret::generate());
        assert!(!format!("{token:?}").contains(token.secret()));
    }
}
