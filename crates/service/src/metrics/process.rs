use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Kind, Page};

/// The kernel counts a process's time in hundredths of a second, whatever its own clock does.
const TICKS_PER_SEC: f64 = 100.0;

/// The figures of the process, under the names that all exporters use. Where there is no `/proc` only its start is told.
pub(super) fn write(page: &mut Page, started: SystemTime) {
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    page.gauge("process_start_time_seconds", "When the process started, since 1970.", started);
    if let Some(seconds) = cpu_seconds() {
        page.family("process_cpu_seconds_total", Kind::Counter, "The time that the process has computed.")
            .sample(&[], seconds);
    }
    if let Some(bytes) = resident_bytes() {
        page.gauge("process_resident_memory_bytes", "The memory that the process holds.", bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", "Open files and sockets: connections are among them.", open.count());
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
