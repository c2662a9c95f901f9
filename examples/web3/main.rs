//! Payments on a chain, handled by Drover: a contract emits events, a watcher posts each confirmed event once, and a ledger
//! handles the messages.
//!
//! `web3 watch` is the watcher, and `web3 ledger` the HTTP server to which Drover's worker sends each payment. `web3 deploy`
//! creates the contract Till.sol on a local chain, and `web3 emit` pays to the contract.

mod checkpoint;
mod ledger;
mod payment;
mod rpc;
mod send;
mod watch;

use std::{
    error::Error,
    io::{IsTerminal, Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use tracing::error;

use crate::rpc::Rpc;

/// Posts the payments to a contract to Drover, and keeps a ledger of them.
#[derive(Parser)]
struct Options {
    /// The URL of the chain's JSON-RPC.
    #[arg(long, global = true, default_value = "http://127.0.0.1:8545")]
    rpc: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Reads the blockchain, and posts each confirmed payment to Drover's queue `payments`.
    Watch(watch::Options),
    /// Serves the ledger, to which Drover's worker sends the payments.
    Ledger(ledger::Options),
    /// Creates the example's smart contract (Till.sol), and prints the address of the contract.
    Deploy {
        /// The file with the compiled contract, in hexadecimal digits.
        bytecode: PathBuf,
    },
    /// Sends payments to the contract.
    Emit {
        /// The number of payments.
        count: u64,
        /// The address of the contract.
        #[arg(long)]
        contract: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_ansi(stderr().is_terminal()).with_writer(stderr).init();
    // The workspace builds reqwest with TLS but without cryptography, so the program must choose a provider of cryptography.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let rpc = Rpc::new(options.rpc)?;
    match options.command {
        Command::Watch(options) => watch::watch(rpc, options).await?,
        Command::Ledger(options) => ledger::serve(options).await?,
        Command::Deploy { bytecode } => {
            let contract = send::deploy(&rpc, bytecode).await?;
            writeln!(stdout(), "{contract}")?;
        }
        Command::Emit { count, contract } => send::emit(&rpc, &contract, count).await?,
    }
    Ok(())
}
