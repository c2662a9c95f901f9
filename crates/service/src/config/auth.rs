//! The section `auth`: the API keys with their ids, hashes and scopes, and the file that contains more keys.

use std::{borrow::Borrow, collections::HashMap, fmt, str::FromStr};

use queue_core::{
    Millis, Timestamp,
    settings::{QueuePattern, RateLimit},
};
use serde::{Deserialize, Serialize, Serializer};
use strum::{Display, IntoStaticStr};

use super::{FilePath, InvalidConfig, sources::Sources};
use crate::wording::unknown_word;

/// The section `auth` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// The way in which clients are authenticated (default: `keys`).
    pub mode: AuthMode,
    /// A file with more API keys (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<FilePath>,
    /// The API keys (default: none).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<ApiKey>,
}

/// The way in which clients are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Clients are authenticated by API keys. While no key is configured, the API serves every client on its own machine and no
    /// other clients.
    Keys,
    /// Clients are not authenticated: each client may do everything.
    None,
}

impl Auth {
    /// Returns all API keys: the keys in the configuration, and the keys in `keys_file`, which `load_keys` reads.
    ///
    /// # Errors
    ///
    /// Returns an error if `keys_file` can't be read or has no keys, or if keys contradict each other.
    pub fn load_keys(&self) -> Result<Vec<ApiKey>, InvalidConfig> {
        let mut keys = self.keys.clone();
        if let Some(path) = &self.keys_file {
            keys.extend(read_keys(path).map_err(|error| InvalidConfig(format!("auth.keys_file: {error}")))?);
        }
        check_keys(&keys).map_err(InvalidConfig)?;
        Ok(keys)
    }

    /// Returns whether every client that reaches the API may do everything, because no key is configured.
    pub(super) fn allows_all_clients(&self) -> bool {
        self.mode == AuthMode::Keys && self.has_no_keys()
    }

    /// Checks the mode and the keys. `Auth::validate` does not read `keys_file`, because a consumer-worker does not need the
    /// file and may have no permission to read it.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.mode == AuthMode::None && !self.has_no_keys() {
            return Err(
                "auth.mode = \"none\" lets everybody in, though there are keys; remove the mode or the keys".into()
            );
        }
        check_keys(&self.keys)
    }

    fn has_no_keys(&self) -> bool {
        self.keys.is_empty() && self.keys_file.is_none()
    }
}

fn read_keys(path: &FilePath) -> Result<Vec<ApiKey>, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct KeysFile {
        keys: Vec<ApiKey>,
    }
    let sources = Sources::from_file(path.as_ref(), &path.to_string())?;
    let KeysFile { keys } = sources.read().map_err(|mistake| mistake.to_string())?;
    if keys.is_empty() { Err(format!("{path}: has no keys")) } else { Ok(keys) }
}

fn check_keys(keys: &[ApiKey]) -> Result<(), String> {
    let invalid_keys = |text: String| format!("auth.keys: {text}");
    let mut hashes = HashMap::new();
    let mut limits = HashMap::new();
    for key in keys {
        key.validate().map_err(invalid_keys)?;
        if let Some(other) = hashes.insert(&key.hash, &key.id) {
            return Err(invalid_keys(format!(
                "one hash is given twice, for {other} and {}; make a key for each",
                key.id
            )));
        }
        if *limits.entry(&key.id).or_insert(key.rate_limit) != key.rate_limit {
            let id = &key.id;
            return Err(invalid_keys(format!(
                "the keys of {id} share one rate_limit; write the same rate_limit for each key"
            )));
        }
    }
    Ok(())
}

/// An API key: its owner and its scopes. Only the owner knows the text of the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The name of the owner. Several keys may have one id, so that an owner can change from an old key to a new one.
    pub id: KeyId,
    /// The hash of the key.
    pub hash: KeyHash,
    /// The scopes of the key.
    pub scopes: Scopes,
    /// The queues on which the key has its scopes.
    pub queues: Vec<QueuePattern>,
    /// The maximum number of requests in a sliding time window, over all keys with this id and all processes (default: no
    /// limit).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// The instant at which the key expires, by this machine's clock (default: never).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl ApiKey {
    /// Returns whether the key has a scope on a queue.
    pub fn allows(&self, scope: Scope, queue: &str) -> bool {
        self.scopes.has(scope) && self.queues.iter().any(|pattern| pattern.matches(queue))
    }

    /// Checks the rules for API keys that the types of the fields do not check.
    ///
    /// # Errors
    ///
    /// Returns the mistake in the API key as a sentence.
    pub fn validate(&self) -> Result<(), String> {
        if self.queues.is_empty() {
            return Err(format!("the key {} is for no queue; write queues = [\"*\"] for all", self.id));
        }
        let Some(limit) = self.rate_limit else { return Ok(()) };
        // The duration must be whole seconds, because the response headers with the rate limit state the duration in
        // seconds.
        if *limit.duration < Millis::from_secs(1) || limit.duration.get() % 1_000 != 0 {
            return Err(format!("rate_limit of the key {}: duration must be whole seconds, 1 s to 24 h", self.id));
        }
        Ok(())
    }
}

