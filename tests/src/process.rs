//! Drover's binaries and examples as processes of a test, and the logs of the processes.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, OnceLock},
};

use crate::eventually;

/// A running process of Drover. The log of the process is printed when the test fails.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: Mutex<ProcessLog>,
}

/// The log of a process: a file to which the process writes its standard output and its standard error. A test that reads the log finds
/// each line that the process wrote before the read, for example before the process answered a request.
#[derive(Debug)]
struct ProcessLog {
    file: File,
    /// The complete lines that were read from the log file.
    lines: Vec<String>,
    /// The beginning of a line whose end was not read yet.
    incomplete_line: Vec<u8>,
    /// The number of lines up to the line that the last call of [`Process::wait_for_log`] found.
    searched_count: usize,
}

impl ProcessLog {
    /// Returns an empty log, and the file to which a process writes the log.
    fn create() -> (Self, File) {
        let named_file = tempfile::NamedTempFile::new().unwrap();
        // A reopened file has a position of its own, so reading the log does not move the position at which the process writes.
        let file = named_file.reopen().unwrap();
        let log = Self { file, lines: Vec::new(), incomplete_line: Vec::new(), searched_count: 0 };
        (log, named_file.into_file())
    }

    /// Reads the lines that the process has written since the last call.
    fn read_new_lines(&mut self) {
        let mut bytes = std::mem::take(&mut self.incomplete_line);
        self.file.read_to_end(&mut bytes).unwrap();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        // The part after the last line feed is an incomplete line, or empty.
        self.incomplete_line = lines.next_back().unwrap_or_default().to_vec();
        self.lines.extend(lines.map(|line| String::from_utf8_lossy(line).into_owned()));
    }

    /// Returns the first line with `text` after the line that the previous call found.
    fn find_next_line(&mut self, text: &str) -> Option<String> {
        self.read_new_lines();
        let new_lines = &self.lines[self.searched_count..];
        let index = new_lines.iter().position(|line| line.contains(text));
        self.searched_count += index.map_or(new_lines.len(), |index| index + 1);
        index.map(|index| new_lines[index].clone())
    }
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
        let (log, file) = ProcessLog::create();
        let child = without_drover_variables(&mut command)
            .args(args)
            .envs(env.iter().copied())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { child, name: name.to_owned(), log: Mutex::new(log) }
    }

    /// Waits for a line of the log that contains `text`, and returns the line. Lines up to the line that the previous call of
    /// `wait_for_log` found do not count.
    pub fn wait_for_log(&self, text: &str) -> String {
        eventually(&format!("{} logs {text:?}", self.name), || self.log.lock().unwrap().find_next_line(text))
    }

    /// Returns the id of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the complete lines that the process has written so far.
    pub fn log(&self) -> Vec<String> {
        let mut log = self.log.lock().unwrap();
        log.read_new_lines();
        log.lines.clone()
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

    /// Waits until the process has ended.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
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

/// Removes the variables that cargo sets for a test, so that the command may build. A build script that reads a variable such as
/// `CARGO_PKG_VERSION` would run again, because the variable's value has changed.
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

/// Returns the folder of the binaries. The first call of `binaries_folder` builds the binaries, so that a test never runs an old binary.
/// The build covers the whole workspace with its examples, because Cargo enables other features of dependencies for a part of the
/// workspace, and would compile these dependencies again.
fn binaries_folder() -> &'static Path {
    static BINARIES_FOLDER: OnceLock<PathBuf> = OnceLock::new();
    BINARIES_FOLDER.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bins", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(without_cargo_variables(&mut build).status().unwrap().success(), "the binaries do not build");
        // target/debug/deps/<test> → target/debug
        std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
    })
}
