use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use drover_tests::{HeldPort, RedisServer};
use serde_json::Value;

use crate::{
    Result,
    drover::single,
    load::{self, Loaded, Until},
    service::Service,
};

/// The peers that can be measured on this machine.
pub(crate) struct Peers {
    /// Where their drivers stand ready, outside the tree; none where they can't be had.
    folder: Option<PathBuf>,
}

/// A system that takes single POSTs.
#[derive(Clone, Copy)]
pub(crate) enum Producer {
    /// `NestJS` with Bull.
    Nest,
    /// An axum server that parses and echoes.
    Echo,
}

impl Peers {
    /// Installs what the drivers in `source` need, in a folder of the user's cache.
    pub(crate) fn prepare(source: &Path) -> Result<Self> {
        if !source.join("node").is_dir() {
            println!(
                "There are no peers' drivers in {}: only Drover is measured. Name their folder with PEERS=…",
                source.display()
            );
            return Ok(Self { folder: None });
        }
        if !["node", "npm"].iter().all(|tool| runs(Command::new(tool).arg("--version"))) {
            println!(
                "There is no node or no npm here: only Drover is measured. Install node 20 or newer for its peers"
            );
            return Ok(Self { folder: None });
        }
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
        let folder = cache.or(home).unwrap_or_else(std::env::temp_dir).join("drover-bench");
        std::fs::create_dir_all(&folder)?;
        println!("Installing the peers in {}", folder.display());
        let copy = [source.join("node"), source.join("nest"), source.join("axum-echo")];
        do_run(Command::new("cp").arg("-R").args(copy).arg(&folder))?;
        for part in ["node", "nest"] {
            install(&folder.join(part))?;
        }
        do_run(Command::new("npm").args(["run", "build"]).current_dir(folder.join("nest")))?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        do_run(
            build
                .args(["build", "--release"])
                .env("CARGO_TARGET_DIR", folder.join("target"))
                .current_dir(folder.join("axum-echo")),
        )?;
        Ok(Self { folder: Some(folder) })
    }

    /// A figure of a peer that its driver takes and reports as a line of JSON; none where there are no peers.
    pub(crate) fn driver(&self, system: &str, figure: &[&str]) -> Result<Option<Value>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let redis = RedisServer::start();
        let output = Command::new("node")
            .arg(format!("{system}.js"))
            .args(figure)
            .env("REDIS_PORT", redis.port().to_string())
            .current_dir(folder.join("node"))
            .stderr(Stdio::inherit())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().last().ok_or_else(|| format!("{system} {figure:?} reported nothing"))?;
        Ok(Some(serde_json::from_str(line)?))
    }

    /// The same load of single POSTs that Drover gets.
    pub(crate) fn post_singles(&self, producer: Producer, connections: usize, seconds: u64) -> Result<Option<Loaded>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let redis = RedisServer::start();
        // The echo's port is its own choice.
        let (service, address, path) = match producer {
            Producer::Nest => {
                let mut command = Command::new("node");
                command.arg("dist/app.js").env("REDIS_PORT", redis.port().to_string()).current_dir(folder.join("nest"));
                let service = Service::peer(command, HeldPort::take())?;
                let address = service.address();
                (service, address, "/")
            }
            Producer::Echo => {
                let command = Command::new(folder.join("target/release/axum-echo"));
                let service = Service::peer_at(command, ([127, 0, 0, 1], 3_001).into())?;
                (service, ([127, 0, 0, 1], 3_001).into(), "/v1/queues/q/messages")
            }
        };
        load::send(address, vec![single(path)], connections, Until::Over(Duration::from_secs(1)))?;
        let loaded = load::send(address, vec![single(path)], connections, Until::Over(Duration::from_secs(seconds)))?;
        drop(service);
        Ok(Some(loaded))
    }
}

/// As the lock file says; where that lacks what npm asks for on this machine, as near to it as npm comes.
fn install(folder: &Path) -> Result<()> {
    if folder.join("node_modules/.package-lock.json").exists() {
        return Ok(());
    }
    let npm = |what: &str| {
        let mut command = Command::new("npm");
        command.args([what, "--no-audit", "--no-fund"]).current_dir(folder);
        command
    };
    if runs(&mut npm("ci")) {
        return Ok(());
    }
    println!("{}: npm ci refuses the lock file; installing with npm install", folder.display());
    do_run(&mut npm("install"))
}

fn runs(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn do_run(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} failed").into()) }
}
