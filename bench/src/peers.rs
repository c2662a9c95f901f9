//! Installs the systems that Drover is compared with (its peers) in a cache folder of the user, and starts a system for each
//! figure. A system that can't be installed on this machine is reported and skipped.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use drover_tests::ReservedPort;
use serde_json::Value;

use crate::{
    Result,
    drover::single_post,
    load::{self, LoadResult, Until},
    persistence::Persistence,
    service::Service,
};

/// The folders of the other queue systems (peers) that are installed; `None` for a system that is skipped.
pub(crate) struct Peers {
    /// The folder of the programs (drivers) that measure `BullMQ` and Bull.
    drivers: Option<PathBuf>,
    /// The folder of the HTTP server that enqueues messages with `NestJS` and Bull.
    nest: Option<PathBuf>,
    /// The folder of the axum server that echoes each message.
    echo: Option<PathBuf>,
}

/// An HTTP server that accepts one message per POST, as the API does.
#[derive(Clone, Copy)]
pub(crate) enum Producer {
    /// `NestJS` with Bull.
    Nest,
    /// An axum server that parses and echoes a message.
    Echo,
}

impl Peers {
    /// Copies the programs of the peers from `source` to a folder in the user's cache, and installs the programs there.
    pub(crate) fn install_all(source: &Path) -> Result<Self> {
        let cache_folder = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home_cache_folder =
            std::env::var_os("HOME").map(|home_cache_folder| PathBuf::from(home_cache_folder).join(".cache"));
        let cache_folder = cache_folder.or(home_cache_folder).unwrap_or_else(std::env::temp_dir).join("drover-bench");
        std::fs::create_dir_all(&cache_folder)?;
        println!("Installing the peers in {}", cache_folder.display());
        let install_peer = |names: &str, part: &str, install: fn(&Path) -> Result<()>| {
            let folder = cache_folder.join(part);
            let copy_result = run_to_success(Command::new("cp").arg("-R").arg(source.join(part)).arg(&cache_folder));
            match copy_result.and_then(|()| install(&folder)) {
                Ok(()) => Some(folder),
                Err(error) => {
                    println!("Skipped, because it can't be installed here: {names}: {error}");
                    None
                }
            }
        };
        Ok(Self {
            drivers: install_peer("BullMQ and Bull", "node", install_packages),
            nest: install_peer("NestJS + Bull", "nest", |folder| {
                install_packages(folder)?;
                run_to_success(Command::new("npm").args(["run", "build"]).current_dir(folder))
            }),
            echo: install_peer("axum echo", "axum-echo", |folder| {
                let mut cargo_build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                cargo_build.args(["build", "--release", "--locked"]).env_remove("CARGO_TARGET_DIR");
                run_to_success(cargo_build.current_dir(folder))
            }),
        })
    }

    /// Runs the driver of a peer, which measures a figure and prints the result as a line of JSON. Returns `None` if the peer
    /// is skipped.
    pub(crate) fn run_driver(&self, system: &str, persistence: Persistence, figure: &[&str]) -> Result<Option<Value>> {
        let Some(folder) = &self.drivers else { return Ok(None) };
        let redis = persistence.start_redis();
        let output = Command::new("node")
            .arg(format!("{system}.js"))
            .args(figure)
            .env("REDIS_PORT", redis.port().to_string())
            .current_dir(folder)
            .stderr(Stdio::inherit())
            .output()?;
        let driver_output = String::from_utf8_lossy(&output.stdout);
        let report_line =
            driver_output.lines().last().ok_or_else(|| format!("{system} {figure:?} reported nothing"))?;
        Ok(Some(serde_json::from_str(report_line)?))
    }

    /// Runs four workers of `BullMQ`, each with up to 25 concurrent handlers, which take 10 ms. Returns the jobs per second;
    /// `None` if `BullMQ` is skipped.
    pub(crate) fn run_10_ms_handlers(&self) -> Result<Option<f64>> {
        let Some(folder) = &self.drivers else { return Ok(None) };
        let redis = Persistence::EverySecond.start_redis();
        let node_command = |role: &str| {
            let mut command = Command::new("node");
            command.args(["sleep.js", role]).env("REDIS_PORT", redis.port().to_string()).current_dir(folder);
            command
        };
        let mut workers = Vec::new();
        for _ in 0..4 {
            workers.push(node_command("w").stdout(Stdio::null()).spawn()?);
        }
        let node_output = node_command("p").stderr(Stdio::inherit()).output();
        for mut worker in workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        Ok(Some(String::from_utf8_lossy(&node_output?.stdout).trim().parse()?))
    }

    /// Sends the HTTP server `producer` the same load of single POSTs that Drover gets. Returns `None` if this server is not installed.
    pub(crate) fn post_singles(
        &self,
        producer: Producer,
        persistence: Persistence,
        connections: usize,
        seconds: u64,
    ) -> Result<Option<LoadResult>> {
        let redis = persistence.start_redis();
        let (mut command, path) = match (producer, &self.nest, &self.echo) {
            (Producer::Nest, Some(folder), _) => {
                let mut command = Command::new("node");
                command.arg("dist/app.js").current_dir(folder);
                (command, "/")
            }
            (Producer::Echo, _, Some(folder)) => {
                (Command::new(folder.join("target/release/axum-echo")), "/v1/queues/q/messages")
            }
            _ => return Ok(None),
        };
        command.env("REDIS_PORT", redis.port().to_string());
        let service = Service::start_peer(command, ReservedPort::reserve())?;
        let address = service.address();
        load::send_load(address, vec![single_post(path)], connections, Until::Elapsed(Duration::from_secs(1)))?;
        let load_result = load::send_load(
            address,
            vec![single_post(path)],
            connections,
            Until::Elapsed(Duration::from_secs(seconds)),
        )?;
        drop(service);
        Ok(Some(load_result))
    }
}

/// Installs the packages of the lock file with `npm ci`, or with `npm install` if that fails because the lock file lacks a
/// package for this machine.
fn install_packages(folder: &Path) -> Result<()> {
    let (lock, installed) = (folder.join("package-lock.json"), folder.join("installed-lock.json"));
    let required_lock = std::fs::read(&lock)?;
    if std::fs::read(&installed).is_ok_and(|installed| installed == required_lock) {
        return Ok(());
    }
    let npm = |subcommand: &str| {
        let mut command = Command::new("npm");
        command.args([subcommand, "--no-audit", "--no-fund"]).current_dir(folder);
        command
    };
    if !succeeds(&mut npm("ci")) {
        run_to_success(&mut npm("install"))?;
    }
    Ok(std::fs::write(installed, required_lock)?)
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn run_to_success(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status();
    let program = command.get_program().display();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{command:?} failed").into()),
        Err(error) => Err(format!("{program} can't be started: {error}").into()),
    }
}
