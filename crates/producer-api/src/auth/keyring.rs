use std::{
    collections::HashMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use queue_core::Timestamp;
use service::config::{ApiKey, KeyHash, KeyId};
use subtle::ConstantTimeEq;
use tracing::debug;

use super::secret;

/// What no key hashes to, that anybody has: compared where there is nothing to compare.
const NOBODY: [u8; 32] = [0; 32];

/// All API keys, by their ids.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    by_id: HashMap<KeyId, Vec<Arc<ApiKey>>>,
}

impl Keyring {
    pub(crate) fn new(keys: Vec<ApiKey>) -> Self {
        let mut by_id: HashMap<KeyId, Vec<Arc<ApiKey>>> = HashMap::new();
        for key in keys {
            by_id.entry(key.id.clone()).or_default().push(Arc::new(key));
        }
        Self { by_id }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// How many there are, of how many owners.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.by_id.values().map(Vec::len).sum(), self.by_id.len())
    }

    /// Those that are not valid any more.
    pub(crate) fn expired(&self) -> impl Iterator<Item = &ApiKey> {
        let now = now();
        self.by_id.values().flatten().map(Arc::as_ref).filter(move |key| has_expired(key, now))
    }

    /// The key that was presented, if it is one and is valid.
    ///
    /// It takes as long for an id that there is not as for one that there is, and for a hash that is wrong in the first
    /// bit as for one that is wrong in the last.
    pub(crate) fn find(&self, presented: &str) -> Option<&Arc<ApiKey>> {
        let hash = secret::hash(presented);
        let candidates = secret::id(presented).and_then(|id| self.by_id.get(id)).map_or(&[][..], Vec::as_slice);
        if candidates.is_empty() {
            let _ = is_same(&hash, &NOBODY);
            debug!("a key that is not known was refused");
            return None;
        }
        let mut found = None;
        for key in candidates {
            if is_same(&hash, key.hash.as_bytes()) {
                found = Some(key);
            }
        }
        let Some(key) = found else {
            debug!(key = %candidates[0].id, "a wrong key was refused");
            return None;
        };
        if has_expired(key, now()) {
            debug!(key = %key.id, "a key that has expired was refused");
            return None;
        }
        Some(key)
    }
}

fn is_same(hash: &KeyHash, other: &[u8; 32]) -> bool {
    hash.as_bytes().ct_eq(other).into()
}

fn has_expired(key: &ApiKey, now: Timestamp) -> bool {
    key.expires_at.is_some_and(|end| end <= now)
}

fn now() -> Timestamp {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use service::config::{QueuePattern, Scope};

    use super::{super::secret::Secret, *};

    fn key(id: &str, expires_at: Option<u64>) -> (Secret, ApiKey) {
        let id: KeyId = id.parse().unwrap();
        let secret = Secret::draw(&id).unwrap();
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
    fn a_key_is_found_by_itself_and_by_nothing_else() {
        let (secret, ops) = key("ops", None);
        let (other, mail) = key("mail", None);
        let (stranger, _) = key("ops", None);
        let keyring = Keyring::new(vec![ops, mail]);
        assert_eq!(keyring.find(secret.expose()).unwrap().id.as_str(), "ops");
        assert_eq!(keyring.find(other.expose()).unwrap().id.as_str(), "mail");
        let renamed = secret.expose().replace("drv_ops", "drv_mail");
        let cut = &secret.expose()[..secret.expose().len() - 1];
        let longer = format!("{}A", secret.expose());
        for wrong in [stranger.expose(), &renamed, cut, &longer, "", "drv_ops_", "ops"] {
            assert!(keyring.find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn two_keys_of_an_owner_live_at_once_until_one_expires() {
        let now = now().as_millis();
        let (old, first) = key("ops", Some(now + 60_000));
        let (new, second) = key("ops", None);
        let (gone, third) = key("ops", Some(now));
        let keyring = Keyring::new(vec![first, second, third]);
        assert!(keyring.find(old.expose()).is_some() && keyring.find(new.expose()).is_some());
        assert!(keyring.find(gone.expose()).is_none());
        assert_eq!((keyring.count(), keyring.expired().count()), ((3, 1), 1));
    }
}
