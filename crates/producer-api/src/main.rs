//! The program `producer-api`, which serves the HTTP API, or makes an API key with the command `producer-api key`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The memory allocator of the process. Each request makes dozens of small allocations, for which the system's allocator would
/// take a fifth of the request's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Drover's HTTP API: clients post messages, lease them, and read their results
///
/// Every key of the configuration is in config/default.toml; environment variables (`DROVER__SECTION__KEY`) override the
/// configuration file, and the file overrides the defaults.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Command {
    #[command(flatten)]
    arguments: service::Arguments,
    #[command(subcommand)]
    subcommand: Option<Subcommands>,
}

/// Commands that run instead of the service.
#[derive(Subcommand)]
enum Subcommands {
    Key(producer_api::MakeKey),
}

fn main() -> ExitCode {
    let Command { arguments, subcommand } = match service::parse_arguments() {
        Ok(command) => command,
        Err(code) => return code,
    };
    match subcommand {
        None => service::run("producer-api", &arguments, |config, stop| producer_api::serve(config, stop.gracefully)),
        Some(Subcommands::Key(make_key)) => print_key(make_key),
    }
}

fn print_key(make_key: producer_api::MakeKey) -> ExitCode {
    match make_key.run() {
        Ok(key) if service::print(&key).is_ok() => {
            service::print_error(
                "The first line is the key: give it to its owner; it is stored nowhere. Write the second line into auth.keys = \
                 […], and restart the API.",
            );
            ExitCode::SUCCESS
        }
        Ok(_) => {
            service::print_error(
                "producer-api key: the key could not be written to standard output, and is lost: make another key",
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            service::print_error(&format!("producer-api key: {error}"));
            ExitCode::FAILURE
        }
    }
}
