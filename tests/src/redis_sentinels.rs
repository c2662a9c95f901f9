//! A primary with replicas for one test, and the Sentinels that watch the servers.

use std::{
    fmt::Write,
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    CertificateAuthority, RedisServer, ReservedPort, TlsClients, eventually,
    redis_server::{Access, ServerTls, command_at},
};

/// A primary, its replicas, and the Sentinels that watch the servers under the name `main`. The Sentinels replace a primary
/// that does not answer for a second.
#[derive(Debug)]
pub struct RedisSentinels {
    /// The Redis servers. The first server is the primary at the start.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    port: ReservedPort,
    tls_port: Option<ReservedPort>,
    process: Child,
    folder: TempDir,
}

/// The configuration file of a Sentinel, in which the Sentinel also stores its knowledge of the servers.
const CONFIG_FILE: &str = "sentinel.conf";

impl RedisSentinels {
    /// Starts the servers and the Sentinels, and waits until the Sentinels know the replicas and each other.
    pub fn start(replicas: usize, sentinels: usize) -> Self {
        Self::start_with(replicas, sentinels, &Access::Direct)
    }

    /// Starts the servers and the Sentinels like [`start`](Self::start), with a proxy in front of each server. Clients,
    /// replicas and Sentinels connect to the proxies.
    pub fn start_behind_proxies(replicas: usize, sentinels: usize) -> Self {
        Self::start_with(replicas, sentinels, &Access::Proxied)
    }

    /// Starts the servers and the Sentinels like [`start`](Self::start), with TLS between all servers and Sentinels, and for
    /// clients at [`tls_url`](Self::tls_url). The servers and the Sentinels show certificates of this CA for `localhost`, and
    /// tell clients only this host name.
    pub fn start_with_tls(replicas: usize, sentinels: usize, ca: &CertificateAuthority) -> Self {
        Self::start_with(replicas, sentinels, &Access::Tls(ServerTls::of_localhost(ca)))
    }

    fn start_with(replicas: usize, sentinels: usize, access: &Access) -> Self {
        let options: &[&str] = match access {
            Access::Tls(_) => &["--tls-replication", "yes", "--replica-announce-ip", "localhost"],
            Access::Direct | Access::Proxied => &[],
        };
        let start = || RedisServer::start_member(options, access, "replica-announce-port");
        let servers: Vec<_> = (0..=replicas).map(|_| start()).collect();
        for replica in &servers[1..] {
            replica.follow(&servers[0]);
            replica.wait_until_replica_has_copy();
        }
        let sentinels: Vec<Sentinel> =
            (0..sentinels).map(|_| Sentinel::start(&servers[0], sentinels / 2 + 1, access)).collect();
        let sentinel_group = Self { servers, sentinels };
        sentinel_group.wait_until_sentinels_know_all_servers();
        sentinel_group
    }

    /// Waits until the Sentinels know the replicas and each other.
    fn wait_until_sentinels_know_all_servers(&self) {
        let replicas = (self.servers.len() - 1).to_string();
        let other_sentinels = (self.sentinels.len() - 1).to_string();
        eventually("the Sentinels know all servers", || {
            let knows_all_servers = |sentinel: &Sentinel| {
                sentinel.field("num-slaves").as_ref() == Some(&replicas)
                    && sentinel.field("num-other-sentinels").as_ref() == Some(&other_sentinels)
            };
            self.sentinels.iter().all(knows_all_servers).then_some(())
        });
    }

    /// Restarts the Sentinels, one after the other.
    pub fn restart_sentinels(&mut self) {
        for index in 0..self.sentinels.len() {
            self.sentinels[index].restart();
            self.wait_until_sentinels_know_all_servers();
            self.wait_until_settled();
        }
    }

    /// Waits until no Sentinel works on a fail-over, and all Sentinels name the same primary, which is up.
    pub fn wait_until_settled(&self) {
        eventually("the Sentinels agree", || {
            let port = self.sentinels[0].field("port");
            let agrees_on_primary = |sentinel: &Sentinel| {
                sentinel.field("port") == port && sentinel.field("flags").as_deref() == Some("master")
            };
            self.sentinels.iter().all(agrees_on_primary).then_some(())
        });
    }

    /// Returns the URL of the Sentinels.
    pub fn url(&self) -> String {
        let sentinels: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port.number())).collect();
        format!("redis+sentinel://{}/main", sentinels.join(","))
    }

    /// Returns the URL of the Sentinels' ports for TLS.
    pub fn tls_url(&self) -> String {
        let tls_port = |sentinel: &Sentinel| sentinel.tls_port.as_ref().expect("started with TLS").number();
        let sentinels: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("localhost:{}", tls_port(sentinel))).collect();
        format!("rediss+sentinel://{}/main", sentinels.join(","))
    }

    /// Sends a command to the first Sentinel, and returns the raw reply.
    pub fn command(&self, command: &str) -> String {
        self.sentinels[0].command(command).expect("the Sentinel answers")
    }

    /// Returns the index of the server that the first Sentinel names as the primary; `None` if this server does not report the
    /// role of a primary.
    pub fn primary(&self) -> Option<usize> {
        let address = self.sentinels[0].command("SENTINEL GET-MASTER-ADDR-BY-NAME main")?;
        let port = address.lines().nth(4)?.to_owned();
        let index = self.servers.iter().position(|server| server.announced_port().to_string() == port)?;
        let role = self.servers[index].try_command("ROLE")?;
        role.contains("master").then_some(index)
    }
}

impl Sentinel {
    fn start(primary: &RedisServer, quorum: usize, access: &Access) -> Self {
        let folder = TempDir::new().unwrap();
        let port = ReservedPort::reserve();
        let mut config = format!("port {}\nbind 127.0.0.1\n", port.number());
        let mut tls_port = None;
        if let Access::Tls(tls) = access {
            let port = tls_port.insert(ReservedPort::reserve());
            for [name, value] in tls.options(port, TlsClients::All) {
                writeln!(config, "{name} {value}").unwrap();
            }
            config += "tls-replication yes\nsentinel resolve-hostnames yes\nsentinel announce-hostnames yes\n";
        }
        let address = format!("{} {}", primary.announced_host(), primary.announced_port());
        writeln!(config, "sentinel monitor main {address} {quorum}").unwrap();
        config += "sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n";
        fs::write(folder.path().join(CONFIG_FILE), config).unwrap();
        let process = Self::start_process(&folder);
        Self { port, tls_port, process, folder }
    }

    fn start_process(folder: &TempDir) -> Child {
        Command::new("redis-server")
            .arg(folder.path().join(CONFIG_FILE))
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed (make test installs it)")
    }

    /// Kills the Sentinel, and starts it again. The Sentinel reads its knowledge of the servers from its configuration file.
    fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = Self::start_process(&self.folder);
    }

    fn command(&self, command: &str) -> Option<String> {
        command_at(self.port.number(), command)
    }

    /// Returns the value of a field that the Sentinel stores about the primary.
    fn field(&self, name: &str) -> Option<String> {
        let primary_info = self.command("SENTINEL MASTER main")?;
        primary_info.lines().skip_while(|line| *line != name).nth(2).map(str::to_owned)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
