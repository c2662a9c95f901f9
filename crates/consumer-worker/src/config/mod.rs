//! The configuration of a worker: what both services read, and the section `worker`, whose routes say what is done with which
//! messages.

mod allowed_host;
mod exec;
mod handler;
mod http;
#[cfg(test)]
mod tests;
mod webhook_secret;

use std::{collections::BTreeMap, iter, num::NonZeroU32};

use queue_core::{DeclaredSettings, MessageName, Queue, QueuePattern, Span};
use serde::{Deserialize, Serialize};
use service::config::{BindAddress, Section, must_be_within};

pub use allowed_host::AllowedHost;
pub use exec::{CommandLine, ExecHandler};
pub use handler::{Handler, HandlerTimeout, Output};
pub use http::HttpHandler;
pub use webhook_secret::WebhookSecret;

/// The configuration of a worker.
pub type Config = service::Config<Worker>;

/// The consumer-worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Worker {
    /// Where it serves its health. Defaults to 127.0.0.1:8081.
    pub bind: BindAddress,
    /// Leases held at once, per queue and process. Defaults to 100.
    pub concurrency: usize,
    /// Leases held at once over all queues of the process. Defaults to 10,000.
    pub max_leases: usize,
    /// Bytes of data of all messages that it holds leases of. Defaults to 64 MiB.
    pub max_bytes: usize,
    /// Which queue goes first when several have more to do than the process may hold. Defaults to `weighted`.
    pub order: Order,
    /// The slow poll. Defaults to 5 s.
    pub poll_interval: Span<100, 86_400_000>,
    /// How long handlers may take to end after SIGTERM. Defaults to 25 s.
    pub shutdown_grace: Span<0, 86_400_000>,
    /// Which handler gets which messages. Defaults to the log handler for `my-queue`.
    pub routes: Vec<Route>,
}

/// Which messages a handler gets.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Those of this queue, or of each queue that fits (`user-*`).
    pub queue: QueuePattern,
    /// Those of this kind only. Defaults to all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<MessageName>,
    /// Leases held at once for each of these queues. Defaults to `worker.concurrency`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// So many messages for each one of a queue of weight 1, with `order = "weighted"`. Defaults to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<NonZeroU32>,
    /// The handler of these messages.
    pub handler: Handler,
}

/// Which queue goes first when several have more to do than a worker may hold leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// By their weights: none starves.
    Weighted,
    /// In the order of their routes: what comes later waits until nothing is ready before it.
    Strict,
}

impl Section for Worker {
    fn validate(&self, queues: &DeclaredSettings) -> Result<(), String> {
        let must = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
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
            // The queues of the route as a whole, and those that have settings of their own among them.
            let narrower = queues.patterns().filter(|pattern| route.queue.fits(pattern.as_str()));
            for name in iter::once(&route.queue).chain(narrower) {
                let declared = queues.of_all(name);
                // Entries that are wrong are told later.
                let Ok(settings) = declared.settings() else { continue };
                let limits = [
                    (
                        "visibility_timeout",
                        declared.names("visibility_timeout").then_some(*settings.visibility_timeout),
                        "what outlasts its lease when Redis is away runs twice",
                    ),
                    (
                        "timeout",
                        settings.timeout.as_deref().copied(),
                        "the run would be over before its handler's time is",
                    ),
                ];
                for (key, limit, why) in limits {
                    must(
                        limit.is_none_or(|limit| limit >= timeout),
                        format!(
                            "queues.{name}.{key} must not be shorter than worker.routes[{n}].handler.timeout = {timeout}: \
                             {why}; raise the one (or that of the pattern that gives it) or lower the other"
                        ),
                    )?;
                }
            }
        }
        Ok(())
    }
}
