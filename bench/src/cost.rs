//! Reads the CPU time, the number of commands and the memory of a Redis from its `INFO`.

use drover_tests::RedisServer;

use crate::Result;

/// The CPU time and the number of commands of Redis since its start or the last reset of its statistics, and its memory in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) cpu_us: f64,
    pub(crate) command_count: f64,
    pub(crate) memory_bytes: f64,
}

impl Cost {
    pub(crate) fn read(redis: &RedisServer) -> Result<Self> {
        let cpu = redis.command("INFO cpu");
        let cpu_us = (numeric_field(&cpu, "used_cpu_user:")? + numeric_field(&cpu, "used_cpu_sys:")?) * 1e6;
        let stats = redis.command("INFO commandstats");
        let command_count = stats
            .lines()
            .filter(|line| !["info", "config", "ping", "hello", "client"].iter().any(|ignored| line.contains(ignored)))
            .filter_map(|line| line.split("calls=").nth(1)?.split(',').next()?.parse::<f64>().ok())
            .sum();
        let memory_bytes = numeric_field(&redis.command("INFO memory"), "used_memory:")?;
        Ok(Self { cpu_us, command_count, memory_bytes })
    }
}

/// A numeric field of the text that `INFO` returns.
pub(crate) fn numeric_field(info: &str, name: &str) -> Result<f64> {
    let line = info.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("INFO has no {name}"))?;
    Ok(line.trim().parse()?)
}
