//! The configuration of both services: `config/default.toml`, under a file, under the environment.

mod api_key;
mod auth;
mod bind_address;
mod environment;
#[cfg(test)]
mod every_key;
mod file_path;
mod key_hash;
mod key_id;
mod load;
mod mistake;
mod origin;
mod scope;
mod sections;
mod source;
mod traces;
mod tree;
mod unread;
mod urls;

pub use api_key::ApiKey;
pub use auth::{Auth, AuthMode};
pub use bind_address::BindAddress;
pub use file_path::FilePath;
pub use key_hash::KeyHash;
pub use key_id::KeyId;
pub use load::{InvalidConfig, Section, must_be_within};
pub use origin::Origin;
pub use queue_core::QueuePattern;
pub use scope::{Scope, Scopes};
pub use sections::{Api, Durability, Log, LogFormat, Redis, TlsFiles};
pub use traces::{OtlpEndpoint, Traces};
pub use tree::Table;
pub use unread::Unread;
pub use urls::{HttpUrl, RedisUrl};

use queue_core::DeclaredSettings;
use serde::{Deserialize, Serialize};

/// The whole of it. One file serves both services: both read all but the section `worker`, whose type only a worker has.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config<W = Unread> {
    /// Where Redis is.
    pub redis: Redis,
    /// When a message counts as stored.
    pub durability: Durability,
    /// The producer-api.
    pub api: Api,
    /// The consumer-worker.
    pub worker: W,
    /// Who may do what.
    pub auth: Auth,
    /// What is logged, and how.
    pub log: Log,
    /// Where traces go.
    pub traces: Traces,
    /// Declared settings of queues, by name and by pattern. Defaults to none.
    #[serde(default)]
    pub queues: DeclaredSettings,
}
