//! The page `/metrics` for Prometheus, and the metrics that both services have. `docs/OBSERVABILITY.md` documents every metric,
//! and a test compares the names of the metrics with the document. Other modules register their own metrics with the registry
//! of their service.

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
use queue_core::{Redis, wakeup::Subscriber};

/// Returns the response of `/metrics`, with the metrics of these registries.
pub fn page<'r>(registries: impl IntoIterator<Item = &'r Registry>) -> Response {
    let mut page_text = String::new();
    for registry in registries {
        // Writing metrics to a string does not fail.
        let _ = prometheus_text::encode(&mut page_text, registry);
    }
    ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], page_text).into_response()
}

/// A gauge whose value is computed by a function when `/metrics` is read.
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

/// Registers the metrics of the build, the process and the calls to Redis. A service calls this function when it starts.
pub fn register_build_process_and_redis_metrics(
    registry: &mut Registry,
    service: &'static str,
    redis: &Redis,
    subscriber: &Subscriber,
) {
    let build_info = Family::<_, Gauge>::default();
    build_info.get_or_create(&[("service", service), ("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("drover_build_info", "Always 1; the labels name the service and its version", build_info);
    registry.register_collector(Box::new(Process { started: SystemTime::now() }));
    let subscriber = subscriber.clone();
    let is_subscribed = ReadGauge(move || u64::from(subscriber.is_connected()));
    registry.register("drover_redis_subscribed", "1 while subscribed to wake-ups", is_subscribed);
    redis.calls().register(registry);
}

/// The number of ticks per second in which the kernel reports CPU time.
const TICKS_PER_SEC: f64 = 100.0;

/// The metrics of this process, under the standard names, read when `/metrics` is read. Without `/proc` only the start time
/// is available.
#[derive(Debug)]
struct Process {
    started: SystemTime,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut write_metric = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let start_seconds = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        write_metric(
            "process_start_time_seconds",
            "When the process started, since 1970.",
            &ConstGauge::new(start_seconds),
        )?;
        if let Some(seconds) = cpu_seconds() {
            write_metric("process_cpu_seconds", "CPU time of the process.", &ConstCounter::new(seconds))?;
        }
        if let Some(bytes) = resident_bytes() {
            write_metric("process_resident_memory_bytes", "Resident memory of the process.", &ConstGauge::new(bytes))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let help = "Open files and sockets: connections are among them.";
            write_metric("process_open_fds", help, &ConstGauge::new(open.count()))?;
        }
        Ok(())
    }
}

fn cpu_seconds() -> Option<f64> {
    let process_stat = fs::read_to_string("/proc/self/stat").ok()?;
    // In `/proc/self/stat`, the name of the program may contain any character, and ends at the last closing bracket. The
    // fields 14 and 15 of `/proc/self/stat` are `utime` and `stime`.
    let (_, after_name) = process_stat.rsplit_once(')')?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().ok());
    Some(ticks.sum::<Option<f64>>()? / TICKS_PER_SEC)
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1_024)
}
