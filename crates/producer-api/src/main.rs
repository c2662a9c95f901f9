//! The binary of the producer-api.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A request takes and gives back dozens of small pieces of memory; the system's allocator spends a fifth of its time on that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Drover's HTTP API: takes messages, now or later, and tells what came of them
///
/// Every key of the configuration stands in config/default.toml; the environment (`DROVER__SECTION__KEY`) wins over the
/// file, the file over the defaults.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(flatten)]
    arguments: service::Arguments,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What it does instead of serving.
#[derive(Subcommand)]
enum Instead {
    Key(producer_api::Issue),
}

fn main() -> ExitCode {
    let Command { arguments, instead } = match service::parse() {
        Ok(command) => command,
        Err(code) => return code,
    };
    match instead {
        None => service::run("producer-api", &arguments, |config, stop| producer_api::serve(config, stop.gracefully)),
        Some(Instead::Key(issue)) => print_key(issue),
    }
}

fn print_key(issue: producer_api::Issue) -> ExitCode {
    match issue.run() {
        Ok(key) if service::print(&key).is_ok() => {
            service::complain(
                "The first line is the key: give it to its owner, it is stored nowhere. The second line goes into auth.keys = \
                 […]; restart the API then.",
            );
            ExitCode::SUCCESS
        }
        Ok(_) => {
            service::complain(
                "producer-api key: the key can't be written to standard output, and is lost: make another",
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            service::complain(&format!("producer-api key: {error}"));
            ExitCode::FAILURE
        }
    }
}
