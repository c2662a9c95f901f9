//! The configuration of both services: `config/default.toml`, under a file, under the environment.

mod api_key;
mod auth;
mod bind_address;
mod environment;
mod handler;
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

pub use api_key::ApiKey;
pub use auth::{Auth, AuthMode};
pub use bind_address::BindAddress;
pub use handler::{
    AllowedHost, CommandLine, ExecHandler, Handler, HttpHandler, HttpTarget, HttpUrl, Output, WebhookSecret,
};
pub use key_hash::KeyHash;
pub use key_id::KeyId;
pub use load::InvalidConfig;
pub use origin::Origin;
pub use queue_core::QueuePattern;
pub use scope::{Scope, Scopes};
pub use sections::{Api, Durability, Log, LogFormat, Order, Redis, RedisUrl, Route, TlsFiles, Worker};
pub use traces::{OtlpEndpoint, Traces};

use queue_core::DeclaredSettings;
use serde::{Deserialize, Serialize};

/// The whole of it. Both services read all, so that one file serves both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where Redis is.
    pub redis: Redis,
    /// When a message counts as stored.
    pub durability: Durability,
    /// The producer-api.
    pub api: Api,
    /// The consumer-worker.
    pub worker: Worker,
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
