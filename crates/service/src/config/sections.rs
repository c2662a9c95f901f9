//! The sections of the configuration that both services read, but for the keys of the API.

use std::{collections::BTreeMap, sync::LazyLock};

use queue_core::{DeclaredSettings, Span};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use super::{BindAddress, FilePath, InvalidConfig, Origin, OtlpEndpoint, RedisUrl, Section, sources::DEFAULT};

/// In milliseconds, as are the other bounds of spans.
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The address of Redis.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Its URL.
    pub url: RedisUrl,
    /// The time limit of every call. Defaults to 1.5 s.
    pub timeout: Span<100, MINUTE>,
}

impl Redis {
    /// Prepares the connections.
    ///
    /// # Errors
    ///
    /// The URL is not one of Redis; the text does not repeat it.
    pub fn connect(&self) -> Result<queue_core::Redis, InvalidConfig> {
        queue_core::Redis::new(self.url.expose(), self.timeout.to_std())
            .map_err(|error| InvalidConfig(format!("redis.url: {error}")))
    }
}

/// The durability of messages that are answered 2xx.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durability {
    /// The number of replicas of Redis that must have a message before its POST is answered 2xx. Defaults to 0.
    pub replicas: u32,
}

/// The producer-api.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The address that it listens on. Defaults to 127.0.0.1:8080.
    pub bind: BindAddress,
    /// The largest body in bytes. Defaults to 1 MiB.
    pub body_limit: usize,
    /// Bytes of all bodies and large answers that are received or held at a time. Defaults to 256 MiB.
    pub max_body_memory: usize,
    /// The time within which a request must be complete. Defaults to 10 s.
    pub request_timeout: Span<1_000, HOUR>,
    /// The longest `?wait=`. Defaults to 60 s.
    pub max_wait: Span<0, HOUR>,
    /// Requests that wait (`?wait=`, long polls), which one key may have open in one process. Defaults to 1,000.
    pub max_waits_per_key: usize,
    /// The time that requests may take to end after SIGTERM. Defaults to 25 s.
    pub shutdown_grace: Span<0, DAY>,
    /// Connections served at once. Defaults to 10,000.
    pub max_connections: usize,
    /// Streams of events that are open at a time. Defaults to 5,000.
    pub max_listeners: usize,
    /// Those of them that keys of one id may have. Defaults to 1,000.
    pub max_listeners_per_key: usize,
    /// The time within which the headers of a request must be complete. Defaults to 10 s.
    pub header_timeout: Span<100, HOUR>,
    /// The time that a connection may be idle between requests. Defaults to 75 s.
    pub idle_timeout: Span<100, DAY>,
    /// The time within which a client must take another 64 KiB of its answer. Defaults to 30 s.
    pub write_timeout: Span<100, HOUR>,
    /// The certificate. Defaults to none: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// The origins whose pages may call the API from a browser. Defaults to none.
    pub cors_origins: Vec<Origin>,
}

impl Api {
    /// Bytes of the bodies and answers of one key, or one address, that are received or held at a time.
    pub fn max_body_memory_per_client(&self) -> usize {
        self.max_body_memory / 4
    }

    /// The part of these bytes that answers may take: bodies find room beside them.
    pub fn max_answer_memory(&self) -> usize {
        self.max_body_memory / 2
    }

    /// The part of these bytes of one key, or one address, that answers may take.
    pub fn max_answer_memory_per_client(&self) -> usize {
        self.max_body_memory_per_client() / 2
    }
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate with its chain, as PEM.
    pub certificate: FilePath,
    /// Its private key, as PEM.
    pub key: FilePath,
}

/// The log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The form of its lines. Defaults to `pretty`.
    pub format: LogFormat,
    /// The events that are logged, by level and module. Defaults to `info`.
    pub filter: String,
}

/// The form of a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

/// Where traces go. Defaults to nowhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The collector. Defaults to none: nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<OtlpEndpoint>,
    /// The share of the traces that begin here which is sent, 0 to 1; a trace that began elsewhere is sent if it is sent there.
    /// Defaults to 1.
    pub sample_ratio: f64,
}

/// The section `worker` as all programs but a worker read it. They know the names of its keys, so that a misspelt one stops
/// either service, but not the form of the routes; lists and tables in it, which may hold secrets, are dropped at once.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Unread(BTreeMap<String, Value>);

/// The keys that the defaults have: all keys of the section have a default.
static WORKER_KEYS: LazyLock<&[&str]> = LazyLock::new(|| {
    let defaults: toml::Table = DEFAULT.parse().expect("the defaults are TOML");
    let keys = defaults["worker"].as_table().into_iter().flat_map(toml::Table::keys);
    keys.map(|key| &*key.clone().leak()).collect::<Vec<_>>().leak()
});

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = BTreeMap::<String, Value>::deserialize(deserializer)?;
        if let Some(unknown) = keys.keys().find(|key| !WORKER_KEYS.contains(&key.as_str())) {
            return Err(D::Error::unknown_field(unknown, &WORKER_KEYS));
        }
        keys.retain(|_, value| !(value.is_array() || value.is_object()));
        Ok(Self(keys))
    }
}

impl Section for Unread {
    fn validate(&self, _: &DeclaredSettings) -> Result<(), String> {
        Ok(())
    }
}
