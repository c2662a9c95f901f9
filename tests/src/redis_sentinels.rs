//! A primary with replicas, and the Sentinels that watch them, of one test.

use std::{
    fs,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{HeldPort, RedisServer, eventually, redis_server::command_at};

/// A primary, its replicas, and the Sentinels that watch them under the name `main`. A primary that does not answer for a second is
/// replaced.
#[derive(Debug)]
pub struct RedisSentinels {
    /// The servers. The first one began as the primary.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

#[derive(Debug)]
struct Sentinel {
    port: HeldPort,
    process: Child,
    _folder: TempDir,
}

impl RedisSentinels {
    /// Starts everything, and waits until the Sentinels know the replicas and each other.
    pub fn start(replicas: usize, sentinels: usize) -> Self {
        let mut servers = vec![RedisServer::start_member(&[])];
        let port = servers[0].port();
        for _ in 0..replicas {
            servers.push(RedisServer::start_member(&["--replicaof", "127.0.0.1", &port.to_string()]));
        }
        for replica in &servers[1..] {
            eventually("the replica has its copy", || {
                replica.command("INFO replication").contains("master_link_status:up").then_some(())
            });
        }
        let sentinels: Vec<Sentinel> = (0..sentinels).map(|_| Sentinel::start(port, sentinels / 2 + 1)).collect();
        let started = Self { servers, sentinels };
        eventually("the Sentinels know all servers", || {
            let knows_all = |sentinel: &Sentinel| {
                let about = sentinel.command("SENTINEL MASTER main").unwrap_or_default();
                let field = |name: &str| {
                    let mut lines = about.lines().skip_while(|line| *line != name);
                    lines.nth(2).and_then(|value| value.parse::<usize>().ok())
                };
                field("num-slaves") == Some(replicas)
                    && field("num-other-sentinels") == Some(started.sentinels.len() - 1)
            };
            started.sentinels.iter().all(knows_all).then_some(())
        });
        started
    }

    /// The URL of the Sentinels.
    pub fn url(&self) -> String {
        let sentinels: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port.number())).collect();
        format!("redis+sentinel://{}/main", sentinels.join(","))
    }

    /// Sends a command to the first Sentinel, and returns the raw reply.
    pub fn command(&self, command: &str) -> String {
        self.sentinels[0].command(command).expect("the Sentinel answers")
    }

    /// The index of the primary: the server that says so itself. If several do, the one that the Sentinels name last.
    pub fn primary(&self) -> Option<usize> {
        let address = self.sentinels[0].command("SENTINEL GET-MASTER-ADDR-BY-NAME main")?;
        let port = address.lines().nth(4)?.to_owned();
        let index = self.servers.iter().position(|server| server.port().to_string() == port)?;
        let role = self.servers[index].try_command("ROLE")?;
        role.contains("master").then_some(index)
    }
}

impl Sentinel {
    fn start(primary: u16, quorum: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let port = HeldPort::take();
        let file = folder.path().join("sentinel.conf");
        let config = format!(
            "port {}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary} {quorum}\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 3000\n",
            port.number()
        );
        fs::write(&file, config).unwrap();
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed (make test installs it)");
        Self { port, process, _folder: folder }
    }

    fn command(&self, command: &str) -> Option<String> {
        command_at(self.port.number(), command)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
