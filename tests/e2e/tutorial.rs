//! Test of docs/TUTORIAL.md: the commands of the document run in their order and print the output that the document shows.
//!
//! One shell runs all blocks `sh`, but `make run` runs in a second terminal. The block after a command shows the output of the
//! command: a block `json` or `text` shows the output of the shell, and a block `log` shows the output of `make run`. A command
//! without a following block prints nothing.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use drover_tests::{ReservedPort, binary, eventually, without_drover_variables};
use serde_json::Value;

use crate::markdown::{Block, blocks, compare, document, kind, root, shown_json};

/// The process of `make run` in a second terminal. Ctrl-C ends this process.
struct Terminal {
    process: Child,
    log: PathBuf,
    lines_seen: usize,
}

impl Terminal {
    fn start(command: &str, folder: &Path, variables: &[(&str, String)]) -> Self {
        let log = folder.join("terminal.log");
        let output = File::create(&log).unwrap();
        let mut bash = Command::new("env");
        without_drover_variables(&mut bash);
        for name in ["MAKEFLAGS", "MAKELEVEL", "CONFIG", "DATA"] {
            bash.env_remove(name);
        }
        // Ctrl-C sends SIGINT to a process group. A script that runs this test in the background makes its processes ignore SIGINT,
        // so `env` restores the default. The locale C gives the error texts that the document shows.
        bash.args(["--default-signal=INT", "bash", "-c", command])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .stdout(output);
        Self { process: bash.spawn().unwrap(), log, lines_seen: 0 }
    }

    /// Waits until the log has lines that match the shown lines in this order. Lines that earlier calls of `wait_for_shown_lines` have
    /// found do not count.
    fn wait_for_shown_lines(&mut self, shown: &str) {
        for shown in shown.lines() {
            let found_line = eventually(&format!("the terminal shows {shown}"), || {
                let log = fs::read_to_string(&self.log).unwrap();
                let position = log.lines().skip(self.lines_seen).position(|line| matches_shown(shown, line));
                position.or_else(|| self.process.try_wait().unwrap().map(|status| panic!("{status}")))
            });
            self.lines_seen += 1 + found_line;
        }
    }

    fn signal(&self, signal: &str) {
        let process_group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args([signal, "--", &process_group]).status();
    }

    fn stop(mut self) {
        self.signal("-INT");
        eventually("Ctrl-C ends make run", || self.process.try_wait().unwrap());
    }
}

impl Drop for Terminal {
    #[expect(clippy::print_stderr, reason = "the test harness shows the log beside the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal("-KILL");
            let _ = self.process.wait();
        }
    }
}

/// Returns whether a line of the log contains the parts of a line of the tutorial, which `…` separates, in their order.
fn matches_shown(shown: &str, line: &str) -> bool {
    let mut rest_of_line = line;
    shown.split('…').all(|part| match rest_of_line.split_once(part.trim()) {
        Some((_, after)) => {
            rest_of_line = after;
            true
        }
        None => false,
    })
}

/// The shell in which a reader runs the commands.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    const END_MARK: &str = "-- the block ends --";

    fn start(folder: &Path) -> Self {
        let mut bash = Command::new("bash");
        bash.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = bash.spawn().unwrap();
        let (mut input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        writeln!(input, "set -e -o pipefail; exec 2>&1").unwrap();
        Self { process, input, output: BufReader::new(output) }
    }

    /// Runs commands and returns their output. A command that fails ends the shell and the test.
    fn run(&mut self, commands: &str) -> String {
        writeln!(self.input, "{{ {commands}\n}} </dev/null\nprintf '\\n%s\\n' '{}'", Self::END_MARK).unwrap();
        let mut printed_text = String::new();
        loop {
            let mut line = String::new();
            let line_length = self.output.read_line(&mut line).unwrap();
            assert!(
                line_length > 0,
                "a command of the tutorial fails, {:?}: {commands}{printed_text}",
                self.process.wait().unwrap()
            );
            if line.trim_end() == Self::END_MARK {
                return printed_text.trim().to_owned();
            }
            printed_text += &line;
        }
    }
}

/// Returns the lines of a text, with the kind in place of each quoted id and instant.
fn replace_values_by_kinds(text: &str) -> Vec<String> {
    text.trim().lines().map(|line| line.split('"').map(kind).collect::<Vec<_>>().join("\"")).collect()
}

#[test]
fn every_command_of_the_tutorial_works_and_prints_what_the_page_shows() {
    let root = root();
    // The test runs in a folder like the folder of the repository, in which it may write.
    let folder = tempfile::tempdir().unwrap();
    for name in ["Cargo.toml", "Makefile", "scripts"] {
        symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    let ports = [ReservedPort::reserve(), ReservedPort::reserve(), ReservedPort::reserve()];
    let binaries = binary("producer-api").parent().unwrap().to_str().unwrap().to_owned();
    let mut variables = vec![("BINARIES", binaries)];
    variables.extend(
        ["API_PORT", "REDIS_PORT", "WORKER_PORT"]
            .into_iter()
            .zip(ports.each_ref().map(|port| port.number().to_string())),
    );
    let address = ports[0].address().to_string();

    let mut shell = Shell::start(folder.path());
    let mut terminal: Option<Terminal> = None;
    // The commands that ran last, and the part of their output that no block of the document has shown yet.
    let (mut commands, mut printed) = (String::new(), String::new());
    let mut outputs = 0;
    for Block { language, text, .. } in blocks(&document("docs/TUTORIAL.md")) {
        let block_text = text.as_str();
        outputs += usize::from(language != "sh");
        match language {
            "sh" => {
                assert_eq!(printed, "", "the document does not show the output of {commands}");
                block_text.clone_into(&mut commands);
                if block_text.starts_with("make run") {
                    if let Some(terminal) = terminal.take() {
                        terminal.stop();
                    }
                    terminal = Some(Terminal::start(block_text, folder.path(), &variables));
                } else {
                    printed = shell.run(&block_text.replace("localhost:8080", &address));
                }
            }
            "log" => terminal.as_mut().expect("make run is running").wait_for_shown_lines(block_text),
            "json" => {
                let real_output = std::mem::take(&mut printed);
                let real_json: Value = serde_json::from_str(&real_output)
                    .unwrap_or_else(|error| panic!("{commands}{error}: {real_output}"));
                compare(&shown_json(block_text), &real_json, &commands);
            }
            "text" => assert_eq!(
                replace_values_by_kinds(block_text),
                replace_values_by_kinds(&std::mem::take(&mut printed)),
                "{commands}"
            ),
            language => panic!("a block of the unknown language {language}"),
        }
    }
    assert_eq!(printed, "", "the document does not show the output of {commands}");
    assert!(outputs > 10, "{outputs} outputs were compared");
    terminal.expect("the tutorial starts Drover").stop();
}
