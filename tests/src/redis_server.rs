//! A redis-server for one test.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{HeldPort, eventually};

/// A redis-server of one test, on a free port, with its data in a temporary folder.
///
/// With `DROVER_TEST_REDIS=cluster` in the environment the server is a cluster of one node, which refuses a
/// script that uses a key that it has not declared.
#[derive(Debug)]
pub struct RedisServer {
    port: HeldPort,
    folder: TempDir,
    process: Option<Child>,
    options: Vec<String>,
}

impl RedisServer {
    /// Starts a server without persistence.
    pub fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// Starts a server that writes each change to disk before it answers.
    pub fn start_durable() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts a server that writes its changes to disk once a second.
    pub fn start_fsync_everysec() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "yes", "--appendfsync", "everysec"])
    }

    /// Starts a replica of `primary`, which refuses writes until `REPLICAOF NO ONE` promotes it.
    pub fn start_replica_of(primary: &Self) -> Self {
        primary.command("CONFIG SET repl-diskless-sync-delay 0"); // The default delays the copy by 5 s.
        let port = primary.port().to_string();
        let replica = Self::start_with(&["--save", "", "--appendonly", "no", "--replicaof", "127.0.0.1", &port]);
        eventually("the replica has its copy", || {
            replica.command("INFO replication").contains("master_link_status:up").then_some(())
        });
        replica
    }

    fn start_with(options: &[&str]) -> Self {
        let mut options: Vec<String> = options.iter().map(ToString::to_string).collect();
        if is_cluster() {
            options.extend(["--cluster-enabled", "yes"].map(String::from));
        }
        let folder = TempDir::new().unwrap();
        let mut server = Self { port: HeldPort::take(), folder, process: None, options };
        // The second port of a cluster is 10,000 higher, and may be taken or out of range. Then another port is tried.
        for _ in 0..20 {
            if server.try_start() {
                return server;
            }
            server.port = HeldPort::take();
        }
        panic!("redis-server did not start on any of twenty ports; is it installed?");
    }

    /// The URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// The port of the server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts the server again after a [`kill`](Self::kill), on the same port and with its data on disk.
    pub fn restart(&mut self) {
        eventually("redis-server starts again", || self.try_start().then_some(()));
    }

    /// Suspends the server. Its connections stay open.
    pub fn suspend(&self) {
        self.signal("-STOP");
    }

    /// Resumes the server after a [`suspend`](Self::suspend).
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// Sends one command without spaces in its arguments, and returns the raw reply.
    pub fn command(&self, command: &str) -> String {
        self.try_command(command).unwrap_or_else(|| panic!("redis did not answer to {command}"))
    }

    fn try_start(&mut self) -> bool {
        let mut process = Command::new("redis-server")
            .args(["--port", &self.port().to_string(), "--bind", "127.0.0.1", "--dir"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed (make test installs it)");
        let is_up = eventually("redis-server answers", || {
            if process.try_wait().unwrap().is_some() {
                return Some(false);
            }
            self.try_command("PING").is_some_and(|answer| answer.contains("PONG")).then_some(true)
        });
        if !is_up {
            return false;
        }
        self.process = Some(process);
        if is_cluster() {
            self.command("CLUSTER ADDSLOTSRANGE 0 16383");
            eventually("the cluster of one node is complete", || {
                self.command("CLUSTER INFO").contains("cluster_state:ok").then_some(())
            });
        }
        true
    }

    fn try_command(&self, command: &str) -> Option<String> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port())).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        socket.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer.trim_end().trim_end_matches("+OK").trim_end().to_owned())
    }

    fn signal(&self, signal: &str) {
        let id = self.process.as_ref().expect("redis-server runs").id();
        assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn is_cluster() -> bool {
    std::env::var("DROVER_TEST_REDIS").is_ok_and(|kind| kind == "cluster")
}
