//! What a route may do with its messages.

mod allowed_host;
mod exec;
mod http;
mod http_url;
mod output;
mod webhook_secret;

pub use allowed_host::AllowedHost;
pub use exec::{CommandLine, ExecHandler};
pub use http::{HttpHandler, HttpTarget};
pub use http_url::HttpUrl;
pub use output::Output;
pub use webhook_secret::WebhookSecret;

use queue_core::Millis;
use serde::{Deserialize, Serialize};

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
    /// POSTs it to a URL.
    Http(HttpHandler),
    /// Runs a program on it.
    Exec(ExecHandler),
}

impl Handler {
    /// The time limit of its own, if the configuration gives one.
    pub fn timeout(&self) -> Option<Millis> {
        match self {
            Self::Log { .. } => None,
            Self::Http(http) => http.timeout,
            Self::Exec(exec) => exec.timeout,
        }
    }

    /// Checks what its parts can't know.
    ///
    /// # Errors
    ///
    /// What is wrong, as a sentence that begins with the key.
    pub(super) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Log { .. } => Ok(()),
            Self::Http(http) => http.validate(),
            Self::Exec(exec) => exec.validate(),
        }
    }
}

/// The longest time limit of a handler: as long as that of a message.
const LONGEST_TIMEOUT: Millis = Millis::from_days(7);

fn must_be_within(key: &str, value: Option<Millis>, least: Millis, most: Millis) -> Result<(), String> {
    match value {
        Some(value) if !(least..=most).contains(&value) => Err(format!("{key} must be {least} to {most}, not {value}")),
        _ => Ok(()),
    }
}
