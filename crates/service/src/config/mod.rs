//! The configuration of both services. A configuration file overrides `config/default.toml`, and environment variables override
//! the file and the defaults.

mod addresses;
mod auth;
mod environment;
#[cfg(test)]
mod every_key;
mod redis;
mod sections;
mod sources;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt::{self, Display},
    path::Path,
};

use queue_core::{
    Queue,
    settings::{DeclaredSettings, Settings},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        DeserializeOwned, DeserializeSeed, IgnoredAny, IntoDeserializer, MapAccess, Visitor,
        value::MapAccessDeserializer,
    },
};

pub use addresses::{BindAddress, FilePath, HttpUrl, Origin, OtlpEndpoint};
pub use auth::{ApiKey, Auth, AuthMode, KeyHash, KeyId, Scope, Scopes};
pub use queue_core::settings::QueuePattern;
pub use redis::{Password, Redis, RedisTls, RedisUrl, SentinelLogin};
pub use sections::{Api, Dashboard, Durability, Log, LogFormat, SkippedSection, TlsFiles, Traces};
pub use tree::read_part_of_table;

use self::{
    sources::Sources,
    tree::{Mistake, ProblemKind},
};
use crate::wording;

/// The whole configuration. Both services can use one file, because both services read the same sections, but only a worker
/// (with its type `W`) reads the section `worker`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config<W = SkippedSection> {
    /// The connection to Redis.
    pub redis: Redis,
    /// The durability of messages whose POST was answered 2xx.
    pub durability: Durability,
    /// The settings of the producer-api.
    pub api: Api,
    /// The dashboard, which the producer-api serves.
    pub dashboard: Dashboard,
    /// The settings of the consumer-worker.
    pub worker: W,
    /// The authentication of API clients.
    pub auth: Auth,
    /// The settings of the program's log.
    pub log: Log,
    /// The export of traces.
    pub traces: Traces,
    /// Declared settings of queues, by name and by pattern (default: none).
    #[serde(default)]
    pub queues: DeclaredSettings,
}

/// A section of the configuration that belongs to one service.
pub trait Section: Serialize + DeserializeOwned {
    /// Checks the rules that involve several keys, or the declared settings of queues.
    ///
    /// # Errors
    ///
    /// Returns the first mistake as a sentence that names the wrong key.
    fn validate(&self, queues: &DeclaredSettings) -> Result<(), String>;
}

/// The error of an invalid configuration. The error text names the key and the reason, and contains no value that may be a
/// secret.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct InvalidConfig(String);

/// Checks that a value lies in its range.
///
/// # Errors
///
/// Returns an error that names the key and the range if the value is outside the range.
pub fn must_be_within<T: Copy + PartialOrd + Display>(key: &str, value: T, min: T, max: T) -> Result<(), String> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(format!("{key} must be {min} to {max}, not {value}")) }
}

/// An entry of `queues`: the settings of a queue. [`DeclaredSettings::validate`] checks the schedules in an entry of `queues`.
struct QueueEntry {
    _settings: Settings,
}

impl<'de> Deserialize<'de> for QueueEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entry;
        impl<'de> Visitor<'de> for Entry {
            type Value = QueueEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, keys: A) -> Result<QueueEntry, A::Error> {
                let settings = Settings::deserialize(MapAccessDeserializer::new(WithoutSchedules(keys)))?;
                Ok(QueueEntry { _settings: settings })
            }
        }
        deserializer.deserialize_map(Entry)
    }
}

/// The keys of an entry of `queues` except `schedules`.
struct WithoutSchedules<A>(A);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutSchedules<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, mut seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            match self.0.next_key_seed(KeyExceptSchedules(seed))? {
                None => return Ok(None),
                Some(Ok(key)) => return Ok(Some(key)),
                Some(Err(unused_seed)) => seed = unused_seed,
            }
            self.0.next_value::<BTreeMap<String, BTreeMap<String, IgnoredAny>>>()?;
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.0.next_value_seed(seed)
    }
}

/// Deserializes a key other than `schedules` with the seed `K`; for the key `schedules`, returns the unused seed.
struct KeyExceptSchedules<K>(K);

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for KeyExceptSchedules<K> {
    type Value = Result<K::Value, K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        if key == "schedules" {
            return Ok(Err(self.0));
        }
        self.0.deserialize(key.into_deserializer()).map(Ok)
    }
}

