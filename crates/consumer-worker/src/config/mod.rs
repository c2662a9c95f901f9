//! The configuration of a worker: the sections that both services read, and the section `worker` with its routes.

mod exec;
mod http;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, iter, num::NonZeroU32};

use queue_core::{
    DurationIn, MessageName, Millis, Queue,
    settings::{DeclaredSettings, QueuePattern},
};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;
use service::config::{BindAddress, Section, must_be_within, read_part_of_table};

pub use exec::{CommandLine, ExecHandler, HandlerTimeout, Output};
pub use http::{AllowedHost, HttpHandler, WebhookSecret};

/// The configuration of a worker.
pub type Config = service::Config<Worker>;

/// The section `worker` of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// The address on which the worker serves `/livez`, `/readyz` and `/metrics` (default: 127.0.0.1:8081).
    pub bind: BindAddress,
    /// The maximum number of handlers that run at once, for each queue in one process (default: 100).
    pub concurrency: usize,
    /// The maximum number of leases over all queues of one process (default: 10,000).
    pub max_leases: usize,
    /// The maximum total size of the data of all leased messages, in bytes (default: 64 MiB).
    pub max_bytes: usize,
    /// The order in which queues get leases when `max_leases` is too small for all of them (default: `weighted`).
    pub order: Order,
    /// The pause between two polls of an idle queue (default: 5 s). A poll finds messages whose wake-up was lost.
    pub poll_interval: DurationIn<100, 86_400_000>,
    /// The time that handlers may take to end after SIGTERM (default: 25 s).
    pub shutdown_grace: DurationIn<0, 86_400_000>,
    /// The routes, each a handler with the messages that it gets (default: the log handler for `my-queue`).
    pub routes: Vec<Route>,
}

/// A route: a handler, and the messages that it gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The queue of the messages, or a pattern for the names of queues (`user-*`).
    pub queue: QueuePattern,
    /// The name of the messages that the handler gets (default: messages of any name).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<MessageName>,
    /// The maximum number of handlers that run at once for each queue of this route (default: `worker.concurrency`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// The weight of each queue of this route with `order = "weighted"` (default: 1). A queue of weight 3 gets three times as
    /// many messages as a queue of weight 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<NonZeroU32>,
    /// The handler of the messages that the route selects.
    pub handler: HandlerConfig,
}

/// The order in which queues get leases when a worker has too few leases for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Queues share the leases by their weights, and no queue starves.
    Weighted,
    /// Queues are served in the order of their routes: a queue waits while an earlier queue has ready messages.
    Strict,
}

/// The handler of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum HandlerConfig {
    /// Logs the id and the data of each message.
    Log {
        /// The result of each message (default: null).
        #[serde(skip_serializing_if = "Value::is_null")]
        result: Value,
    },
    /// Posts each message to a URL.
    Http(HttpHandler),
    /// Runs a program on each message.
    Exec(ExecHandler),
}

/// `Deserialize` is not derived, because a derived implementation would report an error without the path of the wrong
/// key.
impl<'de> Deserialize<'de> for HandlerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum HandlerType {
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
        let Value::Object(mut keys) = Value::deserialize(deserializer)? else {
            return Err(D::Error::custom("expected a table: write { type = \"…\" }"));
        };
        let missing_type = || D::Error::custom("the key type is missing; write it too");
        let handler = read_part_of_table("type", keys.remove("type").ok_or_else(missing_type)?)?;
        let other_keys = keys.into();
        match handler {
            HandlerType::Log => read_part_of_table("", other_keys).map(|Log { result }| Self::Log { result }),
            HandlerType::Http => read_part_of_table("", other_keys).map(Self::Http),
            HandlerType::Exec => read_part_of_table("", other_keys).map(Self::Exec),
        }
    }
}

impl HandlerConfig {
    /// Returns the handler's own time limit, if the configuration sets one.
    pub fn timeout(&self) -> Option<Millis> {
        match self {
            Self::Log { .. } => None,
            Self::Http(http) => http.timeout.as_deref().copied(),
            Self::Exec(exec) => exec.timeout.as_deref().copied(),
        }
    }

    /// Checks that the keys of the handler do not contradict each other. The returned error text begins with the rest of
    /// the wrong key's path, as in `.concurrency must be …`.
    fn validate(&self) -> Result<(), String> {
        match self {
            Self::Http(http) => http.validate(),
            Self::Log { .. } | Self::Exec(_) => Ok(()),
        }
    }
}

impl Section for Worker {
    fn validate(&self, queues: &DeclaredSettings) -> Result<(), String> {
        let require = |holds: bool, mistake: String| if holds { Ok(()) } else { Err(mistake) };
        let (max_leases, max_bytes) = (self.max_leases, self.max_bytes);
        must_be_within("worker.max_leases", max_leases, 1, 100_000)?;
        require(
            max_bytes >= Queue::MAX_BYTES,
            format!(
                "worker.max_bytes must be {} (the most that one lease call returns) or more, not {max_bytes}",
                Queue::MAX_BYTES
            ),
        )?;
        let check_concurrency = |key: &str, concurrency: usize| {
            require(
                (1..=max_leases).contains(&concurrency),
                format!("{key} must be 1 to worker.max_leases = {max_leases}, not {concurrency}"),
            )
        };
        check_concurrency("worker.concurrency", self.concurrency)?;
        let mut seen_routes = BTreeMap::new();
        for (n, route) in self.routes.iter().enumerate() {
            if let Some(first) = seen_routes.insert((&route.queue, &route.name), n) {
                return Err(format!(
                    "worker.routes[{n}] has the same queue and name as worker.routes[{first}], so it would never have a \
                     message: remove one of them"
                ));
            }
            if let Some(concurrency) = route.concurrency {
                check_concurrency(&format!("worker.routes[{n}].concurrency"), concurrency)?;
            }
            route.handler.validate().map_err(|mistake| format!("worker.routes[{n}].handler{mistake}"))?;
            let Some(timeout) = route.handler.timeout() else { continue };
            check_timeout(&format!("worker.routes[{n}].handler.timeout = {timeout}"), timeout, route, queues)?;
        }
        Ok(())
    }
}

/// Checks that no time limit in the settings of the route's queues is shorter than the time limit of the route's
/// handler.
fn check_timeout(key: &str, timeout: Millis, route: &Route, queues: &DeclaredSettings) -> Result<(), String> {
    // `check_timeout` reads the settings of the route's own pattern, and of narrower queues and patterns that have
    // settings.
    let narrower_patterns = queues.patterns().filter(|pattern| route.queue.matches(pattern.as_str()));
    for name in iter::once(&route.queue).chain(narrower_patterns) {
        let declared_settings = queues.for_pattern(name);
        // The check of time limits skips invalid settings, because `DeclaredSettings::validate` reports invalid settings.
        let Ok(settings) = declared_settings.settings() else { continue };
        let visibility_timeout = declared_settings.names("visibility_timeout").then_some(*settings.visibility_timeout);
        let run_timeout = settings.timeout.as_deref().copied();
        for (setting, limit, why) in [
            (
                "visibility_timeout",
                visibility_timeout,
                "a run that outlasts its lease during an outage of Redis is repeated",
            ),
            ("timeout", run_timeout, "the run would time out before its handler does"),
        ] {
            if limit.is_some_and(|limit| limit < timeout) {
                return Err(format!(
                    "queues.{name}.{setting} must not be shorter than {key}: {why}; raise the one (or that of the pattern that \
                     gives it) or lower the other"
                ));
            }
        }
    }
    Ok(())
}
