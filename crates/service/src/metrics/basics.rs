use std::time::SystemTime;

use queue_core::{CallFailure, Redis, Subscriber};

use super::{Kind, Page, process};

/// The figures that both services have: what runs, and how its calls to Redis go.
#[derive(Clone)]
pub struct Basics {
    service: &'static str,
    redis: Redis,
    subscriber: Subscriber,
    started: SystemTime,
}

impl Basics {
    /// Of the service of this name, which starts now.
    pub fn new(service: &'static str, redis: Redis, subscriber: Subscriber) -> Self {
        Self { service, redis, subscriber, started: SystemTime::now() }
    }

    /// Writes them down.
    pub fn write(&self, page: &mut Page) {
        page.family("drover_build_info", Kind::Gauge, "1; its labels say what runs.")
            .sample(&[("service", self.service), ("version", env!("CARGO_PKG_VERSION"))], 1);
        process::write(page, self.started);
        let is_subscribed = u8::from(self.subscriber.is_connected());
        page.gauge("drover_redis_subscribed", "Whether the subscription to Redis stands.", is_subscribed);
        let calls = self.redis.calls();
        let help = "How long calls to Redis took, by script; a batch is one call.";
        let mut family = page.family("drover_redis_call_duration_seconds", Kind::Histogram, help);
        for calls in calls.by_script().filter(|calls| calls.times.was_observed()) {
            family.histogram(&[("script", calls.script)], &calls.times);
        }
        let help = "Calls to Redis that failed.";
        let mut family = page.family("drover_redis_call_failures_total", Kind::Counter, help);
        for calls in calls.by_script().filter(|calls| calls.times.was_observed()) {
            for reason in CallFailure::ALL {
                let labels = [("script", calls.script), ("reason", reason.as_str())];
                family.sample(&labels, calls.failures(reason));
            }
        }
    }
}
