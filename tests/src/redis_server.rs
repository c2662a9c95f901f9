//! A redis-server for one test, which a test can stop, kill, suspend, back up and restore.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{CertificateAuthority, CertificateFiles, Proxy, RedisCluster, ReservedPort, Validity, eventually};

const CONFIG_FILE: &str = "redis.conf";

/// A redis-server for one test, on a free port, with its data in a temporary folder.
///
/// With `DROVER_TEST_REDIS=cluster` in the environment, the server is a cluster of one node, which refuses a script that uses
/// an undeclared key.
#[derive(Debug)]
pub struct RedisServer {
    port: ReservedPort,
    tls_port: Option<ReservedPort>,
    folder: TempDir,
    process: Option<Child>,
    options: Vec<String>,
    role: Role,
    proxy: Option<Proxy>,
}

/// The kind of installation to which a server belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// The server is a single server, which belongs to no cluster.
    Single,
    /// The server is a cluster of one node, which has all slots.
    WholeCluster,
    /// The server belongs to a cluster, or to a group of servers with Sentinels, which the caller completes.
    Member,
}

/// The way in which clients and other servers reach a server of a cluster or of Sentinels.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Clients reach the server at its own port.
    Direct,
    /// Clients reach the server at the port of a proxy.
    Proxied,
    /// Clients reach the server at its port for TLS, by the name `localhost`.
    Tls(ServerTls),
}

/// The certificate of a server, and the CA whose certificates the server trusts.
#[derive(Debug, Clone)]
pub(crate) struct ServerTls {
    pub(crate) certificate: CertificateFiles,
    pub(crate) ca: PathBuf,
}

impl ServerTls {
    /// Returns a new certificate of this CA for `localhost`.
    pub(crate) fn of_localhost(ca: &CertificateAuthority) -> Self {
        Self { certificate: ca.issue("localhost", Validity::Valid), ca: ca.file() }
    }

    /// Returns the options of redis-server to listen at this port for these clients, by their names and values.
    pub(crate) fn options(&self, port: &ReservedPort, tls_auth_clients: TlsClients) -> [[String; 2]; 5] {
        let path_text = |path: &Path| path.display().to_string();
        let tls_auth_clients = match tls_auth_clients {
            TlsClients::WithCertificate => "yes",
            TlsClients::All => "no",
        };
        [
            ["tls-port".into(), port.number().to_string()],
            ["tls-cert-file".into(), path_text(&self.certificate.certificate)],
            ["tls-key-file".into(), path_text(&self.certificate.key)],
            ["tls-ca-cert-file".into(), path_text(&self.ca)],
            ["tls-auth-clients".into(), tls_auth_clients.into()],
        ]
    }
}

