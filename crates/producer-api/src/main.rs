//! The binary of the producer-api.

use std::process::ExitCode;

use clap::Parser;

/// Drover's HTTP API: takes messages, now or later, and tells what came of them
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
    service::run("producer-api", &Command::parse().arguments, producer_api::serve)
}
