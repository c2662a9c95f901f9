//! The handler `exec`: runs a program on each message, and turns its exit code and output into an outcome. The environment of
//! the program describes the message, and has no secrets of the worker.

mod command;
mod process_group;
mod program;
mod stderr_log;

use std::{future, os::unix::process::ExitStatusExt, process::ExitStatus};

use queue_core::Failure;

pub(crate) use self::program::all_programs_ended;
use self::{
    command::Command,
    program::{EndReason, FinishedRun, RunLimits},
};
use super::output;
use crate::{
    config::{ExecHandler, Output},
    job::Job,
    routing::{Handler, Outcome},
};

/// The exit code that reports invalid data, after which the message fails for good: `EX_DATAERR` of sysexits.h.
const DATA_ERROR: i32 = 65;

/// Runs a program on each message. The program gets the data on its standard input, and its standard output becomes the result.
pub(crate) struct Exec {
    command: Command,
    limits: RunLimits,
    output: Output,
}

impl Exec {
    /// Creates the handler. Returns an error if the program does not exist.
    pub(crate) fn new(config: &ExecHandler) -> Result<Self, String> {
        let limits = RunLimits {
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
                    let message = format!("{} can't be started: {error}", self.command.program());
                    return Outcome::Retry(Failure::new("not_started", message));
                }
            };
        match end {
            EndReason::Exited(status) if status.success() => output::into_result(&output),
            EndReason::Exited(status) => outcome_of_failed_exit(status, &last_line),
            EndReason::TooMuchOutput => {
                output::outcome_of_too_large_result("the program's output", "output = \"ignore\"")
            }
            EndReason::TimedOut => {
                let message =
                    format!("the program was ended after {:?}{}", self.limits.timeout, last_line_suffix(&last_line));
                Outcome::Retry(Failure::new("timed_out", message))
            }
            // The caller that cancelled or dropped the handler decides the outcome, so the handler's future never
            // completes.
            EndReason::Stopped => future::pending().await,
        }
    }
}

fn outcome_of_failed_exit(status: ExitStatus, last_line: &str) -> Outcome {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit_{code}"),
        (None, Some(signal)) => format!("signal_{signal}"),
        (None, None) => "ended".to_owned(),
    };
    let failure = Failure::new(code, format!("the program ended with {status}{}", last_line_suffix(last_line)));
    if status.code() == Some(DATA_ERROR) { Outcome::FailForGood(failure) } else { Outcome::Retry(failure) }
}

fn last_line_suffix(last_line: &str) -> String {
    if last_line.is_empty() { String::new() } else { format!(": {last_line}") }
}
