//! Checks that every message of every queue is in exactly one state and has a record.
//!
//! `cargo run --example audit -- redis://127.0.0.1:7379 [queue …]`; the exit code is 1 if there are findings.

use std::{error::Error, process::ExitCode};

use queue_core::{QueueName, Queues, Redis, settings::DeclaredSettings};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the URL of a Redis is missing, e.g. redis://127.0.0.1:7379")?;
    let queues = Queues::new(Redis::new(&url, Redis::DEFAULT_TIME_LIMIT)?, DeclaredSettings::default());
    let mut names = arguments.map(|name| name.parse()).collect::<Result<Vec<QueueName>, _>>()?;
    if names.is_empty() {
        names = queues.names().await?;
    }
    let mut found = 0;
    for name in names {
        let audit = queues.queue(&name).audit().await?;
        report(&format!("{name}: {} messages, {} findings", audit.messages, audit.findings.len()));
        for finding in &audit.findings {
            report(&format!("  {finding}"));
        }
        found += audit.findings.len();
    }
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "printing the findings is the purpose of this program")]
fn report(line: &str) {
    println!("{line}");
}
