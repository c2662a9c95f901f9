//! End to end: the real binaries, a real redis-server of each test's own, real sockets.

#![allow(clippy::unwrap_used)] // A failure here is a failure of the test.

mod access;
mod api_page;
mod auth;
mod bad_input;
mod chance;
mod changes;
mod commands;
mod configuration;
mod crashes;
mod crowds;
mod delivery;
mod documents;
mod durability;
mod events;
mod faults;
mod handlers;
mod idempotency;
mod leases;
mod library;
mod lifecycle;
mod lists;
mod load;
mod memory;
mod metrics;
mod ndjson;
mod options;
mod outage;
mod posts;
mod queues;
mod raw;
mod restarts;
mod secrets;
mod signals;
mod slow_http;
mod startup_checks;
mod strangers;
mod system;
mod tls;
mod traces;
mod tutorial;
mod unwritable;
mod user_queues;
mod wording;

use system::{System, completed, failed, http_client, millis, number, start_api};
