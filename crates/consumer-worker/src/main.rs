//! The binary of the consumer-worker.

use std::process::ExitCode;

fn main() -> ExitCode {
    consumer_worker::run_configured()
}
