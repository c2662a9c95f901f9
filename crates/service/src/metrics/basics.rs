//! The figures that both services have: what runs, and how its calls to Redis go.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use queue_core::{Redis, Subscriber};

use super::{ReadGauge, process::Process};

/// Registers the figures of the service of this name, which starts now.
pub fn register_basics(registry: &mut Registry, service: &'static str, redis: &Redis, subscriber: &Subscriber) {
    let info = Family::<_, Gauge>::default();
    info.get_or_create(&[("service", service), ("version", env!("CARGO_PKG_VERSION"))]).set(1);
    registry.register("drover_build_info", "1; its labels say what runs", info);
    registry.register_collector(Box::new(Process::starting_now()));
    let subscriber = subscriber.clone();
    let is_subscribed = ReadGauge(move || u64::from(subscriber.is_connected()));
    registry.register("drover_redis_subscribed", "Whether the subscription to Redis stands", is_subscribed);
    redis.calls().register(registry);
}
