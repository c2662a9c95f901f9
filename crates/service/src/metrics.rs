//! `/metrics`, which Prometheus reads: the page itself, and the figures that both services have. `docs/OBSERVABILITY.md` documents
//! every name, and a test compares. Each module with something to count registers it with the registry of its service.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, prometheus_text},
    metrics::{
        MetricType,
        counter::ConstCounter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use queue_core::{Redis, Subscriber};

/// The answer of `/metrics`: the figures of these registries.
pub fn page<'r>(registries: impl IntoIterator<Item = &'r Registry>) -> Response {
    let mut text = String::new();
    for registry in registries {
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, registry);
    }
    ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response()
}

/// A gauge whose value is read when it is served, by the function in it.
pub struct ReadGauge<F>(pub F);

impl<F: Fn() -> u64> EncodeMetric for ReadGauge<F> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&(self.0)())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl<F> fmt::Debug for ReadGauge<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadGauge(…)")
    }
}

/// Registers the build, the process, and the calls to Redis of a service that starts now.
pub fn register_basics(registry: &mut Registry, service: &'static str, redis: &Redis, subscriber: &Subscriber) {
    let info = Family::<_, Gauge>::default();
    info.get_or_create(&[("service", service), ("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("drover_build_info", "1; its labels say what runs", info);
    registry.register_collector(Box::new(Process { started: SystemTime::now() }));
    let subscriber = subscriber.clone();
    let is_subscribed = ReadGauge(move || u64::from(subscriber.is_connected()));
    registry.register("drover_redis_subscribed", "Whether the subscription to Redis stands", is_subscribed);
    redis.calls().register(registry);
}

/// The kernel counts the time of a process in hundredths of a second, whatever its own clock does.
const TICKS_PER_SEC: f64 = 100.0;

/// The figures of this process, under the names that all exporters use, read when they are served. Without `/proc` there is
/// only the start.
#[derive(Debug)]
struct Process {
    started: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut write = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        write("process_start_time_seconds", "When the process started, since 1970.", &ConstGauge::new(started))?;
        if let Some(seconds) = cpu_seconds() {
            write("process_cpu_seconds", "The time that the process has computed.", &ConstCounter::new(seconds))?;
        }
        if let Some(bytes) = resident_bytes() {
            write("process_resident_memory_bytes", "The memory that the process holds.", &ConstGauge::new(bytes))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let help = "Open files and sockets: connections are among them.";
            write("process_open_fds", help, &ConstGauge::new(open.count()))?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program may hold anything; it ends with the last bracket. utime and stime are fields 14 and 15.
    let (_, after_name) = stat.rsplit_once(')')?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().ok());
    Some(ticks.sum::<Option<f64>>()? / TICKS_PER_SEC)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}
