//! Measures Drover's real binaries beside its peers, on one private Redis in one run, and prints medians and ratios.
//!
//! Every figure is taken several times, the systems taking turns, because a machine that others use is faster at one time
//! than at another: only ratios within a run mean something. What was measured is verified before it counts: a drain has
//! completed every message, a load has stored exactly what was answered with success.

#![expect(clippy::print_stdout, reason = "the figures are what it is started for")]

mod callgrind;
mod cost;
mod drover;
mod figures;
mod instructions;
mod load;
mod peers;
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

/// Measures Drover beside its peers
#[derive(Parser)]
pub(crate) struct Arguments {
    /// The folder with the peers' drivers; a peer that can't be installed is left out
    #[arg(long, value_name = "FOLDER", default_value = "bench/peers")]
    peers: PathBuf,
    /// How often each figure is taken
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Messages of a drain and of a bulk enqueue
    #[arg(long, default_value_t = 50_000)]
    messages: usize,
    /// Seconds of each load of single POSTs
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Leases held at once by the worker that drains
    #[arg(long, default_value_t = 1_000)]
    concurrency: usize,
    /// Far-delayed and completed messages, each, with which the figures are taken again; 0 leaves this out
    #[arg(long, default_value_t = 1_000_000)]
    backlog: usize,
    /// Queues with which the figures are taken again; 0 leaves this out
    #[arg(long, default_value_t = 10_000)]
    queues: usize,
    /// Only figures whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Where the plots go
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    plots: PathBuf,
    /// Only count instructions, and fail where one figure is beyond its bound
    #[arg(long)]
    instructions: bool,
}

impl Arguments {
    pub(crate) fn wants(&self, figure: &str) -> bool {
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
        return instructions::check();
    }
    let peers = Peers::prepare(&arguments.peers)?;
    let mut figures = Figures::default();
    for round in 1..=arguments.rounds {
        println!("\nRound {round} of {}", arguments.rounds);
        rounds::measure(arguments, &peers, &mut figures)?;
    }
    println!("\nWith much there already");
    rounds::measure_with_much_there(arguments, &mut figures)?;
    report::print(&figures);
    plot::write(&figures, &arguments.plots)
}
