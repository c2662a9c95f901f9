//! The binary of the consumer-worker.

use std::process::ExitCode;

use clap::Parser;

/// Drover's worker: drains queues, runs handlers, records what came of each message
///
/// Every key of the configuration stands in config/default.toml; the environment (`DROVER__SECTION__KEY`) wins over the
/// file, the file over the defaults.
#[derive(Parser)]
#[command(version)]
struct Command {
    #[command(flatten)]
    arguments: service::Arguments,
}

fn main() -> ExitCode {
    match service::parse::<Command>() {
        Ok(Command { arguments }) => consumer_worker::run_configured(&arguments),
        Err(code) => code,
    }
}
