//! Starts and stops a service: reads its arguments and its configuration, starts its log, and handles the signals that stop the
//! service. The module `start` also has functions that print to standard output and standard error, which may be closed or
//! full.

use std::{
    error::Error,
    io::{self, Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::Parser;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    config::{Config, Section},
    telemetry::Telemetry,
};

type AnyError = Box<dyn Error + Send + Sync>;

/// The command-line arguments of both services.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Read this configuration file over the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the effective configuration, without secrets, and exit
    #[arg(long)]
    print_config: bool,
}

/// The request to a service to stop, gracefully or at once.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// The token that is cancelled when the service may begin no new work. After a graceful stop request, work that has begun
    /// may continue to its end.
    pub gracefully: CancellationToken,
    /// The token that is cancelled when all work must end within a second.
    pub at_once: CancellationToken,
}

/// The time that a service has to stop after a second signal.
const TIME_TO_STOP_AFTER_SECOND_SIGNAL: Duration = Duration::from_secs(1);
/// The time limit for dropping the remaining tasks when a service ends. A task that blocks its thread can't be dropped
/// in time.
const TIME_TO_DROP: Duration = Duration::from_millis(100);

/// Runs a service: loads its configuration, starts its log, and runs `service` until it ends. SIGTERM or SIGINT stops the
/// service gracefully, and a second signal stops it at once.
pub fn run<W: Section, F>(name: &str, arguments: &Arguments, service: impl FnOnce(Config<W>, Stop) -> F) -> ExitCode
where
    F: Future<Output = Result<(), AnyError>>,
{
    match load_and_start_log(name, arguments) {
        Ok(Some((config, telemetry))) => {
            let result = run_until_signal(name, config, service);
            if let Err(error) = &result {
                error!(%error, "{name} failed");
            }
            telemetry.finish();
            if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            // The error is printed and not logged, because the log was not started.
            print_error(&format!("{name}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Loads the configuration and starts the log. Returns `None` for `--print-config`, which only prints the configuration.
fn load_and_start_log<W: Section>(
    name: &str,
    arguments: &Arguments,
) -> Result<Option<(Config<W>, Telemetry)>, AnyError> {
    let config = Config::load(arguments.config.as_deref())?;
    if arguments.print_config {
        print(&toml::to_string(&config)?).map_err(|error| format!("the configuration can't be printed: {error}"))?;
        return Ok(None);
    }
    let telemetry = Telemetry::start(name, &config.log, &config.traces)?;
    Ok(Some((config, telemetry)))
}

fn run_until_signal<W, F>(
    name: &str,
    config: Config<W>,
    service: impl FnOnce(Config<W>, Stop) -> F,
) -> Result<(), AnyError>
where
    F: Future<Output = Result<(), AnyError>>,
{
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let stop = Stop::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop_token = stop.clone();
        let signals = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("the service is stopping; a second signal stops at once");
            stop_token.gracefully.cancel();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop_token.at_once.cancel();
            sleep(TIME_TO_STOP_AFTER_SECOND_SIGNAL).await;
        };
        info!(version = env!("CARGO_PKG_VERSION"), "{name} starts");
        let at_once = stop.at_once.clone();
        let result = tokio::select! {
            ended = service(config, stop) => ended,
            () = signals => Ok(()),
        };
        if at_once.is_cancelled() {
            return Err("the service stopped at once, because of a second signal".into());
        }
        result.inspect(|()| info!("{name} stopped"))
    });
    // `shutdown_timeout` is called, because dropping the runtime would wait for tasks that block a thread.
    runtime.shutdown_timeout(TIME_TO_DROP);
    result
}

/// Parses the command-line arguments of the program.
///
/// # Errors
///
/// Returns the exit code if the program must end, because it has printed its help or version, or because an argument is wrong.
pub fn parse_arguments<P: Parser>() -> Result<P, ExitCode> {
    P::try_parse().map_err(|error| {
        let print_result = error.print().and_then(|()| stdout().flush());
        match u8::try_from(error.exit_code()) {
            Ok(code) if print_result.is_ok() => code.into(),
            _ => {
                print_error("standard output can't be written to");
                ExitCode::FAILURE
            }
        }
    })
}

/// Prints a text to standard output.
///
/// # Errors
///
/// Returns an error if the text was not completely written.
pub fn print(text: &str) -> io::Result<()> {
    let mut output = stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Prints a line to standard error, if standard error can be written to.
pub fn print_error(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}
