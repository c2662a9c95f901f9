//! The ledger: a small HTTP server to which Drover's worker sends each payment, and which keeps the balance of each payer.
//!
//! Drover delivers each message at least once. To count a message once, the ledger writes the id of the message into its journal, in one
//! line with the payment, and ignores a message whose id is in the journal. (A ledger in a database would write the id and the balance in
//! one transaction.)

use std::{
    collections::{BTreeMap, HashSet},
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::spawn_blocking};
use tracing::{info, warn};

use crate::payment::Payment;

/// The options of `web3 ledger`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The address at which the ledger listens.
    #[arg(long, default_value = "127.0.0.1:8091")]
    bind: SocketAddr,
    /// The journal file, which has all payments.
    #[arg(long)]
    journal: PathBuf,
}

/// A payment in the journal, which has one line for each payment.
#[derive(Serialize, Deserialize)]
struct Entry {
    /// The id of the message.
    id: String,
    #[serde(flatten)]
    payment: Payment,
}

struct Ledger {
    journal: File,
    /// The length of the journal's complete lines, in bytes.
    complete_length: u64,
    known_ids: HashSet<String>,
    balances: BTreeMap<String, u128>,
}

/// Serves the ledger.
pub(crate) async fn serve(options: Options) -> io::Result<()> {
    let ledger = Ledger::open(&options.journal)?;
    let listener = TcpListener::bind(options.bind).await?;
    info!(payments = ledger.known_ids.len(), "the ledger listens at http://{}", listener.local_addr()?);
    let router = Router::new()
        .route("/payments", post(receive))
        .route("/balances", get(balances))
        .with_state(Arc::new(Mutex::new(ledger)));
    axum::serve(listener, router).await
}

/// Receives a payment from Drover's worker. The body of the answer becomes the message's result.
async fn receive(
    State(ledger): State<Arc<Mutex<Ledger>>>,
    headers: HeaderMap,
    Json(payment): Json<Payment>,
) -> (StatusCode, Json<Value>) {
    let Some(id) = headers.get("drover-message-id").and_then(|id| id.to_str().ok()).map(str::to_owned) else {
        return refuse(StatusCode::BAD_REQUEST, "the header drover-message-id is missing");
    };
    // The ledger answers only when the payment is on disk, and writing to disk blocks a thread.
    let recorded = spawn_blocking(move || ledger.lock().record(id, payment)).await;
    match recorded {
        Ok(Ok(balance)) => (StatusCode::OK, Json(json!({"balance": balance.to_string()}))),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            refuse(StatusCode::UNPROCESSABLE_ENTITY, "amount is not a number of wei")
        }
        Ok(Err(error)) => {
            warn!("the journal cannot be written: {error}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "the journal cannot be written: send the payment again")
        }
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the ledger failed: send the payment again"),
    }
}

fn refuse(status: StatusCode, error: &str) -> (StatusCode, Json<Value>) {
    (status, Json(json!({"error": error})))
}

/// Answers the balance of each payer, in wei.
async fn balances(State(ledger): State<Arc<Mutex<Ledger>>>) -> Json<BTreeMap<String, String>> {
    let text = |(payer, balance): (&String, &u128)| (payer.clone(), balance.to_string());
    Json(ledger.lock().balances.iter().map(text).collect())
}

impl Ledger {
    /// Opens a journal, or begins a new one. An incomplete last line, which a killed ledger left behind, is removed. The ledger has not
    /// answered the payment of an incomplete line, so Drover delivers the payment again.
    fn open(path: &Path) -> io::Result<Self> {
        let journal = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut ledger = Self { journal, complete_length: 0, known_ids: HashSet::new(), balances: BTreeMap::new() };
        let mut lines = BufReader::new(ledger.journal.try_clone()?);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            let Entry { id, payment } = serde_json::from_str(&line)?;
            let amount = amount_of(&payment)?;
            ledger.add_payment(id, payment.payer, amount);
            ledger.complete_length += line.len() as u64;
            line.clear();
        }
        ledger.remove_incomplete_line()?;
        Ok(ledger)
    }

    /// Records a payment unless the journal already has the message of the payment. Returns the balance of the payer.
    fn record(&mut self, id: String, payment: Payment) -> io::Result<u128> {
        let amount = amount_of(&payment)?;
        if !self.known_ids.contains(&id) {
            let entry = Entry { id, payment };
            let mut line = serde_json::to_vec(&entry)?;
            line.push(b'\n');
            if let Err(error) = self.journal.write_all(&line).and_then(|()| self.journal.sync_data()) {
                self.remove_incomplete_line()?;
                return Err(error);
            }
            self.complete_length += line.len() as u64;
            let Entry { id, payment } = entry;
            return Ok(self.add_payment(id, payment.payer, amount));
        }
        Ok(self.balances.get(&payment.payer).copied().unwrap_or_default())
    }

    fn remove_incomplete_line(&mut self) -> io::Result<()> {
        self.journal.set_len(self.complete_length)?;
        self.journal.seek(SeekFrom::Start(self.complete_length)).map(drop)
    }

    fn add_payment(&mut self, id: String, payer: String, amount: u128) -> u128 {
        self.known_ids.insert(id);
        let balance = self.balances.entry(payer).or_default();
        *balance += amount;
        *balance
    }
}

fn amount_of(payment: &Payment) -> io::Result<u128> {
    payment.amount.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}