/// The name of an API key's owner. The name is in the key itself, in the log, and beside the key's hash in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyId(String);

impl KeyId {
    /// Returns the id as a text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let mut bytes = text.bytes();
        let has_valid_start = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if has_valid_start
            && text.len() <= 64
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        {
            return Ok(Self(text));
        }
        Err("a key's id is 1 to 64 characters of A-Z a-z 0-9 _ . - and starts with a letter or digit")
    }
}

impl FromStr for KeyId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        text.to_owned().try_into()
    }
}

/// `Borrow<str>` allows a search by `&str` in a map whose keys are ids.
impl Borrow<str> for KeyId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The SHA-256 of an API key. Drover stores the hash of an API key, and not the key itself.
///
/// An API key needs no slow password hash: a key has 256 random bits, which can't be guessed, and a slow hash would delay every
/// request.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    const ALGORITHM_PREFIX: &str = "sha256:";

    /// Creates the hash from the digest of a key.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// Returns the digest.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        // The error does not repeat the invalid hash, which may be the API key itself.
        const EXPECTED_HASH: &str = "not the hash of a key; expected \"sha256:\" and 64 hexadecimal digits, as the command \
                                `producer-api key` (in a clone: target/release/producer-api key) prints it beside the key";
        let digits = text.strip_prefix(Self::ALGORITHM_PREFIX).ok_or(EXPECTED_HASH)?;
        let mut digest = [0; 32];
        if digits.len() != 2 * digest.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(EXPECTED_HASH);
        }
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| EXPECTED_HASH)?;
        }
        Ok(Self(digest))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALGORITHM_PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hash of an API key is masked in logs. The hash grants no access, but a log need not contain it.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_string())
    }
}

/// A right of an API key on its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// The key may post messages, and send the signals that release messages.
    Enqueue,
    /// The key may read messages and queues.
    Read,
    /// The key may lease messages and settle leases.
    Consume,
    /// The key may change, move and delete messages and queues.
    Manage,
}

impl Scope {
    /// All scopes that a key may have.
    pub const ALL: [Self; 4] = [Self::Enqueue, Self::Read, Self::Consume, Self::Manage];

    /// Returns the word for the scope in the configuration.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found_scope = Self::ALL.into_iter().find(|scope| scope.as_str() == word);
        found_scope.ok_or_else(|| unknown_word(word, Self::ALL.map(Self::as_str)))
    }
}

/// The scopes of one API key. A key has at least one scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Scope>")]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// Returns whether the key has a scope.
    pub fn has(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }
}

impl TryFrom<Vec<Scope>> for Scopes {
    type Error = String;

    fn try_from(mut scopes: Vec<Scope>) -> Result<Self, String> {
        scopes.sort_unstable();
        scopes.dedup();
        let known_scopes = || Scope::ALL.map(Scope::as_str).join(", ");
        if scopes.is_empty() {
            Err(format!("a key without a scope permits nothing; the scopes are {}", known_scopes()))
        } else {
            Ok(Self(scopes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_id_is_a_short_word() {
        for id in ["ops", "0", "team-a.mail_2", &"x".repeat(64)] {
            assert_eq!(id.parse::<KeyId>().unwrap().as_str(), id);
        }
        for id in ["", "-ops", "a b", "a:b", "a/b", "ä", &"x".repeat(65)] {
            assert!(id.parse::<KeyId>().is_err(), "{id}");
        }
    }

    #[test]
    fn key_hash_is_parsed_from_its_own_text_and_errors_do_not_repeat_a_key() {
        let parse = |text: &str| KeyHash::try_from(text.to_owned());
        let hash = KeyHash::new(std::array::from_fn(|index| u8::try_from(index * 8).unwrap()));
        assert_eq!(parse(&hash.to_string()).unwrap(), hash);
        assert!(hash.to_string().starts_with("sha256:0008101820"));
        let digits = "0".repeat(64);
        for text in [&digits, "sha256:", &format!("sha256:{digits}0"), &format!("sha256:{}g", &digits[1..]), "drv_a_b"]
        {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("drv_"), "{error}");
        }
        assert_eq!(format!("{hash:?}"), "KeyHash(…)");
    }
}
