//! Drover's binaries and examples as processes of a test, and the logs of the processes.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{Receiver, channel},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use crate::{TIME_LIMIT, eventually};

/// A running process of Drover. The log of the process is read all the time, and printed when the test fails.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: Arc<Mutex<Vec<String>>>,
    lines: Receiver<String>,
    /// The threads that read the log to its end.
    readers: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts a binary of the workspace with these arguments. Of Drover's variables, the environment of the process has only
    /// the variables in `env`.
    pub fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_file(&binary(name), name, args, env)
    }

    /// Starts an example of the workspace, as [`start`](Self::start) does.
    pub fn start_example(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_file(&binaries_folder().join("examples").join(name), name, args, env)
    }

    /// Starts a program from this file, as [`start`](Self::start) does. `name` stands for the process in the output of a failed test.
    pub fn start_file(file: &Path, name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(file);
        let mut child = without_drover_variables(&mut command)
            .args(args)
            .envs(env.iter().copied())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, lines) = channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        let readers = streams.map(|stream| {
            let (log, sender) = (Arc::clone(&log), sender.clone());
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().unwrap().push(line.clone());
                    // Sending a line fails if the test has ended.
                    let _ = sender.send(line);
                }
            })
        });
        Self { child, name: name.to_owned(), log, lines, readers }
    }

    /// Waits for a line of the log that contains `text`, and returns the line. Lines up to the line that the previous call
    /// found do not count.
    pub fn wait_for_log(&self, text: &str) -> String {
        let started_at = Instant::now();
        while let Some(left) = TIME_LIMIT.checked_sub(started_at.elapsed()) {
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        panic!("{} never logged {text:?}", self.name);
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Kills the process with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM, as `docker stop` does, and waits until the process has ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.send_sigterm();
        self.wait()
    }

    /// Sends SIGTERM, and does not wait for the end of the process.
    pub fn send_sigterm(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Returns whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the process has ended and its log is complete.
    pub fn wait(&mut self) -> ExitStatus {
        let status = eventually("the process ends", || self.child.try_wait().unwrap());
        eventually("the log is read to its end", || self.readers.iter().all(JoinHandle::is_finished).then_some(()));
        status
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test harness shows the log beside the failure")]
            {
                eprintln!("--- log of {} ---\n{}", self.name, self.log().join("\n"));
            }
        }
    }
}

/// Removes the variables of Drover that a process would inherit from the test.
pub fn without_drover_variables(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"DROVER_") {
            command.env_remove(name);
        }
    }
    command
}

/// Removes the variables that cargo sets for a test, so that the command may build. A build script that reads one of the variables
/// would run again, because the value has changed.
pub fn without_cargo_variables(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// Returns the file of a binary of the workspace, for tests that need more than [`Process`] offers.
pub fn binary(name: &str) -> PathBuf {
    binaries_folder().join(name)
}

/// Returns the folder of the binaries. The first call builds the binaries, so that a test never runs an old binary. The call
/// builds the whole workspace with its examples, because Cargo enables other features of dependencies for a part of the
/// workspace, and would compile these dependencies again.
fn binaries_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bins", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(without_cargo_variables(&mut build).status().unwrap().success(), "the binaries do not build");
        // target/debug/deps/<test> → target/debug
        std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
    })
}
