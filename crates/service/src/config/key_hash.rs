//! The hash of an API key.

use std::{fmt, fmt::Write, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

const ALGORITHM: &str = "sha256:";

/// The SHA-256 of an API key: all that is kept of it.
///
/// Not a slow hash: these make up for what people choose. A key is 256 random bits; nobody finds one by trying, however
/// fast each try is, and a slow hash would cost every request.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of the digest of a key.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for KeyHash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // What is no hash may be the key itself, so it is not repeated.
        const EXPECTED: &str = "not the hash of a key; expected \"sha256:\" and 64 hexadecimal digits, as the command \
                                `producer-api key` (in a clone: target/release/producer-api key) prints it beside the key";
        let digits = text.strip_prefix(ALGORITHM).ok_or(EXPECTED)?.as_bytes();
        let mut digest = [0; 32];
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.len() != digest.len() || !rest.is_empty() {
            return Err(EXPECTED);
        }
        for (byte, [high, low]) in digest.iter_mut().zip(pairs) {
            let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            *byte = digit(high).ok_or(EXPECTED)? << 4 | digit(low).ok_or(EXPECTED)?;
        }
        Ok(Self(digest))
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ALGORITHM)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Nobody gets in with a hash, but it has no business in a log.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        write!(text, "{self}").map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nothing_else_is_a_hash() {
        let hash = KeyHash::new(std::array::from_fn(|at| u8::try_from(at * 8).unwrap()));
        assert_eq!(hash.to_string().parse::<KeyHash>().unwrap(), hash);
        assert!(hash.to_string().starts_with("sha256:0008101820"));
        let digits = "0".repeat(64);
        for text in [&digits, "sha256:", &format!("sha256:{digits}0"), &format!("sha256:{}g", &digits[1..]), "drv_a_b"]
        {
            let error = text.parse::<KeyHash>().unwrap_err();
            assert!(!error.contains("drv_"), "{error}");
        }
        assert_eq!(format!("{hash:?}"), "KeyHash(…)");
    }
}
