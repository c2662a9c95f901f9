//! Tests of the times that docs/RELIABILITY.md and docs/WORKERS.md promise. The timed tests run one after the other, while no
//! other tests of `make test` run. Each test allows for the stalls of the machine.

#![allow(clippy::unwrap_used)] // An `unwrap` that panics fails its test.

mod failovers;
mod groups;
mod outages;
mod schedules;
mod stall_monitor;
mod workers;

#[path = "../e2e/system.rs"]
#[expect(dead_code, reason = "the end-to-end tests use its other functions")]
mod system;
