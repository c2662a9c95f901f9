//! The program of the handler `exec`, and the environment in which it is told what its message is.

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
    Job,
    config::{CommandLine, Output},
    job_span,
};

/// The starts of the names of variables that configure the worker: its own, and those of its exporter of traces. A program gets none
/// of them, for they hold secrets.
const OURS: [&str; 2] = ["DROVER_", "OTEL_"];

/// A program, its arguments, and what it inherits.
pub(super) struct Command {
    line: CommandLine,
    /// The worker's environment without what configures the worker.
    inherited: Vec<(OsString, OsString)>,
}

impl Command {
    /// # Errors
    ///
    /// When there is no such program.
    pub(super) fn new(line: &CommandLine) -> Result<Self, String> {
        if !is_there(&line.program) {
            let program = &line.program;
            return Err(if program.contains('/') {
                format!("command: there is no program {program} that may be run")
            } else {
                format!("command: there is no program {program} in PATH")
            });
        }
        let is_ours = |key: &OsString| OURS.iter().any(|ours| key.as_encoded_bytes().starts_with(ours.as_bytes()));
        let inherited = env::vars_os().filter(|(key, _)| !is_ours(key)).collect();
        Ok(Self { line: line.clone(), inherited })
    }

    pub(super) fn program(&self) -> &str {
        &self.line.program
    }

    /// Starts it on a message, as the leader of a process group of its own.
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
            .env("DROVER_ATTEMPT", job.attempt().to_string())
            .env("DROVER_MAX_ATTEMPTS", json!(message.max_attempts).to_string())
            .env("DROVER_HEADERS", json!(message.headers).to_string())
            // At most as long as a signal's data may be: 4 KiB.
            .env("DROVER_SIGNAL", job.signal().map_or("", RawValue::get))
            .stdin(Stdio::piped())
            .stdout(if output == Output::Result { Stdio::piped() } else { Stdio::null() })
            .stderr(Stdio::piped())
            .process_group(0);
        // As tools for traces expect them. A NUL can't stand in a variable.
        for (name, value) in job_span::handed_on(job) {
            let key = name.to_ascii_uppercase();
            match value {
                Some(value) if !value.contains('\0') => command.env(key, value),
                _ => command.env_remove(key),
            };
        }
        command.spawn()
    }
}

/// Whether there is a program that this user may run, where the system looks for it.
fn is_there(program: &str) -> bool {
    let may_run =
        |path: &Path| fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return may_run(Path::new(program));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    env::split_paths(&path).map(|folder: PathBuf| folder.join(program)).any(|path| may_run(&path))
}
