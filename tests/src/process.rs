use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Instant,
};

use crate::{PATIENCE, eventually};

/// One of Drover's binaries, running.
///
/// Its log is read as it comes and shown when the test fails.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: Arc<Mutex<Vec<String>>>,
    lines: Receiver<String>,
}

impl Process {
    /// Starts a binary of the workspace with these arguments and this environment, and nothing else of Drover's in it.
    pub fn start(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_file(&binary(name), name, args, env)
    }

    /// Starts an example of the workspace, as [`start`](Self::start) does.
    pub fn start_example(name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_file(&binaries().join("examples").join(name), name, args, env)
    }

    fn start_file(file: &Path, name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(file);
        for (key, _) in std::env::vars_os() {
            if key.as_encoded_bytes().starts_with(b"DROVER_") {
                command.env_remove(key);
            }
        }
        let mut child = command
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
        for stream in streams {
            let (log, sender) = (Arc::clone(&log), sender.clone());
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    log.lock().unwrap().push(line.clone());
                    // The test may have ended.
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, name: name.to_owned(), log, lines }
    }

    /// Waits for a line of the log that contains `text`, from where the last such wait ended.
    pub fn wait_for_log(&self, text: &str) -> String {
        let start = Instant::now();
        while let Some(left) = PATIENCE.checked_sub(start.elapsed()) {
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        panic!("{} never logged {text:?}", self.name);
    }

    /// The id that the system knows it by.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, as `docker stop` does, and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.wait()
    }

    /// Waits until it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "the test harness shows it beside the failure")]
            {
                eprintln!("--- log of {} ---\n{}", self.name, self.log().join("\n"));
            }
        }
    }
}

/// The file of a binary of the workspace, for what [`Process`] does not do.
pub fn binary(name: &str) -> PathBuf {
    binaries().join(name)
}

/// Where the binaries stand; builds them once, so that a test never runs yesterday's. All of the workspace and its examples,
/// so that they share their dependencies with the tests: fewer would have them with other features, and build them anew.
fn binaries() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--workspace", "--bins", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        // What cargo tells this test of its own package, a build script that reads it would take for a change.
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                build.env_remove(name);
            }
        }
        assert!(build.status().unwrap().success(), "the binaries do not build");
        // target/debug/deps/<test> → target/debug
        std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
    })
}
