use std::{collections::BTreeMap, fmt, iter, num::NonZeroU32, path::PathBuf};

use queue_core::{DeclaredSettings, MAX_BYTES_PER_CALL, MessageName, Millis};
use serde::{Deserialize, Serialize, Serializer};

use super::{BindAddress, Handler, InvalidConfig, Origin, QueuePattern};
use crate::nearest::no_such;

/// Where Redis is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Its URL.
    pub url: RedisUrl,
    /// The time limit of every call. Defaults to 1.5 s.
    pub timeout: Millis,
}

impl Redis {
    /// Prepares the connections.
    ///
    /// # Errors
    ///
    /// When the URL is not one of Redis; the text does not repeat it.
    pub fn connect(&self) -> Result<queue_core::Redis, InvalidConfig> {
        queue_core::Redis::new(self.url.expose(), self.timeout.to_std())
            .map_err(|error| InvalidConfig(format!("redis.url: {error}")))
    }
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
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let separator = if scheme.is_empty() { "" } else { "://" };
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        if user.is_some_and(|user| user.contains('?')) {
            // The last @ may stand in the query, or the ? in the password.
            return write!(f, "{scheme}{separator}***");
        }
        let (place, query) = place.split_once(['?', '#']).map_or((place, ""), |(place, _)| (place, "?***"));
        write!(f, "{scheme}{separator}{}{place}{query}", if user.is_some() { "***@" } else { "" })
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
    pub bind: BindAddress,
    /// The largest body in bytes. Defaults to 1 MiB.
    pub body_limit: usize,
    /// Bytes of all bodies that are received or held at a time. Defaults to 256 MiB.
    pub max_body_memory: usize,
    /// When a request must be complete. Defaults to 10 s.
    pub request_timeout: Millis,
    /// The longest `?wait=`. Defaults to 60 s.
    pub max_wait: Millis,
    /// Requests that wait (`?wait=`, long polls), which one key may have open in one process. Defaults to 1,000.
    pub max_waits_per_key: usize,
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

impl Api {
    /// Bytes of the bodies of one key, or one address, that are received or held at a time.
    pub fn max_body_memory_per_client(&self) -> usize {
        self.max_body_memory / 4
    }
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
    /// What is done with them.
    pub handler: Handler,
}

/// Which queue goes first when several have more to do than a worker may hold leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", try_from = "String")]
pub enum Order {
    /// By their weights: none starves.
    Weighted,
    /// In the order of their routes: what comes later waits until nothing is ready before it.
    Strict,
}

impl Worker {
    /// The largest `max_leases`.
    const MOST_LEASES: usize = 100_000;

    /// Checks what its parts can't know; answers what is wrong, as a sentence.
    pub(super) fn validate(&self, queues: &DeclaredSettings) -> Result<(), String> {
        let must = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        let (max_leases, max_bytes) = (self.max_leases, self.max_bytes);
        must(
            (1..=Self::MOST_LEASES).contains(&max_leases),
            format!("worker.max_leases must be 1 to {}, not {max_leases}", Self::MOST_LEASES),
        )?;
        must(
            max_bytes >= MAX_BYTES_PER_CALL,
            format!("worker.max_bytes must be {MAX_BYTES_PER_CALL} (what one call may bring) or more, not {max_bytes}"),
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
            route.handler.validate().map_err(|mistake| format!("worker.routes[{n}].handler.{mistake}"))?;
            let Some(timeout) = route.handler.timeout() else { continue };
            // The queues of the route as a whole, and those that have settings of their own among them.
            let narrower = queues.patterns().filter(|pattern| route.queue.fits(pattern.as_str()));
            for name in iter::once(&route.queue).chain(narrower) {
                let settings = queues.of_all(name);
                let limits = [
                    (
                        "visibility_timeout",
                        settings.visibility_timeout,
                        "what outlasts its lease when Redis is away runs twice",
                    ),
                    ("timeout", settings.timeout, "the run would be over before its handler's time is"),
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

impl TryFrom<String> for Order {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "weighted" => Ok(Self::Weighted),
            "strict" => Ok(Self::Strict),
            other => Err(no_such(other, ["weighted", "strict"])),
        }
    }
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
            other => Err(no_such(other, ["pretty", "json"])),
        }
    }
}