impl<W: Section> Config<W> {
    /// Loads the defaults, overrides the defaults with `file`, and overrides the result with environment variables.
    ///
    /// # Errors
    ///
    /// Returns an error if the file can't be read, if a key is unknown or has a value that is not of its type, if a variable of
    /// the environment is not UTF-8 or sets the same key as another variable, or if keys contradict each other.
    pub fn load(file: Option<&Path>) -> Result<Self, InvalidConfig> {
        Self::load_with(file, std::env::vars_os())
    }

    /// Loads a configuration as [`load`](Self::load) does, but from the variables in `environment` instead of the variables of
    /// the process.
    ///
    /// # Errors
    ///
    /// Returns the same errors as [`load`](Self::load).
    pub fn load_with(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, InvalidConfig> {
        Self::load_from(file, environment).map_err(InvalidConfig)
    }

    fn load_from(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, String> {
        let file = file.map(|path| Sources::from_file(path, &path.display().to_string())).transpose()?;
        let sources = Sources::defaults()?.overlaid_with(file);
        let sources =
            environment::read_variables::<W>(environment)?.into_iter().fold(sources, Sources::overlaid_with_variable);
        let config = Self::read(&sources).map_err(|mistake| mistake.to_string())?;
        config.validate()?;
        Ok(config)
    }

    /// Reads the configuration from the sources. Each entry of `queues` is also read alone, so that a mistake in the entry is
    /// reported with its path. [`DeclaredSettings::validate`] later checks the settings that result from merging the entries of
    /// `queues`.
    fn read(sources: &Sources) -> Result<Self, Mistake> {
        #[derive(Deserialize)]
        struct Queues {
            #[serde(default, rename = "queues")]
            _queues: BTreeMap<QueuePattern, QueueEntry>,
        }
        let config = sources.read()?;
        match sources.read::<Queues>() {
            // An entry of `queues` may omit settings, so a missing key is no mistake.
            Err(mistake) if mistake.problem.kind != ProblemKind::MissingKey => Err(mistake),
            _ => Ok(config),
        }
    }

    fn validate(&self) -> Result<(), String> {
        let api = &self.api;
        must_be_within("api.max_connections", api.max_connections, 1, 1_000_000)?;
        must_be_within("api.max_waits_per_key", api.max_waits_per_key, 1, 1_000_000)?;
        must_be_within("api.max_listeners", api.max_listeners, 1, 1_000_000)?;
        must_be_within("api.max_listeners_per_key", api.max_listeners_per_key, 1, 1_000_000)?;
        must_be_within("api.body_limit", api.body_limit, 1, Queue::MAX_BYTES)?;
        must_be_within("traces.sample_ratio", self.traces.sample_ratio, 0.0, 1.0)?;
        let (body_limit, memory) = (api.body_limit, api.max_body_memory);
        if api.max_body_memory_per_client() < body_limit {
            return Err(format!(
                "api.max_body_memory must be 4 times api.body_limit = {body_limit} or more, not {memory}: one client may use a \
                 quarter of it; raise api.max_body_memory or lower api.body_limit"
            ));
        }
        let bind = &api.bind;
        if self.auth.allows_all_clients() && !bind.is_loopback() {
            return Err(format!(
                "api.bind = \"{bind}\" would open the queue to the network without keys; make one with the \
                 command `producer-api key` (in a clone: target/release/producer-api key) and write its line into auth.keys, bind to \
                 127.0.0.1, or write auth.mode = \"none\" if every client that reaches that address may do everything"
            ));
        }
        self.auth.validate()?;
        self.queues.validate().map_err(|(pattern, invalid)| {
            // The error does not repeat the invalid value of a setting, which may be a misplaced secret.
            let words =
                invalid.problem.strip_prefix("unknown variant ").and_then(|rest| rest.rsplit_once(", expected "));
            let problem = match words {
                Some((_, expected)) => format!("expected {}", expected.replace('`', "")),
                None => wording::data_mistake(&invalid.problem),
            };
            let expected = problem.strip_prefix("it is ").and_then(|rest| rest.rsplit_once(", and "));
            let problem = expected.map_or(&*problem, |(_, expected)| expected);
            format!("queues.{pattern}.{}: {problem}", invalid.setting)
        })?;
        self.worker.validate(&self.queues)
    }
}
