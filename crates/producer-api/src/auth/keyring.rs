//! API keys: the secret text that only the owner of a key has, and the keyring with the hashes of all keys.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use queue_core::Timestamp;
use rand::{TryRng, rngs::SysRng};
use service::config::{ApiKey, KeyHash, KeyId};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tracing::debug;

/// A hash that no key has. If a client presents a key with an unknown id, the hash of the presented key is compared with
/// `HASH_OF_NO_KEY`, so that the lookup takes as long as for a known id.
const HASH_OF_NO_KEY: [u8; 32] = [0; 32];

#[derive(Debug, Default)]
pub(crate) struct Keyring {
    by_id: HashMap<KeyId, Vec<Arc<ApiKey>>>,
}

impl Keyring {
    pub(crate) fn new(keys: Vec<ApiKey>) -> Self {
        let mut keys_by_id: HashMap<KeyId, Vec<Arc<ApiKey>>> = HashMap::new();
        for key in keys {
            keys_by_id.entry(key.id.clone()).or_default().push(Arc::new(key));
        }
        Self { by_id: keys_by_id }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Returns the number of keys, and the number of different ids of the keys.
    pub(crate) fn count_keys_and_ids(&self) -> (usize, usize) {
        (self.by_id.values().map(Vec::len).sum(), self.by_id.len())
    }

    pub(crate) fn expired_keys(&self) -> impl Iterator<Item = &ApiKey> {
        let now = system_time();
        self.by_id.values().flatten().map(Arc::as_ref).filter(move |key| has_expired(key, now))
    }

    /// Finds the key with the text that a client presented, if the key is known and has not expired.
    ///
    /// The lookup takes as long for an unknown id as for a known id, and its duration does not reveal which bits of a hash are
    /// wrong.
    pub(crate) fn find(&self, presented: &str) -> Option<&Arc<ApiKey>> {
        let presented_hash = hash(presented);
        let candidates = id_in_key(presented).and_then(|id| self.by_id.get(id)).map_or(&[][..], Vec::as_slice);
        if candidates.is_empty() {
            let _ = are_equal_hashes(&presented_hash, &HASH_OF_NO_KEY);
            debug!("an unknown key was refused");
            return None;
        }
        let mut found_key = None;
        for key in candidates {
            if are_equal_hashes(&presented_hash, key.hash.as_bytes()) {
                found_key = Some(key);
            }
        }
        let Some(key) = found_key else {
            debug!(key = %candidates[0].id, "a wrong key was refused");
            return None;
        };
        if has_expired(key, system_time()) {
            debug!(key = %key.id, "an expired key was refused");
            return None;
        }
        Some(key)
    }
}

fn are_equal_hashes(hash: &KeyHash, other: &[u8; 32]) -> bool {
    hash.as_bytes().ct_eq(other).into()
}

fn has_expired(key: &ApiKey, now: Timestamp) -> bool {
    key.expires_at.is_some_and(|end| end <= now)
}

fn system_time() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

const KEY_PREFIX: &str = "drv_";
/// The number of base64url characters of the 256 random bits of a key.
const RANDOM_PART_LENGTH: usize = 43;

/// The text of an API key, which only the key's owner has: `drv_<id>_<43 characters of base64url>`, where the last part encodes
/// 256 random bits.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Creates a key with random bytes from the operating system.
    pub(crate) fn generate(id: &KeyId) -> Result<Self, rand::rngs::SysError> {
        let mut random_bytes = [0; 32];
        SysRng.try_fill_bytes(&mut random_bytes)?;
        Ok(Self(format!("{KEY_PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(random_bytes))))
    }

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

/// Returns the hash of a key, which is stored instead of the key. The hash covers the whole text of the key, so a key with a
/// changed id is invalid.
pub(crate) fn hash(key: &str) -> KeyHash {
    KeyHash::new(Sha256::digest(key).into())
}

/// Returns the id that a text of a key contains; the keyring may have no key with that id.
pub(crate) fn id_in_key(key: &str) -> Option<&str> {
    let id_and_random_part = key.strip_prefix(KEY_PREFIX)?;
    // The id and the random part of a key may contain underscores, so the function separates them by the length of the random
    // part.
    let (id, random_part) =
        id_and_random_part.split_at_checked(id_and_random_part.len().checked_sub(RANDOM_PART_LENGTH + 1)?)?;
    random_part.starts_with('_').then_some(id)
}

#[cfg(test)]
mod tests {
    use service::config::{QueuePattern, Scope};

    use super::*;

    fn key(id: &str, expires_at: Option<u64>) -> (Secret, ApiKey) {
        let id: KeyId = id.parse().unwrap();
        let secret = Secret::generate(&id).unwrap();
        let key = ApiKey {
            id,
            hash: secret.hash(),
            scopes: vec![Scope::Read].try_into().unwrap(),
            queues: vec![QueuePattern::all()],
            rate_limit: None,
            expires_at: expires_at.map(Timestamp::from_millis),
        };
        (secret, key)
    }

    #[test]
    fn api_key_is_found_only_by_its_own_text() {
        let (secret, ops) = key("ops", None);
        let (other, mail) = key("mail", None);
        let (unknown_key, _) = key("ops", None);
        let keyring = Keyring::new(vec![ops, mail]);
        assert_eq!(keyring.find(secret.expose()).unwrap().id.as_str(), "ops");
        assert_eq!(keyring.find(other.expose()).unwrap().id.as_str(), "mail");
        let renamed_key = secret.expose().replace("drv_ops", "drv_mail");
        let truncated_key = &secret.expose()[..secret.expose().len() - 1];
        let longer_key = format!("{}A", secret.expose());
        for wrong in [unknown_key.expose(), &renamed_key, truncated_key, &longer_key, "", "drv_ops_", "ops"] {
            assert!(keyring.find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn api_keys_of_one_id_are_valid_together_until_one_expires() {
        let now = system_time().as_millis();
        let (old, first) = key("ops", Some(now + 60_000));
        let (new, second) = key("ops", None);
        let (expired, third) = key("ops", Some(now));
        let keyring = Keyring::new(vec![first, second, third]);
        assert!(keyring.find(old.expose()).is_some() && keyring.find(new.expose()).is_some());
        assert!(keyring.find(expired.expose()).is_none());
        assert_eq!((keyring.count_keys_and_ids(), keyring.expired_keys().count()), ((3, 1), 1));
    }

    #[test]
    fn new_api_key_contains_its_id_and_256_random_bits() {
        for name in ["ops", "a_b", "x-1.2_"] {
            let name: KeyId = name.parse().unwrap();
            let (one, other) = (Secret::generate(&name).unwrap(), Secret::generate(&name).unwrap());
            assert_eq!(id_in_key(one.expose()), Some(name.as_str()));
            assert_ne!(one.expose(), other.expose());
            assert_ne!(one.hash(), other.hash());
            let (_, random_part) = one.expose().split_at(one.expose().len() - RANDOM_PART_LENGTH);
            assert_eq!(URL_SAFE_NO_PAD.decode(random_part).unwrap().len(), 32);
            assert_eq!(format!("{one:?}"), "Secret(…)");
        }
    }

    #[test]
    fn no_id_is_read_from_a_text_that_is_no_api_key() {
        for text in
            ["", "drv_", "drv_ops", "drv_ops_short", "xyz_ops_", &"é".repeat(30), &format!("drv_{}", "é".repeat(23))]
        {
            assert_eq!(id_in_key(text), None, "{text}");
        }
    }
}
