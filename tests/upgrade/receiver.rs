//! The HTTP server that receives messages from the workers' handler `http`, and records each run of a message.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use serde::Deserialize;
use tokio::{net::TcpListener, task::JoinHandle, time::sleep};

/// The time that the receiver takes to handle a message.
const RUN_TIME: Duration = Duration::from_millis(5);

/// The data of a message.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Work {
    /// The number of the post among the posts of its client.
    pub(crate) number: usize,
    /// The number of attempts that the receiver lets fail.
    pub(crate) fails: u32,
}

/// The runs of all messages.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// The attempts of each message, in the order of their runs.
    pub(crate) attempts: BTreeMap<String, Vec<u32>>,
    /// The numbers of the posts of each group, in the order of their runs.
    pub(crate) groups: BTreeMap<String, Vec<usize>>,
    /// The messages that ran while another message of their group ran.
    pub(crate) overlapping: Vec<String>,
    /// The groups of which a message is running now.
    busy_groups: BTreeSet<String>,
}

impl Runs {
    /// Returns the number of runs.
    pub(crate) fn count(&self) -> usize {
        self.attempts.values().map(Vec::len).sum()
    }
}

/// A running HTTP server that records the runs of messages.
pub(crate) struct Receiver {
    pub(crate) url: String,
    pub(crate) runs: Arc<Mutex<Runs>>,
    task: JoinHandle<()>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let runs: Arc<Mutex<Runs>> = Arc::default();
        let router = Router::new().route("/", post(run)).with_state(Arc::clone(&runs));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, runs, task }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Handles a message, and records the run.
async fn run(State(runs): State<Arc<Mutex<Runs>>>, headers: HeaderMap, Json(work): Json<Work>) -> StatusCode {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let id = header("drover-message-id").unwrap();
    let attempt: u32 = header("drover-attempt").unwrap().parse().unwrap();
    let group = header("drover-group").filter(|group| !group.is_empty());
    {
        let mut runs = runs.lock().unwrap();
        runs.attempts.entry(id.clone()).or_default().push(attempt);
        if let Some(group) = &group {
            runs.groups.entry(group.clone()).or_default().push(work.number);
            if !runs.busy_groups.insert(group.clone()) {
                runs.overlapping.push(id);
            }
        }
    }
    sleep(RUN_TIME).await;
    if let Some(group) = &group {
        runs.lock().unwrap().busy_groups.remove(group);
    }
    if attempt <= work.fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }
}
