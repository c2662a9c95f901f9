//! docs/TUTORIAL.md works as it stands: its commands are run in their order, and print what the page shows.
//!
//! A block `sh` is typed into a shell that lasts from the first to the last; `make run` is the terminal beside it. The block behind
//! it is what it prints: `json` and `text` by the shell, `log` by `make run`. A block without one prints nothing. `…` stands for any
//! text, and ids and instants are compared by their kind.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use drover_tests::{HeldPort, binary, eventually};
use serde_json::Value;

use crate::api_document::{compare, kind};

/// A fenced block of the page: its language, and what stands in it.
struct Block {
    language: String,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) => {
                if !is_inside {
                    blocks.push(Block { language: language.to_owned(), text: String::new() });
                }
                is_inside = !is_inside;
            }
            None if is_inside => {
                let text = &mut blocks.last_mut().unwrap().text;
                *text += line;
                text.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// `make run` in a terminal of its own, which Ctrl-C ends.
struct Terminal {
    process: Child,
    log: PathBuf,
    lines_seen: usize,
}

impl Terminal {
    fn start(command: &str, folder: &Path, variables: &[(&str, String)]) -> Self {
        let log = folder.join("terminal.log");
        let output = File::create(&log).unwrap();
        let mut bash = Command::new("bash");
        let names = std::env::vars_os().map(|(name, _)| name);
        for name in names.filter(|name| name.as_encoded_bytes().starts_with(b"DROVER_")) {
            bash.env_remove(name);
        }
        for name in ["MAKEFLAGS", "MAKELEVEL", "CONFIG", "DATA"] {
            bash.env_remove(name);
        }
        // A group of its own is what a terminal sends Ctrl-C to. The program of the tutorial fails in the words of its page.
        bash.args(["-c", command])
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .env("LC_ALL", "C")
            .current_dir(folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(output.try_clone().unwrap())
            .stdout(output);
        Self { process: bash.spawn().unwrap(), log, lines_seen: 0 }
    }

    /// Waits for lines that look like the shown ones, in this order, behind those that were seen.
    fn expect(&mut self, shown: &str) {
        for shown in shown.lines() {
            let mut log = String::new();
            let found = eventually_or(|| {
                log = fs::read_to_string(&self.log).unwrap();
                let at = log.lines().skip(self.lines_seen).position(|line| is_like(shown, line));
                at.or_else(|| self.process.try_wait().unwrap().map(|status| panic!("{status}: {log}")))
            });
            self.lines_seen += 1 + found.unwrap_or_else(|| panic!("the terminal does not show {shown}: {log}"));
        }
    }

    fn interrupt(&mut self) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args(["-INT", "--", &group]).status();
    }

    fn stop(mut self) {
        self.interrupt();
        eventually("Ctrl-C ends make run", || self.process.try_wait().unwrap());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.interrupt();
            let _ = self.process.wait();
        }
    }
}

/// Asks `probe` for as long as tests are patient, and returns its finding, if any.
fn eventually_or<T>(mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = std::time::Instant::now();
    while start.elapsed() < drover_tests::PATIENCE {
        if let Some(found) = probe() {
            return Some(found);
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    None
}

/// Whether a line has all that is shown of it, in this order.
fn is_like(shown: &str, line: &str) -> bool {
    let mut rest = line;
    shown.split('…').all(|part| match rest.split_once(part.trim()) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

/// The shell of the reader.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    const END: &str = "-- the block ends --";

    fn start(folder: &Path) -> Self {
        let mut bash = Command::new("bash");
        bash.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = bash.spawn().unwrap();
        let (mut input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        writeln!(input, "set -e -o pipefail; exec 2>&1").unwrap();
        Self { process, input, output: BufReader::new(output) }
    }

    /// Returns the output of the commands. The first command that fails ends the shell, and the test.
    fn run(&mut self, commands: &str) -> String {
        writeln!(self.input, "{{ {commands}\n}} </dev/null\nprintf '\\n%s\\n' '{}'", Self::END).unwrap();
        let mut printed = String::new();
        loop {
            let mut line = String::new();
            let length = self.output.read_line(&mut line).unwrap();
            assert!(length > 0, "a command fails, {:?}: {commands}{printed}", self.process.wait().unwrap());
            if line.trim_end() == Self::END {
                return printed.trim().to_owned();
            }
            printed += &line;
        }
    }
}

/// A text whose quoted ids and instants are replaced by their kind.
fn masked(text: &str) -> Vec<String> {
    text.trim().lines().map(|line| line.split('"').map(kind).collect::<Vec<_>>().join("\"")).collect()
}

#[test]
fn every_command_of_the_tutorial_works_and_prints_what_the_page_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = fs::read_to_string(root.join("docs/TUTORIAL.md")).unwrap();
    // A folder like that of the repository, in which the reader may write.
    let folder = tempfile::tempdir().unwrap();
    for name in ["Cargo.toml", "Makefile", "scripts"] {
        symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    let ports = [HeldPort::take(), HeldPort::take(), HeldPort::take()];
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
    // The commands, and what they printed if the page has not shown it yet.
    let (mut commands, mut printed) = (String::new(), String::new());
    let mut outputs = 0;
    for block in blocks(&page) {
        let text = block.text.as_str();
        outputs += usize::from(block.language != "sh");
        match block.language.as_str() {
            "sh" => {
                assert_eq!(printed, "", "the page does not show what this prints: {commands}");
                text.clone_into(&mut commands);
                if text.starts_with("make run") {
                    if let Some(terminal) = terminal.take() {
                        terminal.stop();
                    }
                    terminal = Some(Terminal::start(text, folder.path(), &variables));
                } else {
                    printed = shell.run(&text.replace("localhost:8080", &address));
                }
            }
            "log" => terminal.as_mut().expect("something runs in the first terminal").expect(text),
            "json" => {
                let real = std::mem::take(&mut printed);
                let real: Value =
                    serde_json::from_str(&real).unwrap_or_else(|error| panic!("{commands}{error}: {real}"));
                let shown = text.replace(", …}", ", \"…\": null}");
                let shown = serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error}: {text}"));
                compare(&shown, &real, &commands);
            }
            "text" => assert_eq!(masked(text), masked(&std::mem::take(&mut printed)), "{commands}"),
            language => panic!("what is a block {language}?"),
        }
    }
    assert_eq!(printed, "", "the page does not show what this prints: {commands}");
    assert!(outputs > 10, "{outputs} outputs were compared");
    terminal.expect("the tutorial starts Drover").stop();
}
