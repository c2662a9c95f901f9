//! The figures of the process, under the names that all exporters use. Where there is no `/proc` only its start is told.

use std::{
    fmt, fs,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// The kernel counts a process's time in hundredths of a second, whatever its own clock does.
const TICKS_PER_SEC: f64 = 100.0;

/// Reads the figures of this process when they are served.
#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

impl Process {
    pub(super) fn starting_now() -> Self {
        Self { started: SystemTime::now() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut tell = |name, help, metric: &dyn EncodeMetric| {
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
        };
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        tell("process_start_time_seconds", "When the process started, since 1970.", &ConstGauge::new(started))?;
        if let Some(seconds) = cpu_seconds() {
            tell("process_cpu_seconds", "The time that the process has computed.", &ConstCounter::new(seconds))?;
        }
        if let Some(bytes) = resident_bytes() {
            tell("process_resident_memory_bytes", "The memory that the process holds.", &ConstGauge::new(bytes))?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            let help = "Open files and sockets: connections are among them.";
            tell("process_open_fds", help, &ConstGauge::new(open.count()))?;
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
