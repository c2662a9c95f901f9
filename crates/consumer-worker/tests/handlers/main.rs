//! Tests of the handlers that a configuration can name, with real programs and real receivers.

#![allow(clippy::unwrap_used)] // An `unwrap` that panics fails its test.

mod exec;
mod hook_server;
mod http;
mod http_connections;

use consumer_worker::{Failure, Outcome, Routes, config};
use serde_json::{Value, json};

fn routes(handler: &Value) -> Routes {
    let route: config::Route = serde_json::from_value(json!({"queue": "q", "handler": handler})).unwrap();
    Routes::from_config(&[route])
}

fn completed_result(outcome: Outcome) -> String {
    let Outcome::Complete(result) = outcome else { panic!("not completed: {outcome:?}") };
    result.get().to_owned()
}

fn failure_with_retry(outcome: Outcome) -> Failure {
    let Outcome::Retry(failure) = outcome else { panic!("not retried: {outcome:?}") };
    failure
}

fn failure_for_good(outcome: Outcome) -> Failure {
    let Outcome::FailForGood(failure) = outcome else { panic!("not failed for good: {outcome:?}") };
    failure
}
