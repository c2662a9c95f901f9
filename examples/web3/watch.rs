//! The watcher: reads confirmed blocks of the chain, and posts the payments in them to Drover.
//!
//! The watcher saves its checkpoint after Drover has stored the payments. A watcher that is killed before it saves the checkpoint posts
//! some payments again after its restart; Drover recognizes the ids of the payments, and stores each payment once. A block is read when
//! `confirmations` blocks are on top of it, so a reorganisation of up to `confirmations` blocks has no effect.

use std::{io, path::PathBuf, time::Duration};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    checkpoint::{Checkpoint, CheckpointFile},
    payment::{NotAPayment, Payment},
    rpc::{self, Block, Rpc},
};

/// The maximum number of blocks that the watcher reads at once.
const MAX_BLOCKS: u64 = 100;
/// The maximum number of messages in a request to Drover: 500 payments stay below `api.body_limit`.
const MAX_MESSAGES: usize = 500;
/// The pause when there is no further confirmed block, or after a temporary error.
const PAUSE: Duration = Duration::from_millis(500);
/// The time limit of a request to Drover.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// The options of `web3 watch`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The address of the contract.
    #[arg(long)]
    contract: String,
    /// The URL of Drover's API.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    drover: String,
    /// The file that stores how far the watcher has read the chain.
    #[arg(long)]
    checkpoint: PathBuf,
    /// The number of blocks that must be on top of a block before it is read.
    #[arg(long, default_value_t = 12)]
    confirmations: u64,
    /// The first block that is read, if there is no checkpoint.
    #[arg(long, default_value_t = 0)]
    from_block: u64,
}

/// The reason why the watcher of the blockchain could not read or post the next blocks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Node(#[from] rpc::Error),
    #[error("Drover does not answer: {0}; check that its API runs")]
    NoAnswer(#[from] reqwest::Error),
    #[error("Drover answered {status}: {body}")]
    Refused { status: StatusCode, body: String },
    #[error(transparent)]
    NotAPayment(#[from] NotAPayment),
    #[error("the checkpoint cannot be read or saved: {0}; check --checkpoint")]
    Checkpoint(#[from] io::Error),
    #[error("the checkpoint is of contract {contract} of chain {chain}: choose another --checkpoint")]
    OtherContract { chain: u64, contract: String },
    #[error(
        "block {0} has been replaced since it was read: more than --confirmations blocks were reorganised, so payments that \
         are gone may have been posted; compare the ledger with the chain, and start again with a new --checkpoint"
    )]
    DeepReorganisation(u64),
}

impl Error {
    /// Returns whether the failed step of the watcher may succeed when the step is repeated.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Node(_) | Self::NoAnswer(_) => true,
            Self::Refused { status, .. } => {
                status.is_server_error()
                    || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(status)
            }
            Self::NotAPayment(_) | Self::Checkpoint(_) | Self::OtherContract { .. } | Self::DeepReorganisation(_) => {
                false
            }
        }
    }
}

/// The result of the watcher's search for the next blocks of the chain.
enum Progress {
    /// Blocks were read, and there may be more.
    Read,
    /// There is no further confirmed block yet.
    UpToDate,
}

struct Watcher {
    rpc: Rpc,
    http: Client,
    messages: String,
    confirmations: u64,
    file: CheckpointFile,
    checkpoint: Checkpoint,
}

/// Runs the watcher until an error that is not temporary, and returns this error.
pub(crate) async fn watch(rpc: Rpc, options: Options) -> Result<(), Error> {
    let mut watcher = Watcher::start(rpc, options).await?;
    info!(from_block = watcher.checkpoint.next_block, "the watcher reads confirmed blocks");
    let mut has_failed = false;
    loop {
        match watcher.post_next_blocks().await {
            Ok(progress) => {
                if std::mem::take(&mut has_failed) {
                    info!("the watcher goes on");
                }
                match progress {
                    Progress::Read => {}
                    Progress::UpToDate => sleep(PAUSE).await,
                }
            }
            Err(error) if error.is_temporary() => {
                if !std::mem::replace(&mut has_failed, true) {
                    warn!("the watcher can't read or post, trying again: {error}");
                }
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

impl Watcher {
    async fn start(rpc: Rpc, options: Options) -> Result<Self, Error> {
        let chain = rpc.chain_id().await?;
        let contract = options.contract.to_lowercase();
        let file = CheckpointFile::new(options.checkpoint);
        let checkpoint = match file.load()? {
            Some(saved) if saved.chain == chain && saved.contract == contract => saved,
            Some(Checkpoint { chain, contract, .. }) => return Err(Error::OtherContract { chain, contract }),
            None => Checkpoint { chain, contract, next_block: options.from_block, last_hash: None },
        };
        Ok(Self {
            rpc,
            http: Client::builder().timeout(TIME_LIMIT).build()?,
            messages: format!("{}/v1/queues/payments/messages/batch", options.drover.trim_end_matches('/')),
            confirmations: options.confirmations,
            file,
            checkpoint,
        })
    }

    /// Reads the next confirmed blocks, posts their payments, and saves the checkpoint.
    async fn post_next_blocks(&mut self) -> Result<Progress, Error> {
        let first = self.checkpoint.next_block;
        let Some(confirmed) = self.rpc.block_number().await?.checked_sub(self.confirmations) else {
            return Ok(Progress::UpToDate);
        };
        if confirmed < first {
            return Ok(Progress::UpToDate);
        }
        let last = confirmed.min(first + MAX_BLOCKS - 1);
        let blocks: Option<Vec<Block>> = self.rpc.blocks(first..=last).await?.into_iter().collect();
        // A block is missing: the chain has become shorter, or the answer comes from a node that lags behind.
        let Some(blocks) = blocks else { return Ok(Progress::UpToDate) };
        if self.checkpoint.last_hash.as_ref().is_some_and(|hash| *hash != blocks[0].parent_hash) {
            return Err(Error::DeepReorganisation(first - 1));
        }
        if blocks.windows(2).any(|pair| pair[1].parent_hash != pair[0].hash) {
            // The blocks do not follow each other, because the chain was reorganised during the request. The watcher then reads these
            // blocks again, and compares the first block with the checkpoint.
            return Ok(Progress::UpToDate);
        }
        let logs = self.rpc.logs(&blocks, &self.checkpoint.contract, Payment::TOPIC).await?;
        let message = |log| Ok(Payment::from_log(log)?.message(self.checkpoint.chain));
        let messages: Vec<Value> = logs.iter().flatten().map(message).collect::<Result<_, NotAPayment>>()?;
        // Drover stores each batch as a whole, and the watcher posts the next batch only after that, so payments stay in their
        // order.
        for batch in messages.chunks(MAX_MESSAGES) {
            self.post(batch).await?;
        }
        self.checkpoint.next_block = last + 1;
        self.checkpoint.last_hash = blocks.into_iter().last().map(|block| block.hash);
        self.file.save(&self.checkpoint)?;
        if !messages.is_empty() {
            info!(payments = messages.len(), up_to_block = last, "posted");
        }
        Ok(Progress::Read)
    }

    async fn post(&self, messages: &[Value]) -> Result<(), Error> {
        let response = self.http.post(&self.messages).json(&json!({"messages": messages})).send().await?;
        let status = response.status();
        if status.is_success() { Ok(()) } else { Err(Error::Refused { status, body: response.text().await? }) }
    }
}
