//! The command of the handler `exec`, which finds the program and starts it on a message. The program's environment describes
//! the message.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{json, value::RawValue};
use tokio::process::{self, Child};

use crate::{
    config::{CommandLine, Output},
    job::Job,
};

/// The prefixes of the variables that configure the worker and its trace exporter. A program does not inherit variables
/// with one of these prefixes, because such variables may contain secrets.
const WORKER_PREFIXES: [&str; 2] = ["DROVER_", "OTEL_"];

/// A program, its arguments, and the environment that it inherits.
pub(super) struct Command {
    line: CommandLine,
    /// The worker's environment without the variables that configure the worker.
    inherited: Vec<(OsString, OsString)>,
}

impl Command {
    /// Creates the command. Returns an error if the program does not exist.
    pub(super) fn new(line: &CommandLine) -> Result<Self, String> {
        if !is_executable(&line.program) {
            let program = &line.program;
            return Err(if program.contains('/') {
                format!("command: there is no program {program} that may be run")
            } else {
                format!("command: there is no program {program} in PATH")
            });
        }
        let is_worker_setting =
            |key: &OsString| WORKER_PREFIXES.iter().any(|prefix| key.as_encoded_bytes().starts_with(prefix.as_bytes()));
        let inherited_variables = env::vars_os().filter(|(key, _)| !is_worker_setting(key)).collect();
        Ok(Self { line: line.clone(), inherited: inherited_variables })
    }

    pub(super) fn program(&self) -> &str {
        &self.line.program
    }

    /// Starts the program on a message, as the leader of a process group of its own.
    pub(super) fn spawn(&self, job: &Job, output: Output) -> io::Result<Child> {
        let message = job.message();
        let mut command = process::Command::new(&self.line.program);
        command
            .args(&self.line.arguments)
            .env_clear()
            .envs(self.inherited.iter().map(|(key, value)| (key, value)))
            .env("DROVER_MESSAGE_ID", message.id.as_str())
            .env("DROVER_QUEUE", message.queue.as_str())
            .env("DROVER_NAME", message.name.as_ref().map_or("", |name| name.as_str()))
            .env("DROVER_GROUP", message.group.as_ref().map_or("", |group| group.as_str()))
            .env("DROVER_ATTEMPT", job.attempt().to_string())
            .env("DROVER_MAX_ATTEMPTS", json!(message.max_attempts).to_string())
            .env("DROVER_HEADERS", json!(message.headers).to_string())
            // A signal's data has at most 4 KiB, which fits into an environment variable.
            .env("DROVER_SIGNAL", job.signal().map_or("", RawValue::get))
            .stdin(Stdio::piped())
            .stdout(if output == Output::Result { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::piped())
            .process_group(0);
        // The variables with the trace context have names in upper case (`TRACEPARENT`), as tracing tools expect. An
        // environment variable can't contain a NUL character.
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

/// Returns whether a program exists and is executable, as a path or in a folder of `PATH`.
fn is_executable(program: &str) -> bool {
    let is_executable_file =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return is_executable_file(Path::new(program));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&path).map(|folder: PathBuf| folder.join(program)).any(|path| is_executable_file(&path))
}
