//! The handler `exec`: runs a program on each message.

mod command;
mod group;
mod program;
mod stderr_log;

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use queue_core::Failure;

pub(crate) use self::program::all_ended;
use self::{
    command::Command,
    program::{End, Limits, Ran},
};
use super::output;
use crate::{
    Handler, Job, Outcome,
    config::{ExecHandler, Output},
};

/// The exit code that says that no further attempt would help: `EX_DATAERR` of sysexits.h.
const DATA_ERROR: i32 = 65;

/// Runs a program on each message: the data is on its standard input, what it prints is the result.
pub(crate) struct Exec {
    command: Command,
    limits: Limits,
    output: Output,
}

impl Exec {
    /// # Errors
    ///
    /// When there is no such program.
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
        let Ran { end, output, last_line } = match program::run(&self.command, &job, self.output, self.limits).await {
            Ok(ran) => ran,
            Err(error) => {
                let message = format!("{} can't be run: {error}", self.command.program());
                return Outcome::Retry(Failure::new("not_started", message));
            }
        };
        match end {
            End::Exited(status) if status.success() => output::into_result(&output),
            End::Exited(status) => of_failure(status, &last_line),
            End::TooMuchOutput => output::too_large("what the program printed", "output = \"ignore\""),
            End::TimedOut => {
                let message = format!("the program was ended after {:?}{}", self.limits.timeout, said(&last_line));
                Outcome::Retry(Failure::new("timed_out", message))
            }
            // Who told it to stop says what comes of the message.
            End::Stopped => std::future::pending().await,
        }
    }
}

fn of_failure(status: ExitStatus, last_line: &str) -> Outcome {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit_{code}"),
        (None, Some(signal)) => format!("signal_{signal}"),
        (None, None) => "ended".to_owned(),
    };
    let failure = Failure::new(code, format!("the program ended with {status}{}", said(last_line)));
    if status.code() == Some(DATA_ERROR) { Outcome::FailForGood(failure) } else { Outcome::Retry(failure) }
}

fn said(last_line: &str) -> String {
    if last_line.is_empty() { String::new() } else { format!(": {last_line}") }
}
