//! The times that docs/RELIABILITY.md and docs/WORKERS.md promise, as they are promised. The tests run one after the other, and no
//! other program of `make test` beside them; each allows for what other processes take of the machine.

#![allow(clippy::unwrap_used)] // A failure here is a failure of the test.

mod outages;
mod stall_monitor;
mod workers;

#[path = "../e2e/system.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest of it")]
mod system;
