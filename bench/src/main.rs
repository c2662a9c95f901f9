//! Measures Drover's real binaries beside other systems (its peers) in one run, on private Redis servers, and prints medians and
//! ratios.
//!
//! The bench measures every figure several times and alternates between the systems. The speed of a shared machine changes
//! over time, so only ratios within one run are meaningful. The bench verifies each measurement of Drover before it
//! counts: a drain has completed every message, and a load has stored exactly the messages that were answered with success.

#![expect(clippy::print_stdout, reason = "printing the figures is the purpose of this program")]

mod callgrind;
mod cost;
mod drover;
mod figures;
mod instruction_counts;
mod load;
mod peers;
mod persistence;
mod plot;
mod report;
mod rounds;
mod service;
mod times;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{figures::Figures, peers::Peers};

pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Measures Drover and other message queues (its peers)
#[derive(Parser)]
pub(crate) struct Arguments {
    /// The folder with the programs that measure the other message queues; a program that can't be installed is skipped
    #[arg(long, value_name = "FOLDER", default_value = "bench/peers")]
    peers: PathBuf,
    /// The number of times that each figure is measured
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The number of messages that a measurement of bulk enqueues stores, and that another message queue drains
    #[arg(long, default_value_t = 50_000)]
    messages: usize,
    /// The number of messages that Drover drains in a measurement; a small number would be drained too fast to be measured
    #[arg(long, default_value_t = 300_000)]
    drained: usize,
    /// The duration of each load of single POSTs, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The `worker.concurrency` that is measured in addition to the default
    #[arg(long, default_value_t = 1_000)]
    concurrency: usize,
    /// The concurrency of the other queues' workers that is measured in addition to their default of 1
    #[arg(long, default_value_t = 200)]
    peer_concurrency: usize,
    /// The number of delayed and of completed messages with which the figures are measured again; 0 skips these measurements
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// The number of queues with which the figures are measured again; 0 skips these measurements
    #[arg(long, default_value_t = 10_000)]
    queues: usize,
    /// Measure only figures whose name contains this text
    #[arg(long)]
    only: Option<String>,
    /// The folder for the plots
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    plots: PathBuf,
    /// Only count instructions, and fail if a count exceeds its bound
    #[arg(long)]
    instructions: bool,
}

impl Arguments {
    pub(crate) fn includes(&self, figure: &str) -> bool {
        self.only.as_ref().is_none_or(|only| figure.contains(only.as_str()))
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.instructions {
        return instruction_counts::check_counts();
    }
    let peers = Peers::install_all(&arguments.peers)?;
    let mut figures = Figures::default();
    for round in 1..=arguments.rounds {
        println!("\nRound {round} of {}", arguments.rounds);
        rounds::measure_round(arguments, &peers, &mut figures)?;
    }
    println!("\nWith a backlog, and with many queues");
    rounds::measure_under_backlog(arguments, &mut figures)?;
    report::print_tables(&figures);
    plot::write_plots(&figures, &arguments.plots)
}
