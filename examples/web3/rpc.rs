//! A client of a chain's JSON-RPC, with the few calls that the example needs.

use std::time::Duration;

use reqwest::Client;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Value, json};

/// The time limit of a request to the node.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// A client of the JSON-RPC of one node.
pub(crate) struct Rpc {
    http: Client,
    url: String,
}

/// The reason why a call of a method failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The node did not answer in time.
    #[error("the node does not answer: {0}; check --rpc")]
    NoAnswer(#[from] reqwest::Error),
    /// The node refused the call.
    #[error("the node refuses {method}: {message}")]
    Refused {
        /// The method of the call.
        method: &'static str,
        /// The reason for which the node refuses the call.
        message: String,
    },
    /// The node's answer is not a valid answer of the method.
    #[error("the node's answer to {method} cannot be read: {reason}")]
    Unreadable {
        /// The method of the call.
        method: &'static str,
        /// The mistake in the answer.
        reason: String,
    },
}

/// The header of a block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block {
    pub(crate) hash: String,
    pub(crate) parent_hash: String,
}

/// An event as the chain stores it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Log {
    pub(crate) topics: Vec<String>,
    pub(crate) data: String,
    #[serde(deserialize_with = "quantity")]
    pub(crate) block_number: u64,
    pub(crate) transaction_hash: String,
    #[serde(rename = "logIndex", deserialize_with = "quantity")]
    pub(crate) index: u64,
}

/// The effect of a mined transaction.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Receipt {
    /// The address of the contract that the transaction created.
    pub(crate) contract_address: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    id: usize,
    #[serde(default)]
    result: Value,
    error: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

#[derive(Deserialize)]
struct Quantity(#[serde(deserialize_with = "quantity")] u64);

impl Rpc {
    /// Returns a client of the node at this URL.
    pub(crate) fn new(url: String) -> Result<Self, Error> {
        Ok(Self { http: Client::builder().timeout(TIME_LIMIT).build()?, url })
    }

    /// Returns the number that distinguishes this chain from others.
    pub(crate) async fn chain_id(&self) -> Result<u64, Error> {
        self.call::<Quantity>("eth_chainId", json!([])).await.map(|Quantity(id)| id)
    }

    /// Returns the number of the newest block.
    pub(crate) async fn block_number(&self) -> Result<u64, Error> {
        self.call::<Quantity>("eth_blockNumber", json!([])).await.map(|Quantity(number)| number)
    }

    /// Returns the headers of the blocks with these numbers; `None` for a block that does not exist.
    pub(crate) async fn blocks(&self, numbers: impl Iterator<Item = u64>) -> Result<Vec<Option<Block>>, Error> {
        let params = numbers.map(|number| json!([format!("{number:#x}"), false])).collect();
        self.batch("eth_getBlockByNumber", params).await
    }

    /// Returns the events of a contract with this topic in each of these blocks. `logs` identifies blocks by hash, because a node that lags
    /// behind refuses an unknown hash, but reports no events for an unknown block number.
    pub(crate) async fn logs(&self, blocks: &[Block], contract: &str, topic: &str) -> Result<Vec<Vec<Log>>, Error> {
        let filter = |block: &Block| json!([{"blockHash": block.hash, "address": contract, "topics": [topic]}]);
        self.batch("eth_getLogs", blocks.iter().map(filter).collect()).await
    }

    /// Returns the accounts for which the node itself signs transactions.
    pub(crate) async fn accounts(&self) -> Result<Vec<String>, Error> {
        self.call("eth_accounts", json!([])).await
    }

    /// Sends a transaction, which the node signs, and returns its hash. The function does not wait until the transaction is mined.
    pub(crate) async fn send_transaction(&self, transaction: Value) -> Result<String, Error> {
        self.call("eth_sendTransaction", json!([transaction])).await
    }

    /// Returns the receipt of a transaction; `None` if it is not mined yet.
    pub(crate) async fn receipt(&self, transaction: &str) -> Result<Option<Receipt>, Error> {
        self.call("eth_getTransactionReceipt", json!([transaction])).await
    }

    async fn call<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<T, Error> {
        let mut answers = self.batch(method, vec![params]).await?;
        Ok(answers.remove(0))
    }

    /// Calls a method once with each of these parameters, in one request.
    async fn batch<T: DeserializeOwned>(&self, method: &'static str, params: Vec<Value>) -> Result<Vec<T>, Error> {
        let count = params.len();
        let call = |(id, params)| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let calls: Vec<Value> = params.into_iter().enumerate().map(call).collect();
        let unreadable = |reason: String| Error::Unreadable { method, reason };
        let response = self.http.post(&self.url).json(&calls).send().await?.error_for_status()?;
        let mut answers: Vec<Answer> =
            serde_json::from_slice(&response.bytes().await?).map_err(|error| unreadable(error.to_string()))?;
        // A node may answer the calls of a batch in any order.
        answers.sort_by_key(|answer| answer.id);
        if !answers.iter().map(|answer| answer.id).eq(0..count) {
            return Err(unreadable("not every call has one answer".to_owned()));
        }
        let result = |answer: Answer| match answer.error {
            Some(Problem { message }) => Err(Error::Refused { method, message }),
            None => serde_json::from_value(answer.result).map_err(|error| unreadable(error.to_string())),
        };
        answers.into_iter().map(result).collect()
    }
}

/// Reads a hexadecimal number such as `"0x1f"`.
fn quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("0x").unwrap_or_default();
    u64::from_str_radix(digits, 16)
        .map_err(|_| serde::de::Error::custom(format!("{text:?} is not a hexadecimal number with 0x")))
}
