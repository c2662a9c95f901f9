//! The program `consumer-worker`, which runs the handlers that its configuration names.

use std::process::ExitCode;

fn main() -> ExitCode {
    consumer_worker::run_configured()
}
