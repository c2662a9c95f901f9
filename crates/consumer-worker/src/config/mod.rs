//! The configuration of a worker: the sections that both services read, and the section `worker` with its routes.

mod exec;
mod http;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, iter, num::NonZeroU32};

use queue_core::{DeclaredSettings, MessageName, Millis, Queue, QueuePattern, Span};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Value;
use service::config::{BindAddress, Section, must_be_within, read_part};

pub use exec::{CommandLine, ExecHandler, HandlerTimeout, Output};
pub use http::{AllowedHost, HttpHandler, WebhookSecret};

/// The configuration of a worker.
pub type Config = service::Config<Worker>;

/// The consumer-worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// The address that serves its health and metrics. Defaults to 127.0.0.1:8081.
    pub bind: BindAddress,
    /// Handlers that run at once, per queue and process. Defaults to 100.
    pub concurrency: usize,
    /// Leases at once, over all queues of the process. Defaults to 10,000.
    pub max_leases: usize,
    /// Bytes of data of all messages that are leased at once. Defaults to 64 MiB.
    pub max_bytes: usize,
    /// The order of queues when several have more messages than the process may hold leases. Defaults to `weighted`.
    pub order: Order,
    /// The pause between two polls of an idle queue, which find messages whose wake-up was lost. Defaults to 5 s.
    pub poll_interval: Span<100, 86_400_000>,
    /// The time that handlers may take to end after SIGTERM. Defaults to 25 s.
    pub shutdown_grace: Span<0, 86_400_000>,
    /// The handlers and their messages. Defaults to the log handler for `my-queue`.
    pub routes: Vec<Route>,
}

/// A handler and its messages.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The queue of the messages, or a pattern that queues fit (`user-*`).
    pub queue: QueuePattern,
    /// The name of the messages. Defaults to all messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<MessageName>,
    /// Handlers that run at once for each of these queues. Defaults to `worker.concurrency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// With `order = "weighted"`, so many messages for each one of a queue of weight 1. Defaults to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<NonZeroU32>,
    /// The handler of these messages.
    pub handler: Handler,
}

/// The order of queues when several have more messages than a worker may hold leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By their weights: no queue starves.
    Weighted,
    /// In the order of their routes: a queue waits until no queue before it has a ready message.
    Strict,
}

/// The handler of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Handler {
    /// Logs the id and the data of each message.
    Log {
        /// The result of each message. Defaults to null.
        #[serde(skip_serializing_if = "Value::is_null")]
        result: Value,
    },
    /// POSTs each message to a URL.
    Http(HttpHandler),
    /// Runs a program on each message.
    Exec(ExecHandler),
}

/// By hand, so that a mistake in a handler is reported with its key: serde reads a tagged enum without the paths of its keys.
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
        let Value::Object(mut keys) = Value::deserialize(deserializer)? else {
            return Err(D::Error::custom("expected a table: write { type = \"…\" }"));
        };
        let missing = || D::Error::custom("the key type is missing; write it too");
        let handler = read_part("type", keys.remove("type").ok_or_else(missing)?)?;
        let rest = keys.into();
        match handler {
            Type::Log => read_part("", rest).map(|Log { result }| Self::Log { result }),
            Type::Http => read_part("", rest).map(Self::Http),
            Type::Exec => read_part("", rest).map(Self::Exec),
        }
    }
}

impl Handler {
    /// The handler's own time limit, if the configuration sets one.
    pub fn timeout(&self) -> Option<Millis> {
        match self {
            Self::Log { .. } => None,
            Self::Http(http) => http.timeout.as_deref().copied(),
            Self::Exec(exec) => exec.timeout.as_deref().copied(),
        }
    }

    /// Checks the keys together; the text of a mistake continues the path of the handler.
    fn validate(&self) -> Result<(), String> {
        match self {
            Self::Http(http) => http.validate(),
            Self::Log { .. } | Self::Exec(_) => Ok(()),
        }
    }
}

impl Section for Worker {
    fn validate(&self, queues: &DeclaredSettings) -> Result<(), String> {
        let must = |holds: bool, mistake: String| if holds { Ok(()) } else { Err(mistake) };
        let (max_leases, max_bytes) = (self.max_leases, self.max_bytes);
        must_be_within("worker.max_leases", max_leases, 1, 100_000)?;
        must(
            max_bytes >= Queue::MAX_BYTES,
            format!("worker.max_bytes must be {} (what one call may bring) or more, not {max_bytes}", Queue::MAX_BYTES),
        )?;
        let may_run = |key: &str, concurrency: usize| {
            must(
                (1..=max_leases).contains(&concurrency),
                format!("{key} must be 1 to worker.max_leases = {max_leases}, not {concurrency}"),
            )
        };
        may_run("worker.concurrency", self.concurrency)?;
        let mut seen = BTreeMap::new();
        for (n, route) in self.routes.iter().enumerate() {
            if let Some(first) = seen.insert((&route.queue, &route.name), n) {
                return Err(format!(
                    "worker.routes[{n}] has the same queue and name as worker.routes[{first}], so it would never have a \
                     message: remove one of them"
                ));
            }
            if let Some(concurrency) = route.concurrency {
                may_run(&format!("worker.routes[{n}].concurrency"), concurrency)?;
            }
            route.handler.validate().map_err(|mistake| format!("worker.routes[{n}].handler{mistake}"))?;
            let Some(timeout) = route.handler.timeout() else { continue };
            check_timeout(&format!("worker.routes[{n}].handler.timeout = {timeout}"), timeout, route, queues)?;
        }
        Ok(())
    }
}

/// Checks that the settings of the route's queues give its handler the time that it may take.
fn check_timeout(key: &str, timeout: Millis, route: &Route, queues: &DeclaredSettings) -> Result<(), String> {
    // The queues of the route as a whole, and those that have settings of their own among them.
    let narrower = queues.patterns().filter(|pattern| route.queue.fits(pattern.as_str()));
    for name in iter::once(&route.queue).chain(narrower) {
        let declared = queues.of_all(name);
        // Wrong entries are reported elsewhere.
        let Ok(settings) = declared.settings() else { continue };
        let visibility_timeout = declared.names("visibility_timeout").then_some(*settings.visibility_timeout);
        let run_timeout = settings.timeout.as_deref().copied();
        for (setting, limit, why) in [
            ("visibility_timeout", visibility_timeout, "what outlasts its lease when Redis is away runs twice"),
            ("timeout", run_timeout, "the run would be over before its handler's time is"),
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
