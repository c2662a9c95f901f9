use std::{fmt, net::SocketAddr, path::PathBuf};

use queue_core::{MessageName, Millis, QueueName};
use serde::{Deserialize, Serialize, Serializer};

use super::Origin;
use crate::nearest::unknown;

/// Where Redis is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Its URL.
    pub url: RedisUrl,
    /// The time limit of every call. Defaults to 1.5 s.
    pub timeout: Millis,
}

/// When a message counts as stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durability {
    /// So many replicas of Redis must have it before a POST is answered 2xx. Defaults to 0.
    pub replicas: u32,
}

/// A URL that may hold a password, which is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A password stands before the host, or, for a socket, in the query.
        let (place, query) = self.0.split_once('?').map_or((self.0.as_str(), ""), |(place, _)| (place, "?***"));
        match place.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?.1))) {
            Some((scheme, host)) => write!(f, "{scheme}://***@{host}{query}"),
            None => write!(f, "{place}{query}"),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The producer-api.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// Where it listens. Defaults to 127.0.0.1:8080.
    pub bind: SocketAddr,
    /// The largest body in bytes. Defaults to 1 MiB.
    pub body_limit: usize,
    /// When a request must be complete. Defaults to 10 s.
    pub request_timeout: Millis,
    /// The longest `?wait=`. Defaults to 60 s.
    pub max_wait: Millis,
    /// How long requests may take to end after SIGTERM. Defaults to 25 s.
    pub shutdown_grace: Millis,
    /// Connections served at once. Defaults to 10,000.
    pub max_connections: usize,
    /// How many may listen to events at a time. Defaults to 5,000.
    pub max_listeners: usize,
    /// How many of these may have keys of one id. Defaults to 1,000.
    pub max_listeners_per_key: usize,
    /// When the headers of a request must be complete. Defaults to 10 s.
    pub header_timeout: Millis,
    /// How long a connection may stand idle between requests. Defaults to 75 s.
    pub idle_timeout: Millis,
    /// How long a client may take nothing of its answer. Defaults to 30 s.
    pub write_timeout: Millis,
    /// The certificate. Defaults to none: plain HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// Whose pages may call the API from a browser. Defaults to nobody's.
    pub cors_origins: Vec<Origin>,
}

/// Where a certificate stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate with its chain, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
}

/// The consumer-worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Where it serves its health. Defaults to 127.0.0.1:8081.
    pub bind: SocketAddr,
    /// Leases held at once, per queue and process. Defaults to 100.
    pub concurrency: usize,
    /// The slow poll. Defaults to 5 s.
    pub poll_interval: Millis,
    /// How long handlers may take to end after SIGTERM. Defaults to 25 s.
    pub shutdown_grace: Millis,
    /// What is done with which messages. Defaults to the log handler for `my-queue`.
    pub routes: Vec<Route>,
}

/// Which messages a handler gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Those of this queue.
    pub queue: QueueName,
    /// Those of this kind only. Defaults to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<MessageName>,
    /// What is done with them.
    pub handler: Handler,
}

/// What is done with a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Handler {
    /// Logs its id and data.
    Log {
        /// The result of each message. Defaults to null.
        #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
        result: serde_json::Value,
    },
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
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum LogFormat {
    /// For people.
    Pretty,
    /// For machines: one JSON object a line.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "pretty" => Ok(Self::Pretty),
            "json" => Ok(Self::Json),
            other => Err(format!("\"{other}\" is {}", unknown(other, ["pretty", "json"]))),
        }
    }
}
