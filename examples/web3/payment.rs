//! The event `Paid` of the contract Till.sol, and the message for it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::rpc::Log;

/// A payment, which is the `data` of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Payment {
    pub(crate) block: u64,
    pub(crate) transaction: String,
    pub(crate) log_index: u64,
    /// The address of the account that paid.
    pub(crate) payer: String,
    /// The number of the payment among all payments to the contract, from 1.
    pub(crate) number: u64,
    /// The amount in wei, as a text, because many programs read JSON numbers exactly only up to 2^53.
    pub(crate) amount: String,
}

/// The error for an event that the contract Till.sol does not emit.
#[derive(Debug, thiserror::Error)]
#[error("the event {0} of transaction {1} is no payment: check that --contract is an address of Till.sol")]
pub(crate) struct NotAPayment(u64, String);

impl Payment {
    /// The first topic of each event: the Keccak-256 hash of `Paid(address,uint256,uint256)`.
    pub(crate) const TOPIC: &str = "0xdf9a51129930649214df58f542322c245372c6f2fa6fc3c9b40d927c597cd230";

    /// Reads an event of the contract.
    pub(crate) fn from_log(log: &Log) -> Result<Self, NotAPayment> {
        Self::read_log(log).ok_or_else(|| NotAPayment(log.index, log.transaction_hash.clone()))
    }

    fn read_log(log: &Log) -> Option<Self> {
        // An indexed address is a topic: 32 bytes, of which the last 20 are the address.
        let payer = log.topics.get(1)?.strip_prefix("0x").filter(|topic| topic.len() == 64)?.get(24..)?;
        let data = log.data.strip_prefix("0x").filter(|data| data.len() == 128)?;
        Some(Self {
            block: log.block_number,
            transaction: log.transaction_hash.clone(),
            log_index: log.index,
            payer: format!("0x{payer}"),
            number: u64::try_from(parse_word(data.get(..64)?)?).ok()?,
            amount: parse_word(data.get(64..)?)?.to_string(),
        })
    }

    /// Returns the message for this payment. The message's own id is the event's place on the chain, so Drover stores an event once,
    /// however often the event is posted. Payments of an account are a group, so they are handled in their order; accounts do not wait for
    /// each other.
    pub(crate) fn message(&self, chain: u64) -> Value {
        let id = format!("{chain}-{}-{}", self.transaction, self.log_index);
        json!({"id": id, "name": "paid", "group": self.payer, "data": self})
    }
}

/// Reads a hexadecimal number of 256 bits; `None` if it exceeds 128 bits, which no amount on a chain does.
fn parse_word(hex: &str) -> Option<u128> {
    let (high, low) = hex.split_at_checked(32)?;
    if high.bytes().all(|digit| digit == b'0') { u128::from_str_radix(low, 16).ok() } else { None }
}
