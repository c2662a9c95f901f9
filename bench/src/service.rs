//! Runs a process that serves HTTP or Redis: starts it, waits until it answers, reads its log and its memory, and kills it in
//! the end.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use drover_tests::ReservedPort;

use crate::{Result, callgrind::Callgrind};

/// The time within which a process must answer after its start.
const START_TIME_LIMIT: Duration = Duration::from_secs(30);

/// A server process. Dropping a `Service` kills its process.
pub(crate) struct Service {
    child: Child,
    address: SocketAddr,
    /// The reservation of the process's port: no other test or bench uses the port.
    _port: ReservedPort,
}

impl Service {
    /// Starts one of Drover's binaries. Of Drover's environment variables, the process gets only those for the addresses and
    /// those in `env`.
    pub(crate) fn start_binary(name: &str, redis: &str, env: &[(&str, String)]) -> Result<Self> {
        let port = ReservedPort::reserve();
        Self::start(binary_command(name, &port, redis, env)?, port, is_ready)
    }

    /// Starts the example `sleeper`, a worker whose handlers take the time that a message names.
    pub(crate) fn start_sleeper(redis: &str, env: &[(&str, String)]) -> Result<Self> {
        let port = ReservedPort::reserve();
        Self::start(binary_command("examples/sleeper", &port, redis, env)?, port, is_ready)
    }

    /// Starts one of Drover's binaries under callgrind, where it is about fifty times slower.
    pub(crate) fn drover_under_callgrind(
        callgrind: &Callgrind,
        name: &str,
        redis: &str,
        env: &[(&str, String)],
    ) -> Result<Self> {
        let port = ReservedPort::reserve();
        let command = binary_command(name, &port, redis, env)?;
        Self::start(callgrind.wrap_command(&command), port, is_ready)
    }

    /// Starts a redis-server without persistence under callgrind.
    pub(crate) fn redis_under_callgrind(callgrind: &Callgrind) -> Result<Self> {
        let port = ReservedPort::reserve();
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", &port.number().to_string()]);
        Self::start(callgrind.wrap_command(&command), port, is_redis)
    }

    /// Starts the HTTP server of another system (a peer), which reads its port from the environment variable `PORT`.
    pub(crate) fn start_peer(mut command: Command, port: ReservedPort) -> Result<Self> {
        command.env("PORT", port.number().to_string());
        Self::start(command, port, is_http)
    }

    fn start(mut command: Command, port: ReservedPort, is_up: fn(SocketAddr) -> bool) -> Result<Self> {
        let program = command.get_program().display().to_string();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let address = port.address();
        let service = Self { child, address, _port: port };
        let started_at = Instant::now();
        while !is_up(address) {
            if started_at.elapsed() > START_TIME_LIMIT {
                return Err(format!("{program} does not answer").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(service)
    }

    /// Returns the id of the server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sum of the run times of a worker's handlers so far, in seconds.
    pub(crate) fn handler_seconds(&self) -> Result<f64> {
        let metrics_page =
            send_and_read(self.address, "GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
        let run_time_lines =
            metrics_page.lines().filter(|line| line.starts_with("drover_worker_handler_duration_seconds_sum"));
        run_time_lines.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<f64>()?)).sum()
    }

    /// Calls `on_line` with each further line of the process's log.
    pub(crate) fn follow_log(&mut self, mut on_line: impl FnMut(&str) + Send + 'static) {
        if let Some(log) = self.child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(log).lines().map_while(std::result::Result::ok) {
                    on_line(&line);
                }
            });
        }
    }

    /// Reads and discards the log, so that a full pipe does not block the process.
    pub(crate) fn ignore_log(&mut self) {
        self.follow_log(|_| ());
    }

    /// The current and the peak memory of the process, in MiB.
    pub(crate) fn memory_mib(&self) -> Result<(f64, f64)> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let status_field = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such field")?;
            Ok(line.trim().trim_end_matches(" kB").trim().parse::<f64>()? / 1_024.0)
        };
        Ok((status_field("VmRSS:")?, status_field("VmHWM:")?))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command that starts one of Drover's binaries.
fn binary_command(name: &str, port: &ReservedPort, redis: &str, env: &[(&str, String)]) -> Result<Command> {
    let mut command = Command::new(binary_path(name)?);
    for (key, _) in std::env::vars().filter(|(key, _)| key.starts_with("DROVER_")) {
        command.env_remove(key);
    }
    let bind = if name == "producer-api" { "DROVER__API__BIND" } else { "DROVER__WORKER__BIND" };
    command.env("DROVER__REDIS__URL", redis).env(bind, port.address().to_string()).env("NO_COLOR", "1");
    command.envs(env.iter().map(|(key, value)| (key, value)));
    Ok(command)
}

/// The path of one of Drover's binaries, which is in the folder of the running bench's binary.
fn binary_path(name: &str) -> Result<PathBuf> {
    let bench = std::env::current_exe()?;
    let binary = bench.parent().unwrap_or(Path::new(".")).join(name);
    if binary.exists() { Ok(binary) } else { Err(format!("{} is not built; run make bench", binary.display()).into()) }
}

fn is_ready(address: SocketAddr) -> bool {
    send_and_read(address, "GET /readyz HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
        .starts_with("HTTP/1.1 200")
}

fn is_http(address: SocketAddr) -> bool {
    send_and_read(address, "GET / HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n").starts_with("HTTP/1.1 ")
}

fn is_redis(address: SocketAddr) -> bool {
    send_and_read(address, "PING\r\nQUIT\r\n").starts_with("+PONG")
}

/// Sends a request, and returns the text that arrives until the connection is closed: an empty text if there is no response.
fn send_and_read(address: SocketAddr, request: &str) -> String {
    let send = || -> std::io::Result<String> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(request.as_bytes())?;
        let mut response = String::new();
        socket.read_to_string(&mut response)?;
        Ok(response)
    };
    send().unwrap_or_default()
}
