//! Metrics of the calls that one process makes to Redis: durations and failures, by script.

use std::{sync::OnceLock, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    error::Error,
    redis::{call_error::CallError, endpoint::Address, scripts},
};

/// The label of commands that call no script.
pub(crate) const COMMAND: &str = "command";

/// The bounds of the histogram's buckets, in seconds.
const BOUNDS: [f64; 14] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// Names of labels with their values.
type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The calls that one process made to Redis, by script.
#[derive(Debug)]
pub struct Calls {
    times: Family<Labels<1>, Histogram, fn() -> Histogram>,
    failures: Family<Labels<2>, Counter>,
    servers: Family<[(&'static str, String); 2], Gauge>,
    scripts: Box<[(&'static str, OnceLock<CallsOfScript>)]>,
}

/// The metrics of one script, created with its first call.
#[derive(Debug)]
struct CallsOfScript {
    times: Histogram,
    /// The failures, indexed by [`reason`].
    failures: [Counter; REASONS.len()],
}

/// Why calls fail: Redis was unreachable, did not answer in time, or could not serve a command; its user lacks a right; its memory was
/// full; or it gave an unexpected answer.
const REASONS: [&str; 4] = ["unavailable", "not_permitted", "out_of_memory", "unexpected"];

/// The index in [`REASONS`]; `None` for an error that is a valid answer, such as a full queue.
fn reason(error: &CallError) -> Option<usize> {
    match error {
        CallError::Failed(Error::Unavailable(_)) => Some(0),
        CallError::Failed(Error::NotPermitted(_)) => Some(1),
        CallError::Failed(Error::OutOfMemory) => Some(2),
        CallError::Failed(Error::Unexpected(_)) => Some(3),
        _ => None,
    }
}

impl Default for Calls {
    fn default() -> Self {
        let names = scripts::NAMES.iter().copied().chain([scripts::QUOTA, COMMAND]);
        Self {
            times: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            failures: Family::default(),
            servers: Family::default(),
            scripts: names.map(|script| (script, OnceLock::new())).collect(),
        }
    }
}

impl Calls {
    /// Registers these metrics for the metrics page.
    pub fn register(&self, registry: &mut Registry) {
        let help = "How long calls to Redis took, by script; a batch is one call";
        registry.register("drover_redis_call_duration_seconds", help, self.times.clone());
        registry.register("drover_redis_call_failures", "Calls to Redis that failed", self.failures.clone());
        let help = "Whether the last call to a server of Redis was answered: 1 or 0";
        registry.register("drover_redis_server_up", help, self.servers.clone());
    }

    /// The metric that says whether this server of a topology answers.
    pub(crate) fn server(&self, topology: &str, address: &Address) -> Gauge {
        self.servers.get_or_create_owned(&Self::labels_of_server(topology, address))
    }

    /// Removes the metric of a server to which no calls go any more.
    pub(crate) fn forget_server(&self, topology: &str, address: &Address) {
        self.servers.remove(&Self::labels_of_server(topology, address));
    }

    fn labels_of_server(topology: &str, address: &Address) -> [(&'static str, String); 2] {
        [("topology", topology.to_owned()), ("server", address.to_string())]
    }

    pub(crate) fn note(&self, script: &str, took: Duration, error: Option<&CallError>) {
        if let Some(calls) = self.of(script) {
            calls.times.observe(took.as_secs_f64());
        }
        if let Some(error) = error {
            self.note_failure(script, error);
        }
    }

    pub(crate) fn note_failure(&self, script: &str, error: &CallError) {
        if let Some(reason) = reason(error)
            && let Some(calls) = self.of(script)
        {
            calls.failures[reason].inc();
        }
    }

    /// The metrics of a script. Comparing a few dozen short names is faster than hashing one.
    fn of(&self, script: &str) -> Option<&CallsOfScript> {
        let (script, calls) = self.scripts.iter().find(|(known, _)| *known == script)?;
        Some(calls.get_or_init(|| CallsOfScript {
            times: self.times.get_or_create_owned(&[("script", script)]),
            failures:
                REASONS.map(|reason| self.failures.get_or_create_owned(&[("script", script), ("reason", reason)])),
        }))
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    #[test]
    fn refused_call_counts_as_a_failure_only_if_an_operator_must_act() {
        let (calls, ms) = (Calls::default(), Duration::from_millis);
        calls.note("enqueue", ms(1), None);
        calls.note("enqueue", ms(1), Some(&CallError::Failed(Error::QueueFull(1))));
        calls.note("enqueue", ms(1), Some(&CallError::StaleEpoch));
        calls.note("enqueue", ms(1), Some(&CallError::Failed(Error::OutOfMemory)));
        calls.note("enqueue", ms(1), Some(&CallError::Failed(Error::NotPermitted("hset".into()))));
        let (mut registry, mut text) = (Registry::default(), String::new());
        calls.register(&mut registry);
        prometheus_text::encode(&mut text, &registry).unwrap();
        for line in [
            "drover_redis_call_duration_seconds_bucket{script=\"enqueue\",le=\"0.001\"} 5",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"unavailable\"} 0",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"not_permitted\"} 1",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"out_of_memory\"} 1",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"unexpected\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(!text.contains("quota"), "it was never called");
        assert!(calls.of(scripts::QUOTA).is_some() && calls.of(COMMAND).is_some());
    }
}
