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

use config::{Map, ValueKind};
use queue_core::Millis;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;

use super::tree::Tree;
use crate::nearest::no_such;

/// What is done with a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Handler {
    /// Logs its id and data.
    Log {
        /// The result of each message. Defaults to null.
        #[serde(skip_serializing_if = "Value::is_null")]
        result: Value,
    },
    /// POSTs it to a URL.
    Http(HttpHandler),
    /// Runs a program on it.
    Exec(ExecHandler),
}

/// By hand, so that a mistake in a handler is told with its key: what a tag selects is read without the path of its keys.
impl<'de> Deserialize<'de> for Handler {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ValueKind::Table(mut keys) = Tree::deserialize(deserializer)?.0.kind else {
            return Err(D::Error::custom("expected a table: write handler = { type = \"log\" }"));
        };
        match keys.remove("type").map(|word| word.kind) {
            Some(ValueKind::String(word)) => match word.as_str() {
                "log" => read(keys).map(|Log { result }| Self::Log { result }),
                "http" => read(keys).map(Self::Http),
                "exec" => read(keys).map(Self::Exec),
                other => Err(D::Error::custom(format!(".type: {}", no_such(other, ["log", "http", "exec"])))),
            },
            Some(_) => Err(D::Error::custom(".type: expected one of log, http, exec, as a text")),
            None => Err(D::Error::custom("the key type is missing; there are log, http, exec")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Log {
    #[serde(default)]
    result: Value,
}

fn read<T: DeserializeOwned, E: Error>(keys: Map<String, config::Value>) -> Result<T, E> {
    Tree(keys.into()).read().map_err(|found| found.within())
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
