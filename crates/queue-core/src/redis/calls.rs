//! Metrics of the calls that one process makes to Redis: their durations and failures, by script.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    error::Error,
    redis::{call_error::CallError, endpoint::Address, scripts},
};

/// The label of commands that call no script.
pub(crate) const COMMAND_LABEL: &str = "command";

/// The bounds of the buckets of the histogram of durations, in seconds.
const BUCKET_BOUNDS: [f64; 14] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5];

/// The names of the labels of a metric, with their values.
type Labels<const LABEL_COUNT: usize> = [(&'static str, &'static str); LABEL_COUNT];

/// The calls that one process made to Redis, by script.
#[derive(Debug)]
pub struct Calls {
    times: Family<Labels<1>, Histogram, fn() -> Histogram>,
    failures: Family<Labels<2>, Counter>,
    servers: Arc<ServerMetrics>,
    scripts: Box<[(&'static str, OnceLock<CallsOfScript>)]>,
}

type ServerLabels = [(&'static str, String); 2];

/// The metrics that say which servers answer.
#[derive(Debug, Default)]
struct ServerMetrics {
    gauges: Family<ServerLabels, Gauge>,
    /// How many guards ([`ServerGauge`]) each server's metric has: several handles of a process to one server share its metric.
    guard_counts: Mutex<HashMap<ServerLabels, usize>>,
}

/// A guard that keeps `drover_redis_server_up`, the metric that says whether a server answers, on the metrics page. The metric of a
/// server is removed with its last guard, so that the page does not show servers to which calls no longer go.
#[derive(Debug)]
pub(crate) struct ServerGauge {
    gauge: Gauge,
    labels: ServerLabels,
    servers: Arc<ServerMetrics>,
}

impl ServerGauge {
    /// Sets `drover_redis_server_up` of the server: 1 if the last call to the server was answered, 0 if not.
    pub(crate) fn set(&self, is_up: i64) {
        self.gauge.set(is_up);
    }

    pub(crate) fn get(&self) -> i64 {
        self.gauge.get()
    }
}

impl Drop for ServerGauge {
    fn drop(&mut self) {
        let mut guard_counts = self.servers.guard_counts.lock();
        let guard_count = guard_counts.get_mut(&self.labels).expect("this guard is counted");
        *guard_count -= 1;
        if *guard_count == 0 {
            guard_counts.remove(&self.labels);
            self.servers.gauges.remove(&self.labels);
        }
    }
}

/// The metrics of one script, created when the script is called first.
#[derive(Debug)]
struct CallsOfScript {
    times: Histogram,
    /// The counters of failed calls, indexed by [`failure_index`].
    failures: [Counter; FAILURE_REASONS.len()],
}

/// The reasons why calls fail. `unavailable`: Redis was unreachable, did not answer in time, or could not serve a command.
/// `not_permitted`: the user of Redis lacks a right. `out_of_memory`: the memory of Redis was full. `unexpected`: Redis gave an
/// unexpected answer.
const FAILURE_REASONS: [&str; 4] = ["unavailable", "not_permitted", "out_of_memory", "unexpected"];

/// Returns the index of an error's reason in [`FAILURE_REASONS`]; `None` for an error that is a valid answer, such as a full queue.
fn failure_index(error: &CallError) -> Option<usize> {
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
        let names = scripts::SCRIPT_NAMES.iter().copied().chain([scripts::QUOTA, COMMAND_LABEL]);
        Self {
            times: Family::new_with_constructor(|| Histogram::new(BUCKET_BOUNDS)),
            failures: Family::default(),
            servers: Arc::default(),
            scripts: names.map(|script| (script, OnceLock::new())).collect(),
        }
    }
}

impl Calls {
    /// Registers the metrics of calls to Redis for the metrics page.
    pub fn register(&self, registry: &mut Registry) {
        let help = "How long calls to Redis took, by script; a batch is one call";
        registry.register("drover_redis_call_duration_seconds", help, self.times.clone());
        registry.register("drover_redis_call_failures", "Calls to Redis that failed", self.failures.clone());
        let help = "Whether the last call to a server of Redis was answered: 1 or 0";
        registry.register("drover_redis_server_up", help, self.servers.gauges.clone());
    }

    /// Returns a guard that keeps `drover_redis_server_up` of this server of a topology on the metrics page.
    pub(crate) fn server_gauge(&self, topology: &str, address: &Address) -> ServerGauge {
        let labels = [("topology", topology.to_owned()), ("server", address.to_string())];
        let mut guard_counts = self.servers.guard_counts.lock();
        *guard_counts.entry(labels.clone()).or_default() += 1;
        let gauge = self.servers.gauges.get_or_create_owned(&labels);
        ServerGauge { gauge, labels, servers: Arc::clone(&self.servers) }
    }

    pub(crate) fn count_call(&self, script: &str, took: Duration, error: Option<&CallError>) {
        if let Some(calls) = self.calls_of_script(script) {
            calls.times.observe(took.as_secs_f64());
        }
        if let Some(error) = error {
            self.count_failure(script, error);
        }
    }

    pub(crate) fn count_failure(&self, script: &str, error: &CallError) {
        if let Some(reason) = failure_index(error)
            && let Some(calls) = self.calls_of_script(script)
        {
            calls.failures[reason].inc();
        }
    }

    /// Returns the metrics of a script. To compare a few dozen short names is faster than to hash one name.
    fn calls_of_script(&self, script: &str) -> Option<&CallsOfScript> {
        let (script, calls) = self.scripts.iter().find(|(known, _)| *known == script)?;
        Some(calls.get_or_init(|| {
            CallsOfScript {
                times: self.times.get_or_create_owned(&[("script", script)]),
                failures: FAILURE_REASONS
                    .map(|reason| self.failures.get_or_create_owned(&[("script", script), ("reason", reason)])),
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text;

    use super::*;

    fn metrics_page(calls: &Calls) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        calls.register(&mut registry);
        prometheus_text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn metrics_page_shows_a_server_until_its_metric_has_no_guard() {
        let (calls, address) = (Calls::default(), Address::Tcp("h".into(), 1));
        let line = "drover_redis_server_up{topology=\"cluster\",server=\"h:1\"} 1";
        let [first, second] = [(); 2].map(|()| calls.server_gauge("cluster", &address));
        first.set(1);
        drop(first);
        assert!(metrics_page(&calls).contains(line), "{}", metrics_page(&calls));
        drop(second);
        assert!(!metrics_page(&calls).contains("h:1"), "{}", metrics_page(&calls));
    }

    #[test]
    fn refused_call_counts_as_a_failure_only_if_an_operator_must_act() {
        let (calls, ms) = (Calls::default(), Duration::from_millis);
        calls.count_call("enqueue", ms(1), None);
        calls.count_call("enqueue", ms(1), Some(&CallError::Failed(Error::QueueFull(1))));
        calls.count_call("enqueue", ms(1), Some(&CallError::StaleEpoch));
        calls.count_call("enqueue", ms(1), Some(&CallError::Failed(Error::OutOfMemory)));
        calls.count_call("enqueue", ms(1), Some(&CallError::Failed(Error::NotPermitted("hset".into()))));
        let page_text = metrics_page(&calls);
        for line in [
            "drover_redis_call_duration_seconds_bucket{script=\"enqueue\",le=\"0.001\"} 5",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"unavailable\"} 0",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"not_permitted\"} 1",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"out_of_memory\"} 1",
            "drover_redis_call_failures_total{script=\"enqueue\",reason=\"unexpected\"} 0",
        ] {
            assert!(page_text.lines().any(|found| found == line), "{line} is not in {page_text}");
        }
        assert!(!page_text.contains("quota"), "the script quota was never called");
        assert!(calls.calls_of_script(scripts::QUOTA).is_some() && calls.calls_of_script(COMMAND_LABEL).is_some());
    }
}
