//! The sections of the configuration that both services read.

use queue_core::Span;
use serde::{Deserialize, Serialize};

use super::{BindAddress, FilePath, InvalidConfig, Origin, RedisUrl};

/// In milliseconds, as are the other bounds of spans.
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Where Redis is.
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
    /// When the URL is not one of Redis; the text does not repeat it.
    pub fn connect(&self) -> Result<queue_core::Redis, InvalidConfig> {
        queue_core::Redis::new(self.url.expose(), self.timeout.to_std())
            .map_err(|error| InvalidConfig(format!("redis.url: {error}")))
    }
}

/// When a message counts as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durability {
    /// So many replicas of Redis must have it before a POST is answered 2xx. Defaults to 0.
    pub replicas: u32,
}

/// The producer-api.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where it listens. Defaults to 127.0.0.1:8080.
    pub bind: BindAddress,
    /// The largest body in bytes. Defaults to 1 MiB.
    pub body_limit: usize,
    /// Bytes of all bodies and large answers that are received or held at a time. Defaults to 256 MiB.
    pub max_body_memory: usize,
    /// When a request must be complete. Defaults to 10 s.
    pub request_timeout: Span<1_000, HOUR>,
    /// The longest `?wait=`. Defaults to 60 s.
    pub max_wait: Span<0, HOUR>,
    /// Requests that wait (`?wait=`, long polls), which one key may have open in one process. Defaults to 1,000.
    pub max_waits_per_key: usize,
    /// How long requests may take to end after SIGTERM. Defaults to 25 s.
    pub shutdown_grace: Span<0, DAY>,
    /// Connections served at once. Defaults to 10,000.
    pub max_connections: usize,
    /// How many may listen to events at a time. Defaults to 5,000.
    pub max_listeners: usize,
    /// How many of these may have keys of one id. Defaults to 1,000.
    pub max_listeners_per_key: usize,
    /// When the headers of a request must be complete. Defaults to 10 s.
    pub header_timeout: Span<100, HOUR>,
    /// How long a connection may stand idle between requests. Defaults to 75 s.
    pub idle_timeout: Span<100, DAY>,
    /// How long a client may take nothing of its answer. Defaults to 30 s.
    pub write_timeout: Span<100, HOUR>,
    /// The certificate. Defaults to none: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Whose pages may call the API from a browser. Defaults to nobody's.
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

/// Where a certificate stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate with its chain, as PEM.
    pub certificate: FilePath,
    /// Its private key, as PEM.
    pub key: FilePath,
}

/// What is logged, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Defaults to `pretty`.
    pub format: LogFormat,
    /// Defaults to `info`.
    pub filter: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}
