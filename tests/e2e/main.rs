//! End-to-end tests: the real binaries, a redis-server for each test, and real sockets.

#![allow(clippy::unwrap_used)] // A failure here is a failure of the test.

mod api_document;
mod auth;
mod bad_input;
mod bad_requests;
mod browsers;
mod commands;
mod compose;
mod configuration;
mod connections;
mod crashes;
mod delivery;
mod documents;
mod durability;
mod error_texts;
mod event_limits;
mod event_listener;
mod events;
mod faults;
mod handlers;
mod idempotency;
mod index_away;
mod leases;
mod least_rights;
mod load;
mod main_job;
mod malformed_http;
mod many_clients;
mod many_queues;
mod markdown;
mod memory;
mod message_changes;
mod message_lists;
mod message_options;
mod metrics;
mod ndjson;
mod python;
mod queue_limits;
mod queues;
mod raw_client;
mod redis_checks;
mod redis_outage;
mod redis_readonly;
mod routes;
mod secrets;
mod seed;
mod shutdown;
mod signals;
mod slow_clients;
mod system;
mod tls;
mod traces;
mod tutorial;
mod worker_library;

use system::{System, completed, failed, http_client, millis, number, start_api};
