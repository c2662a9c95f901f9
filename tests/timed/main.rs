//! The times that docs/RELIABILITY.md and docs/WORKERS.md promise. The tests run one after the other and beside no other program of
//! `make test`. Each allows for the stalls of the machine.

#![allow(clippy::unwrap_used)] // A failure here is a failure of the test.

mod outages;
mod stall_monitor;
mod workers;

#[path = "../e2e/system.rs"]
#[expect(dead_code, reason = "the end-to-end tests use its other functions")]
mod system;
