//! A worker for tests and measurements. The worker's handler sleeps for the milliseconds in the message's data. If the
//! environment variable `RUNS` names a folder, the handler first appends the message's id to a file in that folder. Each worker
//! process appends the ids to its own file.

use std::{fs::OpenOptions, io::Write, path::PathBuf, process::ExitCode, thread, time::Duration};

use consumer_worker::{HandlerError, Job, Payload, Routes, State};
use serde::Deserialize;

#[derive(Deserialize)]
struct Work {
    ms: u64,
    #[serde(default)]
    blocking: bool,
    /// The handler sleeps for a day in the first `hangs` attempts, so that these attempts time out.
    #[serde(default)]
    hangs: u32,
    /// The first `fails` attempts fail.
    #[serde(default)]
    fails: u32,
}

const ONE_DAY: Duration = Duration::from_secs(24 * 3_600);

async fn work(
    State(runs_path): State<Option<PathBuf>>,
    job: Job,
    Payload(work): Payload<Work>,
) -> Result<(), HandlerError> {
    if let Some(runs_path) = runs_path {
        let mut runs_file = OpenOptions::new().create(true).append(true).open(runs_path)?;
        // One call writes the whole line, so lines of concurrent handlers do not mix.
        runs_file.write_all(format!("{}\n", job.id()).as_bytes())?;
    }
    let sleep_time = Duration::from_millis(work.ms);
    if work.blocking {
        thread::sleep(sleep_time);
    } else {
        tokio::time::sleep(if job.attempt() <= work.hangs { ONE_DAY } else { sleep_time }).await;
    }
    if job.attempt() <= work.fails {
        Err(HandlerError::new("asked_to_fail", "the message asks its handler to fail"))
    } else {
        Ok(())
    }
}

fn main() -> ExitCode {
    let runs_path = std::env::var_os("RUNS").map(|folder| PathBuf::from(folder).join(std::process::id().to_string()));
    consumer_worker::run("sleeper", Routes::with_state(runs_path).route("my-queue", work))
}
