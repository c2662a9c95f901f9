//! Sends transactions with which a user tries the example: the creation of the contract, and payments to the contract. The node signs the
//! transactions that this program sends, as anvil does for its test accounts.

use std::{io, path::PathBuf, time::Duration};

use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::rpc::{self, Rpc};

/// The time limit for a transaction to be mined.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two requests that ask whether a transaction is mined.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// The reason why the transactions failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Node(#[from] rpc::Error),
    #[error("the contract cannot be read: {0}; compile it with scripts/web3.sh")]
    Bytecode(#[from] io::Error),
    #[error("the node has no account that it signs for: use anvil")]
    NoAccount,
    #[error("the contract was not created within {TIME_LIMIT:?}: check that the node mines blocks")]
    NotCreated,
}

/// Creates the contract, and returns its address.
pub(crate) async fn deploy(rpc: &Rpc, bytecode: PathBuf) -> Result<String, Error> {
    let code = std::fs::read_to_string(bytecode)?;
    let accounts = rpc.accounts().await?;
    let account = accounts.first().ok_or(Error::NoAccount)?;
    let creation = json!({"from": account, "data": format!("0x{}", code.trim())});
    let transaction = rpc.send_transaction(creation).await?;
    let created = async {
        loop {
            if let Some(receipt) = rpc.receipt(&transaction).await? {
                return receipt.contract_address.ok_or(Error::NotCreated);
            }
            sleep(POLL_PAUSE).await;
        }
    };
    timeout(TIME_LIMIT, created).await.unwrap_or(Err(Error::NotCreated))
}

/// Sends payments of 1, 2, … wei to the contract, from the node's accounts in turn. The node mines the sent payments in its next blocks.
pub(crate) async fn emit(rpc: &Rpc, contract: &str, count: u64) -> Result<(), Error> {
    let accounts = rpc.accounts().await?;
    if accounts.is_empty() {
        return Err(Error::NoAccount);
    }
    for (amount, account) in (1..=count).zip(accounts.iter().cycle()) {
        let payment = json!({"from": account, "to": contract, "value": format!("{amount:#x}")});
        rpc.send_transaction(payment).await?;
    }
    Ok(())
}
