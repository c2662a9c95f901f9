//! Checks that every message of every queue is in exactly one state and has a record, in the Redis of a service's configuration.
//!
//! `DROVER__REDIS__URL=redis://127.0.0.1:7379 cargo run --package drover-service --example audit -- [--config FILE] [queue …]`
//!
//! The exit code is 1 if there are findings.

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::Parser;
use queue_core::{QueueName, Queues, settings::DeclaredSettings};
use service::config::Config;

/// Checks that every message is in exactly one state
#[derive(Parser)]
struct Arguments {
    /// A file with the section `redis`; variables such as `DROVER__REDIS__URL` override the file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The queues to check; all queues if no queue is named
    queues: Vec<String>,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let Arguments { config, queues: names } = Arguments::parse();
    let redis = Config::<service::config::SkippedSection>::load(config.as_deref())?.redis.connect()?;
    let queues = Queues::new(redis, DeclaredSettings::default());
    let mut names = names.iter().map(|name| name.parse()).collect::<Result<Vec<QueueName>, _>>()?;
    if names.is_empty() {
        names = queues.names().await?;
    }
    let mut finding_count = 0;
    for name in names {
        let audit = queues.queue(&name).audit().await?;
        print_line(&format!("{name}: {} messages, {} findings", audit.messages, audit.findings.len()));
        for finding in &audit.findings {
            print_line(&format!("  {finding}"));
        }
        finding_count += audit.findings.len();
    }
    Ok(if finding_count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[expect(clippy::print_stdout, reason = "printing the findings is the purpose of this program")]
fn print_line(line: &str) {
    println!("{line}");
}
