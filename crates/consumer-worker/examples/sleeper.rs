//! A worker for tests and measurements in which workers start and stop. Its handler appends the message's id to a file in the
//! folder `RUNS` (one file per process), then sleeps for the milliseconds in the message's data.

use std::{fs::OpenOptions, io::Write, path::PathBuf, process::ExitCode, thread, time::Duration};

use consumer_worker::{HandlerError, Job, Payload, Routes, State};
use serde::Deserialize;

#[derive(Deserialize)]
struct Work {
    ms: u64,
    #[serde(default)]
    blocking: bool,
}

async fn work(State(file): State<PathBuf>, job: Job, Payload(work): Payload<Work>) -> Result<(), HandlerError> {
    let mut runs = OpenOptions::new().create(true).append(true).open(file)?;
    // A single write call per line: lines of concurrent handlers do not mix.
    runs.write_all(format!("{}\n", job.id()).as_bytes())?;
    let pause = Duration::from_millis(work.ms);
    if work.blocking {
        thread::sleep(pause);
    } else {
        tokio::time::sleep(pause).await;
    }
    Ok(())
}

fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::var_os("RUNS").unwrap_or_else(|| ".".into()));
    let file = folder.join(std::process::id().to_string());
    consumer_worker::run("sleeper", Routes::with_state(file).route("my-queue", work))
}
