//! The sections of the configuration that both services read, except `auth`.

use std::{collections::BTreeMap, sync::LazyLock};

use queue_core::{DurationIn, settings::DeclaredSettings};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;

use super::{BindAddress, FilePath, Origin, OtlpEndpoint, Section, sources::DEFAULT_FILE};

/// The number of milliseconds in a minute: the bounds of [`DurationIn`] are in milliseconds.
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The section `durability`, for messages whose POST was answered 2xx.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Durability {
    /// The number of Redis replicas that must have received a message before its POST is answered 2xx (default: 0).
    pub replicas: u32,
}

/// The section `api`: the settings of the producer-api.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// The address that the API listens on (default: 127.0.0.1:8080).
    pub bind: BindAddress,
    /// The maximum size of a request body, in bytes (default: 1 MiB).
    pub body_limit: usize,
    /// The maximum memory for all request bodies and large responses together, in bytes (default: 256 MiB).
    pub max_body_memory: usize,
    /// The time limit for receiving a request's body, or the next message of an NDJSON body (default: 10 s).
    pub request_timeout: DurationIn<1_000, HOUR>,
    /// The longest wait that a request may ask for with `?wait=` (default: 60 s).
    pub max_wait: DurationIn<0, HOUR>,
    /// The maximum number of waiting requests (`?wait=`, long polls) of one API key in one process (default: 1,000).
    pub max_waits_per_key: usize,
    /// The time that open requests may take to end after SIGTERM (default: 25 s).
    pub shutdown_grace: DurationIn<0, DAY>,
    /// The maximum number of open connections (default: 10,000).
    pub max_connections: usize,
    /// The maximum number of open event streams (default: 5,000).
    pub max_listeners: usize,
    /// The maximum number of open event streams of all API keys that have the same id (default: 1,000).
    pub max_listeners_per_key: usize,
    /// The time within which the headers of a request must be complete (default: 10 s).
    pub header_timeout: DurationIn<100, HOUR>,
    /// The time that a connection may be idle between requests (default: 75 s).
    pub idle_timeout: DurationIn<100, DAY>,
    /// The time limit in which a client must read the next 64 KiB of a response (default: 30 s).
    pub write_timeout: DurationIn<100, HOUR>,
    /// The files of the API's TLS certificate (default: none, so that the API speaks plain HTTP).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsFiles>,
    /// The origins whose pages may call the API from a browser (default: none).
    pub cors_origins: Vec<Origin>,
}

impl Api {
    /// Returns the maximum memory for the bodies and responses of one key in bytes, or of one address if there are no keys.
    pub fn max_body_memory_per_client(&self) -> usize {
        self.max_body_memory / 4
    }

    /// Returns the part of `max_body_memory` that responses may use, so that memory for bodies remains.
    pub fn max_answer_memory(&self) -> usize {
        self.max_body_memory / 2
    }

    /// Returns the part of `max_body_memory_per_client` that responses may use.
    pub fn max_answer_memory_per_client(&self) -> usize {
        self.max_body_memory_per_client() / 2
    }
}

/// The section `dashboard`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dashboard {
    /// Whether the producer-api serves the dashboard and the start page (default: true).
    pub enabled: bool,
}

/// The files of a TLS certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The certificate with its chain, as PEM.
    pub certificate: FilePath,
    /// The private key of the certificate, as PEM.
    pub key: FilePath,
}

/// The section `log`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// The format of the log's lines (default: `pretty`).
    pub format: LogFormat,
    /// The levels that are logged, for all modules or by module (default: `info`).
    pub filter: String,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Each log record is readable text.
    Pretty,
    /// Each log record is a JSON object in one line.
    Json,
}

/// The section `traces`: the export of traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The URL of the collector (default: none, so that no traces are exported).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<OtlpEndpoint>,
    /// The fraction, from 0 to 1, of the traces started by this process that are exported (default: 1). A trace that another
    /// service started is exported if that service exports it.
    pub sample_ratio: f64,
}

/// The section `worker` in programs that are not workers. Programs that are not workers check the names of the keys in the
/// section `worker` but not the values, so that a misspelt key stops the producer-api, too. `SkippedSection` does not keep the
/// lists and tables of the section `worker` (its routes), because routes may contain secrets.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct SkippedSection(BTreeMap<String, Value>);

/// The known keys of the section `worker`, which are the keys in `config/default.toml`.
static KEYS_OF_WORKER_SECTION: LazyLock<&[&str]> = LazyLock::new(|| {
    let defaults: toml::Table = DEFAULT_FILE.parse().expect("the defaults are TOML");
    let keys = defaults["worker"].as_table().into_iter().flat_map(toml::Table::keys);
    keys.map(|key| &*key.clone().leak()).collect::<Vec<_>>().leak()
});

impl<'de> Deserialize<'de> for SkippedSection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut keys = BTreeMap::<String, Value>::deserialize(deserializer)?;
        if let Some(unknown) = keys.keys().find(|key| !KEYS_OF_WORKER_SECTION.contains(&key.as_str())) {
            return Err(D::Error::unknown_field(unknown, &KEYS_OF_WORKER_SECTION));
        }
        keys.retain(|_, value| !(value.is_array() || value.is_object()));
        Ok(Self(keys))
    }
}

impl Section for SkippedSection {
    fn validate(&self, _: &DeclaredSettings) -> Result<(), String> {
        Ok(())
    }
}
