//! The secrets that requests are signed with.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserializer, Serialize, Serializer, de};

/// What requests are signed with, as Standard Webhooks write it: `whsec_` and 24 to 64 bytes as base64. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    const PREFIX: &str = "whsec_";
    const HIDDEN: &str = "whsec_***";

    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Reads a file of secrets, one a line.
    ///
    /// # Errors
    ///
    /// What is wrong with which line, without what stands there.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        let parse = |(at, line): (usize, &str)| line.parse().map_err(|error| format!("line {}: {error}", at + 1));
        let secrets: Vec<Self> = lines.map(parse).collect::<Result<_, _>>()?;
        if secrets.is_empty() { Err("there is no secret in it".into()) } else { Ok(secrets) }
    }
}

impl std::str::FromStr for WebhookSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == Self::HIDDEN {
            return Err("the secret is hidden here, as --print-config does; put the secret itself in".into());
        }
        // The text itself is never told.
        let bytes = text.strip_prefix(Self::PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
        match bytes {
            Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(Self(bytes)),
            Some(bytes) => Err(format!("a secret has 24 to 64 bytes behind \"whsec_\", this one has {}", bytes.len())),
            None => Err("a secret is \"whsec_\" and 24 to 64 bytes as base64; make one with: \
                         echo whsec_$(openssl rand -base64 32)"
                .into()),
        }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN)
    }
}

impl Serialize for WebhookSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Self::HIDDEN)
    }
}

/// One secret, or a list of them.
pub(super) fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WebhookSecret>, D::Error> {
    struct OneOrSeveral;
    impl<'de> de::Visitor<'de> for OneOrSeveral {
        type Value = Vec<WebhookSecret>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a secret as a text, or a list of them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.parse().map(|secret| vec![secret]).map_err(E::custom)
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut secrets = Vec::new();
            while let Some(text) = list.next_element::<String>()? {
                secrets.push(text.parse().map_err(de::Error::custom)?);
            }
            Ok(secrets)
        }
    }
    deserializer.deserialize_any(OneOrSeveral)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_secret_is_24_to_64_bytes_as_base64_behind_a_prefix() {
        let of = |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes])).parse::<WebhookSecret>();
        assert_eq!(SECRET.parse::<WebhookSecret>().unwrap().expose().len(), 24);
        assert!(of(24).is_ok() && of(64).is_ok());
        assert!(of(23).unwrap_err().contains("24 to 64"));
        assert!(of(65).unwrap_err().contains("24 to 64"));
        for bad in ["", "whsec_", "secret-of-mine", &SECRET[6..], "whsec_not base64 at all!"] {
            let error = bad.parse::<WebhookSecret>().unwrap_err();
            assert!(bad.len() < 7 || !error.contains(bad), "an error must not tell what may be a secret: {error}");
        }
        assert!("whsec_***".parse::<WebhookSecret>().unwrap_err().contains("--print-config"));
    }

    #[test]
    fn a_file_has_one_a_line() {
        assert_eq!(WebhookSecret::parse_lines(&format!("{SECRET}\n\n  {SECRET}\n")).unwrap().len(), 2);
        assert_eq!(WebhookSecret::parse_lines(&format!("{SECRET}\nhunter2")).unwrap_err().find("line 2"), Some(0));
        assert!(WebhookSecret::parse_lines("\n").is_err());
    }
}
