//! The handler `exec`: runs a program on each message, and turns its exit code and output into an outcome. The environment of
//! the program describes the message, and has no secrets of the worker.

mod process_group;
mod program;
mod stderr_log;

use std::{
    env,
    ffi::OsString,
    fs, future, io,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use queue_core::Failure;
use serde_json::{json, value::RawValue};
use tokio::process::{self, Child};

pub(crate) use self::program::all_programs_ended;
use self::program::{EndReason, FinishedRun, Limits};
use super::output;
use crate::{
    config::{CommandLine, ExecHandler, Output},
    job::Job,
    routing::{Handler, Outcome},
};

/// The exit code that reports invalid data, after which the message fails for good: `EX_DATAERR` of sysexits.h.
const DATA_ERROR: i32 = 65;

/// Runs a program on each message: the data is on its standard input, its standard output is the result.
pub(crate) struct Exec {
    command: Command,
    limits: Limits,
    output: Output,
}

impl Exec {
    /// Fails when the program does not exist.
    pub(crate) fn new(config: &ExecHandler) -> Result<Self, String> {
        let limits = Limits {
            timeout: config.timeout.as_deref().unwrap_or(&ExecHandler::DEFAULT_TIMEOUT).to_std(),
            stop_grace: config.stop_grace.as_deref().unwrap_or(&ExecHandler::DEFAULT_STOP_GRACE).to_std(),
        };
        Ok(Self { command: Command::new(&config.command)?, limits, output: config.output })
    }
}

impl Handler for Exec {
    async fn handle(&self, job: Job) -> Outcome {
        let FinishedRun { end, output, last_line } =
            match program::run(&self.command, &job, self.output, self.limits).await {
                Ok(ran) => ran,
                Err(error) => {
                    let message = format!("{} can't be started: {error}", self.command.line.program);
                    return Outcome::Retry(Failure::new("not_started", message));
                }
            };
        match end {
            EndReason::Exited(status) if status.success() => output::into_result(&output),
            EndReason::Exited(status) => failed_exit(status, &last_line),
            EndReason::TooMuchOutput => output::too_large("the program's output", "output = \"ignore\""),
            EndReason::TimedOut => {
                let message =
                    format!("the program was ended after {:?}{}", self.limits.timeout, line_suffix(&last_line));
                Outcome::Retry(Failure::new("timed_out", message))
            }
            // The caller that stopped the program decides the outcome, so this future never completes.
            EndReason::Stopped => future::pending().await,
        }
    }
}

fn failed_exit(status: ExitStatus, last_line: &str) -> Outcome {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit_{code}"),
        (None, Some(signal)) => format!("signal_{signal}"),
        (None, None) => "ended".to_owned(),
    };
    let failure = Failure::new(code, format!("the program ended with {status}{}", line_suffix(last_line)));
    if status.code() == Some(DATA_ERROR) { Outcome::FailForGood(failure) } else { Outcome::Retry(failure) }
}

fn line_suffix(last_line: &str) -> String {
    if last_line.is_empty() { String::new() } else { format!(": {last_line}") }
}

/// The prefixes of the variables that configure the worker and its trace exporter. A program does not inherit these
/// variables, because they may contain secrets.
const WORKER_PREFIXES: [&str; 2] = ["DROVER_", "OTEL_"];

/// A program, its arguments, and the environment that it inherits.
struct Command {
    line: CommandLine,
    /// The worker's environment without the variables that configure the worker.
    inherited: Vec<(OsString, OsString)>,
}

impl Command {
    /// Fails when there is no such program.
    fn new(line: &CommandLine) -> Result<Self, String> {
        if !is_executable(&line.program) {
            let program = &line.program;
            return Err(if program.contains('/') {
                format!("command: there is no program {program} that may be run")
            } else {
                format!("command: there is no program {program} in PATH")
            });
        }
        let configures_worker =
            |key: &OsString| WORKER_PREFIXES.iter().any(|prefix| key.as_encoded_bytes().starts_with(prefix.as_bytes()));
        let inherited = env::vars_os().filter(|(key, _)| !configures_worker(key)).collect();
        Ok(Self { line: line.clone(), inherited })
    }

    /// Starts the program on a message, as the leader of a process group of its own.
    fn spawn(&self, job: &Job, output: Output) -> io::Result<Child> {
        let message = job.message();
        let mut command = process::Command::new(&self.line.program);
        command
            .args(&self.line.arguments)
            .env_clear()
            .envs(self.inherited.iter().map(|(key, value)| (key, value)))
            .env("DROVER_MESSAGE_ID", message.id.as_str())
            .env("DROVER_QUEUE", message.queue.as_str())
            .env("DROVER_NAME", message.name.as_ref().map_or("", |name| name.as_str()))
            .env("DROVER_ATTEMPT", job.attempt().to_string())
            .env("DROVER_MAX_ATTEMPTS", json!(message.max_attempts).to_string())
            .env("DROVER_HEADERS", json!(message.headers).to_string())
            // A signal's data has at most 4 KiB.
            .env("DROVER_SIGNAL", job.signal().map_or("", RawValue::get))
            .stdin(Stdio::piped())
            .stdout(if output == Output::Result { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::piped())
            .process_group(0);
        // In upper case, as tracing tools expect. A variable can't contain a NUL.
        for (name, value) in job.trace_headers() {
            let key = name.to_ascii_uppercase();
            match value {
                Some(value) if !value.contains('\0') => command.env(key, value),
                _ => command.env_remove(key),
            };
        }
        command.spawn()
    }
}

/// Whether the program exists and is executable, as a path or in a folder of `PATH`.
fn is_executable(program: &str) -> bool {
    let may_run =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return may_run(Path::new(program));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&path).map(|folder: PathBuf| folder.join(program)).any(|path| may_run(&path))
}
