use std::{error::Error, path::PathBuf, process::ExitCode};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{Config, telemetry::Telemetry};

/// The arguments of both binaries.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Read this configuration file over the defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration as it is in effect, without secrets, and stop
    #[arg(long)]
    print_config: bool,
}

/// Runs a service: loads its configuration, starts its log, and lets `service` work until SIGTERM or SIGINT cancels its
/// token. A second signal ends the process at once.
pub fn run<F>(name: &str, arguments: &Arguments, service: impl FnOnce(Config, CancellationToken) -> F) -> ExitCode
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    match load(name, arguments) {
        Ok(Some((config, telemetry))) => {
            let worked = work(name, config, service);
            if let Err(error) = &worked {
                error!(%error, "{name} can't go on");
            }
            telemetry.finish();
            if worked.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "there is no log yet")]
            {
                eprintln!("{name}: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

/// `None` when the configuration was only to be printed.
fn load(name: &str, arguments: &Arguments) -> Result<Option<(Config, Telemetry)>, Box<dyn Error + Send + Sync>> {
    let config = Config::load(arguments.config.as_deref())?;
    if arguments.print_config {
        #[expect(clippy::print_stdout, reason = "it is what the user asked to see")]
        {
            print!("{}", toml::to_string(&config)?);
        }
        return Ok(None);
    }
    let telemetry = Telemetry::start(name, &config.log, &config.traces)?;
    Ok(Some((config, telemetry)))
}

fn work<F>(
    name: &str,
    config: Config,
    service: impl FnOnce(Config, CancellationToken) -> F,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    F: Future<Output = Result<(), Box<dyn Error + Send + Sync>>>,
{
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let shutdown = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stopping = shutdown.clone();
        let signals = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("stopping; a second signal stops at once");
            stopping.cancel();
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        info!(version = env!("CARGO_PKG_VERSION"), "{name} starts");
        tokio::select! {
            ended = service(config, shutdown) => {
                ended?;
                info!("{name} stopped");
                Ok(())
            }
            () = signals => Err("stopped at once by a second signal".into()),
        }
    })
}