/// The clients that a server with TLS accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsClients {
    /// The server accepts only clients that show a certificate of the server's CA.
    WithCertificate,
    /// The server accepts all clients.
    All,
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
        primary.command("CONFIG SET repl-diskless-sync-delay 0"); // The default of Redis delays the copy by 5 s.
        let port = primary.port().to_string();
        let options = ["--save", "", "--appendonly", "no"];
        let replica = if is_cluster() {
            // A server of a cluster refuses `--replicaof`.
            let replica = Self::start_with_role(Role::Member, &[&options[..], &["--cluster-enabled", "yes"]].concat());
            assert_eq!(replica.command(&format!("CLUSTER MEET 127.0.0.1 {port}")), "+OK");
            let id = RedisCluster::id_of(primary);
            eventually("the replica knows its primary", || {
                replica.command(&format!("CLUSTER REPLICATE {id}")).contains("+OK").then_some(())
            });
            replica
        } else {
            Self::start_with(&[&options[..], &["--replicaof", "127.0.0.1", &port]].concat())
        };
        replica.wait_until_replica_has_copy();
        replica
    }

    /// Starts a server that also listens with TLS, shows this certificate, and accepts clients with a certificate of this CA.
    pub fn start_with_tls(certificate: &CertificateFiles, ca: &Path, clients: TlsClients) -> Self {
        let port = ReservedPort::reserve();
        let tls = ServerTls { certificate: certificate.clone(), ca: ca.to_owned() };
        let tls = tls.options(&port, clients).map(|[name, value]| [format!("--{name}"), value]);
        let options =
            [&["--save", ""], &tls.each_ref().map(|[name, value]| [name.as_str(), value]).concat()[..]].concat();
        let mut server = Self::start_with(&options);
        server.tls_port = Some(port);
        server
    }

    /// Starts a server for a cluster or for Sentinels, with these options and an append-only file. The server does not yet know
    /// the other servers. A server behind a proxy announces the proxy's port, by the option `announcement`.
    pub(crate) fn start_member(options: &[&str], access: &Access, announcement: &str) -> Self {
        let all = ["--save", "", "--appendonly", "yes", "--repl-diskless-sync-delay", "0"];
        let mut options: Vec<String> = [&all, options].concat().into_iter().map(str::to_owned).collect();
        let mut tls_port = None;
        if let Access::Tls(tls) = access {
            let port = ReservedPort::reserve();
            options.extend(["--bind", "127.0.0.1", "-::1"].map(str::to_owned));
            options.extend(
                tls.options(&port, TlsClients::All).into_iter().flat_map(|[name, value]| [format!("--{name}"), value]),
            );
            tls_port = Some(port);
        }
        let mut server = Self::start_with_role(Role::Member, &options.iter().map(String::as_str).collect::<Vec<_>>());
        server.tls_port = tls_port;
        if matches!(access, Access::Proxied) {
            let proxy = Proxy::start(server.port());
            let port = proxy.port().to_string();
            assert_eq!(server.command(&format!("CONFIG SET {announcement} {port}")), "+OK");
            server.options.extend([format!("--{announcement}"), port]);
            server.proxy = Some(proxy);
        }
        server
    }

    fn start_with(options: &[&str]) -> Self {
        if is_cluster() {
            return Self::start_with_role(Role::WholeCluster, &[options, &["--cluster-enabled", "yes"]].concat());
        }
        Self::start_with_role(Role::Single, options)
    }

    fn start_with_role(role: Role, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let folder = TempDir::new().unwrap();
        // Redis reads the configuration file when it starts, and writes into the file which primary the server follows.
        fs::write(folder.path().join(CONFIG_FILE), "").unwrap();
        let mut server =
            Self { port: ReservedPort::reserve(), tls_port: None, folder, process: None, options, role, proxy: None };
        // A server of a cluster also uses the port that is 10,000 higher. If the port that is 10,000 higher is taken or out of range,
        // another port is tried.
        for _ in 0..20 {
            if server.try_start() {
                return server;
            }
            server.port = ReservedPort::reserve();
        }
        panic!("redis-server did not start on any of twenty ports; is it installed?");
    }

    /// Returns the URL of the server.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Returns the URL of the server's port for TLS.
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.tls_port.as_ref().expect("the server was started with TLS").number())
    }

    /// Returns the port of the server on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the proxy in front of the server.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("the server was started with a proxy")
    }

    /// Returns the port at which clients and other servers reach the server: the port of the proxy or the port for TLS, if
    /// there is one, else the server's own port.
    pub fn announced_port(&self) -> u16 {
        let tls_port = self.tls_port.as_ref().map(ReservedPort::number);
        self.proxy.as_ref().map(Proxy::port).or(tls_port).unwrap_or_else(|| self.port())
    }

    /// Returns the host at which clients and other servers reach the server.
    pub(crate) fn announced_host(&self) -> &'static str {
        if self.tls_port.is_some() { "localhost" } else { "127.0.0.1" }
    }

    /// Makes the server a replica of `primary`, even after a restart.
    pub(crate) fn follow(&self, primary: &Self) {
        assert_eq!(
            self.command(&format!("REPLICAOF {} {}", primary.announced_host(), primary.announced_port())),
            "+OK"
        );
        assert_eq!(self.command("CONFIG REWRITE"), "+OK");
    }

    /// Waits until the server, which is a replica, has the data of its primary.
    pub fn wait_until_replica_has_copy(&self) {
        eventually("the replica has its copy", || {
            self.command("INFO replication").contains("master_link_status:up").then_some(())
        });
    }

    /// Returns the number of replicas of the server that confirm writes. A new replica confirms writes only after it
    /// has sent its first `REPLCONF ACK`.
    pub fn confirming_replicas(&self) -> usize {
        let replication_info = self.try_command("INFO replication").unwrap_or_default();
        let count_confirming =
            |line: &&str| line.starts_with("slave") && line.contains("online") && !line.contains("offset=0,");
        replication_info.lines().filter(count_confirming).count()
    }

    /// Stops the server with SIGTERM, and waits until it has ended.
    pub fn stop(&mut self) {
        // A replica that has copied all data from its primary ignores SIGTERM until its append-only file has this data.
        eventually("the append-only file is written", || {
            let persistence_info = self.try_command("INFO persistence").unwrap_or_default();
            let is_due = ["aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"]
                .iter()
                .any(|due| persistence_info.contains(due));
            (!is_due).then_some(())
        });
        self.signal("-TERM");
        if let Some(mut process) = self.process.take() {
            eventually("redis-server stops", || process.try_wait().unwrap());
        }
    }

    /// Kills the server with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Starts the server again after a [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and with its data on disk.
    pub fn restart(&mut self) {
        eventually("redis-server starts again", || self.try_start().then_some(()));
    }

    /// Writes a snapshot of the server to the file `file`, as `docs/PRODUCTION.md` describes.
    pub fn back_up(&self, file: &Path) {
        let backup =
            Command::new("redis-cli").args(["-p", &self.port().to_string(), "--rdb"]).arg(file).output().unwrap();
        assert!(backup.status.success(), "{backup:?}");
    }

    /// Restores a snapshot to the server, which is empty and was started with an append-only file, as `docs/PRODUCTION.md`
    /// describes.
    pub fn restore(&mut self, snapshot: &Path) {
        self.try_command("SHUTDOWN NOSAVE");
        let mut process = self.process.take().expect("redis-server runs");
        eventually("redis-server stops", || process.try_wait().unwrap());
        fs::copy(snapshot, self.folder.path().join("dump.rdb")).unwrap();
        self.set_append_only("no");
        self.restart();
        assert_eq!(self.command("CONFIG SET appendonly yes"), "+OK");
        eventually("the append-only file is written", || {
            self.command("INFO persistence").contains("aof_rewrite_in_progress:0").then_some(())
        });
        self.set_append_only("yes");
    }

    /// Sets whether the server has an append-only file after its next start.
    fn set_append_only(&mut self, value: &str) {
        let option = self.options.iter().position(|option| option == "--appendonly");
        self.options[option.expect("the server was started with this option") + 1] = value.into();
    }

    /// Suspends the server. The connections of a suspended server stay open.
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
            .arg(self.folder.path().join(CONFIG_FILE))
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
            let is_up =
                self.try_command("PING").is_some_and(|answer| answer.contains("PONG") || answer.contains("MASTERDOWN"));
            is_up.then_some(true)
        });
        if !is_up {
            return false;
        }
        self.process = Some(process);
        if self.role == Role::WholeCluster {
            self.command("CLUSTER ADDSLOTSRANGE 0 16383");
            eventually("the cluster of one node is complete", || {
                self.command("CLUSTER INFO").contains("cluster_state:ok").then_some(())
            });
        }
        true
    }

    /// Sends one command, as [`command`](Self::command) does, and returns the raw reply; `None` if there is no reply.
    pub fn try_command(&self, command: &str) -> Option<String> {
        command_at(self.port(), command)
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

/// Sends one command to the server at this port, and returns the raw reply; `None` if there is no reply.
pub(crate) fn command_at(port: u16, command: &str) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    socket.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    // After the client has closed its direction of the connection, the server answers, and then closes the other direction.
    socket.shutdown(Shutdown::Write).ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).ok()?;
    Some(answer.trim_end().to_owned()).filter(|answer| !answer.is_empty())
}

fn is_cluster() -> bool {
    std::env::var("DROVER_TEST_REDIS").is_ok_and(|kind| kind == "cluster")
}
