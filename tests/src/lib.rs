//! What all tests of Drover share: a Redis of their own, the real binaries as processes.
//!
//! Nothing here waits for luck: a helper returns when what it started answers, or panics when it never does.

// Helpers of tests: a failure here is a failure of the test.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod port;
mod process;
mod proxy;
mod redis_server;

pub use port::HeldPort;
pub use process::{Process, binary};
pub use proxy::Proxy;
pub use redis_server::RedisServer;

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

/// How long something may take that should come at once, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A port of the loopback interface that nobody listens on.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `probe` answers something, asking every few milliseconds.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
