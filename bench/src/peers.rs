//! Installs the systems that Drover is compared with in a cache folder of the user, and starts them for each figure. A
//! system that can't be installed on this machine is reported and skipped.

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

/// The folders of the peers that are installed; `None` for a peer that is skipped.
pub(crate) struct Peers {
    /// The drivers of `BullMQ` and Bull.
    drivers: Option<PathBuf>,
    /// The producer with `NestJS` and Bull.
    nest: Option<PathBuf>,
    /// The axum server that echoes each message.
    echo: Option<PathBuf>,
}

/// A system that accepts single POSTs.
#[derive(Clone, Copy)]
pub(crate) enum Producer {
    /// `NestJS` with Bull.
    Nest,
    /// An axum server that parses and echoes a message.
    Echo,
}

impl Peers {
    /// Copies the peers of `source` to a folder in the user's cache, and installs them there.
    pub(crate) fn prepare(source: &Path) -> Result<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let cache = cache.or(home).unwrap_or_else(std::env::temp_dir).join("drover-bench");
        std::fs::create_dir_all(&cache)?;
        println!("Installing the peers in {}", cache.display());
        let prepare = |names: &str, part: &str, install: fn(&Path) -> Result<()>| {
            let folder = cache.join(part);
            let copy_result = run(Command::new("cp").arg("-R").arg(source.join(part)).arg(&cache));
            match copy_result.and_then(|()| install(&folder)) {
                Ok(()) => Some(folder),
                Err(error) => {
                    println!("Skipped, because it can't be installed here: {names}: {error}");
                    None
                }
            }
        };
        Ok(Self {
            drivers: prepare("BullMQ and Bull", "node", install_packages),
            nest: prepare("NestJS + Bull", "nest", |folder| {
                install_packages(folder)?;
                run(Command::new("npm").args(["run", "build"]).current_dir(folder))
            }),
            echo: prepare("axum echo", "axum-echo", |folder| {
                let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                build.args(["build", "--release", "--locked"]).env_remove("CARGO_TARGET_DIR");
                run(build.current_dir(folder))
            }),
        })
    }

    /// Runs a peer's driver, which measures a figure and reports it as a line of JSON. Returns `None` if the peer is skipped.
    pub(crate) fn driver(&self, system: &str, persistence: Persistence, figure: &[&str]) -> Result<Option<Value>> {
        let Some(folder) = &self.drivers else { return Ok(None) };
        let redis = persistence.start_redis();
        let output = Command::new("node")
            .arg(format!("{system}.js"))
            .args(figure)
            .env("REDIS_PORT", redis.port().to_string())
            .current_dir(folder)
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().ok_or_else(|| format!("{system} {figure:?} reported nothing"))?;
        Ok(Some(serde_json::from_str(line)?))
    }

    /// Runs four workers of `BullMQ`, each with 25 handlers of 10 ms at once. Returns the jobs per second; `None` if `BullMQ` is
    /// skipped.
    pub(crate) fn run_10_ms_handlers(&self) -> Result<Option<f64>> {
        let Some(folder) = &self.drivers else { return Ok(None) };
        let redis = Persistence::EverySecond.start_redis();
        let node = |role: &str| {
            let mut command = Command::new("node");
            command.args(["sleep.js", role]).env("REDIS_PORT", redis.port().to_string()).current_dir(folder);
            command
        };
        let mut workers = Vec::new();
        for _ in 0..4 {
            workers.push(node("w").stdout(Stdio::null()).spawn()?);
        }
        let node_output = node("p").stderr(Stdio::inherit()).output();
        for mut worker in workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        Ok(Some(String::from_utf8_lossy(&node_output?.stdout).trim().parse()?))
    }

    /// Sends a producer the same load of single POSTs that Drover gets. Returns `None` if the producer is skipped.
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
        let service = Service::peer(command, ReservedPort::reserve())?;
        let address = service.address();
        load::send(address, vec![single_post(path)], connections, Until::Elapsed(Duration::from_secs(1)))?;
        let load_result =
            load::send(address, vec![single_post(path)], connections, Until::Elapsed(Duration::from_secs(seconds)))?;
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
        run(&mut npm("install"))?;
    }
    Ok(std::fs::write(installed, required_lock)?)
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status();
    let program = command.get_program().display();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("{command:?} failed").into()),
        Err(error) => Err(format!("{program} can't be started: {error}").into()),
    }
}
