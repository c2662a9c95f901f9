use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rand::{TryRng, rngs::SysRng};
use service::config::{KeyHash, KeyId};
use sha2::{Digest, Sha256};

const PREFIX: &str = "drv_";
/// 256 bits as base64url.
const RANDOM_LENGTH: usize = 43;

/// An API key as its owner has it: `drv_<id>_<43 characters of base64url>`, of which the last are 256 random bits.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Draws one, from the randomness of the operating system.
    pub(crate) fn draw(id: &KeyId) -> Result<Self, rand::rngs::SysError> {
        let mut random = [0; 32];
        SysRng.try_fill_bytes(&mut random)?;
        Ok(Self(format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(random))))
    }

    /// Only for its owner's eyes.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn hash(&self) -> KeyHash {
        hash(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is kept of a key. The whole text is hashed, so a key with another id is another key.
pub(crate) fn hash(key: &str) -> KeyHash {
    KeyHash::new(Sha256::digest(key).into())
}

/// The id in what claims to be a key. It has no claim to be one that there is.
pub(crate) fn id(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(PREFIX)?;
    // Both the id and what is random may have an underscore.
    let (id, random) = rest.split_at_checked(rest.len().checked_sub(RANDOM_LENGTH + 1)?)?;
    random.starts_with('_').then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_id_and_has_256_bits_that_are_new_each_time() {
        for name in ["ops", "a_b", "x-1.2_"] {
            let name: KeyId = name.parse().unwrap();
            let (one, other) = (Secret::draw(&name).unwrap(), Secret::draw(&name).unwrap());
            assert_eq!(id(one.expose()), Some(name.as_str()));
            assert_ne!(one.expose(), other.expose());
            assert_ne!(one.hash(), other.hash());
            let (_, random) = one.expose().split_at(one.expose().len() - RANDOM_LENGTH);
            assert_eq!(URL_SAFE_NO_PAD.decode(random).unwrap().len(), 32);
            assert_eq!(format!("{one:?}"), "Secret(…)");
        }
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        for text in
            ["", "drv_", "drv_ops", "drv_ops_short", "xyz_ops_", &"é".repeat(30), &format!("drv_{}", "é".repeat(23))]
        {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
