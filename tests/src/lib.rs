//! Helpers for all tests of Drover: a private Redis, the real binaries as processes, and a network that can fail.
//!
//! [`RedisServer`] waits until its server answers; [`Process`] does not wait for the start of its binary. A helper that waits
//! panics when its time limit is over.

// A panic in a helper is a failure of the test.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod certificates;
mod port;
mod process;
mod proxy;
mod redis_cluster;
mod redis_sentinels;
mod redis_server;

pub use certificates::{CertificateAuthority, CertificateFiles, Validity};
pub use port::ReservedPort;
pub use process::{Process, binary, without_cargo_variables, without_drover_variables};
pub use proxy::Proxy;
pub use redis_cluster::RedisCluster;
pub use redis_sentinels::RedisSentinels;
pub use redis_server::{RedisServer, TlsClients};

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

/// The time limit for an event that usually takes a moment. `TIME_LIMIT` is long enough for a busy machine.
pub const TIME_LIMIT: Duration = Duration::from_secs(20);

/// Returns a free port of the loopback interface.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Calls `probe` every few milliseconds until `probe` returns a value, and returns that value.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    within(TIME_LIMIT, what, probe)
}

/// Calls `probe` until it returns a value, as [`eventually`] does, but with another time limit.
pub fn within<T>(time_limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let started_at = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(started_at.elapsed() < time_limit, "{what}: not within {time_limit:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
