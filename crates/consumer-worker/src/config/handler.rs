//! The handlers that a route may name.

use queue_core::{Millis, Span};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use service::config::Table;

use super::{ExecHandler, HttpHandler};

/// The time limit of a handler: as long as that of a message at most.
pub type HandlerTimeout = Span<100, 604_800_000>;

/// The handler of a route.
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
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Type {
            Log,
            Http,
            Exec,
        }
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Log {
            #[serde(default)]
            result: Value,
        }
        let mut keys = Table::deserialize(deserializer)?;
        match keys.take("type")? {
            Type::Log => keys.read().map(|Log { result }| Self::Log { result }),
            Type::Http => keys.read().map(Self::Http),
            Type::Exec => keys.read().map(Self::Exec),
        }
    }
}

/// How the answer of a URL, or the output of a program, is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// It is the message's result.
    #[default]
    Result,
    /// Nothing: the result is null.
    Ignore,
}

impl Handler {
    /// The time limit of its own, if the configuration gives one.
    pub fn timeout(&self) -> Option<Millis> {
        match self {
            Self::Log { .. } => None,
            Self::Http(http) => http.timeout.as_deref().copied(),
            Self::Exec(exec) => exec.timeout.as_deref().copied(),
        }
    }

    /// Checks what its parts can't know; the text of a mistake goes on from the path of the handler.
    pub(super) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Http(http) => http.validate(),
            Self::Log { .. } | Self::Exec(_) => Ok(()),
        }
    }
}
