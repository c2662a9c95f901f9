//! The requests that the server sends to Drover's API.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};

use crate::{times::Times, user::User};

/// The maximum number of messages of one lease request.
const MAX_LEASES: usize = 100;
/// The time for which a lease request waits for a message.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// The time limit of a request that does not wait.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// A client of the queue `notifications`.
pub(crate) struct Drover {
    http: Client,
    /// The URL of the queue.
    queue: String,
    /// The URL of this server, for other servers.
    server: String,
    times: Times,
}

/// A request had no success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API did not answer in time, or its answer was cut off.
    #[error("Drover does not answer: {0}; check that its API runs")]
    NoAnswer(#[from] reqwest::Error),
    /// The API answered with a status that is not 2xx.
    #[error("Drover answered {status}: {body}")]
    Refused {
        /// The status of the answer.
        status: StatusCode,
        /// The problem that the answer describes.
        body: String,
    },
}

impl Error {
    /// Whether Drover refused the request with this status.
    pub(crate) fn has_status(&self, expected: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == expected)
    }
}

/// A message with its lease.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Leased {
    pub(crate) id: String,
    /// The name of the user.
    pub(crate) group: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: Box<RawValue>,
    pub(crate) created_at: String,
    /// The token of the lease.
    pub(crate) lease: String,
}

/// Where a user is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whereabouts {
    /// The user is not logged in.
    Away,
    /// The user is logged in at this server.
    Here,
    /// The user is logged in at the server with this URL.
    At(String),
}

#[derive(Deserialize)]
struct Signal {
    data: Online,
}

/// The data of the signal of a user.
#[derive(Deserialize)]
struct Online {
    server: String,
}

#[derive(Deserialize)]
struct Leases {
    messages: Vec<Leased>,
}

impl Drover {
    /// A client of the API at `base`, such as `http://127.0.0.1:8080`. Other servers reach this one at `server`.
    pub(crate) fn new(base: &str, server: String, times: Times) -> Result<Self, reqwest::Error> {
        let http = Client::builder().timeout(TIME_LIMIT).build()?;
        Ok(Self { http, queue: format!("{}/v1/queues/notifications", base.trim_end_matches('/')), server, times })
    }

    /// Leases up to 100 messages, and waits for the first one. There may be none.
    pub(crate) async fn lease(&self) -> Result<Vec<Leased>, Error> {
        let body = json!({
            "max": MAX_LEASES,
            "wait": millis(LEASE_WAIT),
            "visibility_timeout": millis(self.times.lease),
        });
        let request = self.http.post(format!("{}/leases", self.queue)).timeout(LEASE_WAIT + TIME_LIMIT).json(&body);
        Ok(answer::<Leases>(request).await?.messages)
    }

    /// Completes a message. If its lease is over, nothing changes: the message is delivered again.
    pub(crate) async fn complete(&self, lease: &str) -> Result<(), Error> {
        let completed = self.post("/leases/complete", &json!({"lease": lease})).await;
        unless(completed, StatusCode::GONE).map(drop)
    }

    /// Fails a message for good.
    pub(crate) async fn fail(&self, lease: &str, code: &str, message: &str) -> Result<(), Error> {
        let body = json!({"lease": lease, "retry": false, "error": {"code": code, "message": message}});
        self.post("/leases/fail", &body).await.map(drop)
    }

    /// Returns a message to the queue, which spends no attempt. During the pause the message keeps the place of its group, so no
    /// later message of the user overtakes it.
    pub(crate) async fn release(&self, lease: &str, pause: Duration) -> Result<(), Error> {
        self.end_lease(&json!({"lease": lease, "delay": millis(pause)})).await
    }

    /// Returns a message to the queue until its user logs in. The message keeps the place of its group meanwhile. If the user has
    /// logged in already, Drover leases the message again at once.
    pub(crate) async fn hold(&self, lease: &str, user: &User) -> Result<(), Error> {
        self.end_lease(&json!({"lease": lease, "hold": hold_key(user)})).await
    }

    /// Releases a message. If its lease is over, nothing changes.
    async fn end_lease(&self, release: &Value) -> Result<(), Error> {
        unless(self.post("/leases/release", release).await, StatusCode::GONE).map(drop)
    }

    /// Sends or renews the sticky signal of a user who is logged in: Drover releases all that was held, and lets newer notifications
    /// through at once. The signal's data names the server that has the user.
    pub(crate) async fn log_in(&self, user: &User) -> Result<(), Error> {
        let body = json!({"sticky_for": millis(self.times.online), "data": {"server": self.server}});
        self.post(&signal_path(user), &body).await.map(drop)
    }

    /// Forgets the sticky signal of a user. From now on, new notifications are held.
    pub(crate) async fn log_out(&self, user: &User) -> Result<(), Error> {
        let deleted = answer_text(self.http.delete(self.url(&signal_path(user)))).await;
        unless(deleted, StatusCode::NOT_FOUND).map(drop)
    }

    /// Whether a user is logged in, and at which server.
    pub(crate) async fn whereabouts(&self, user: &User) -> Result<Whereabouts, Error> {
        let signal = answer::<Signal>(self.http.get(self.url(&signal_path(user)))).await;
        Ok(match unless(signal, StatusCode::NOT_FOUND)? {
            None => Whereabouts::Away,
            Some(Signal { data }) if data.server == self.server => Whereabouts::Here,
            Some(Signal { data }) => Whereabouts::At(data.server),
        })
    }

    /// Hands a leased notification to the server that has its user. The token of the lease is all that this server needs.
    pub(crate) async fn hand_over(&self, server: &str, message: &Leased) -> Result<(), Error> {
        answer_text(self.http.post(format!("{server}/notifications")).json(message)).await.map(drop)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.queue)
    }

    async fn post(&self, path: &str, body: &Value) -> Result<String, Error> {
        answer_text(self.http.post(self.url(path)).json(body)).await
    }
}

/// The hold key of a user's notifications.
fn hold_key(user: &User) -> String {
    format!("online:{user}")
}

/// Users' names have only letters that need no encoding in a URL.
fn signal_path(user: &User) -> String {
    format!("/signals/{}", hold_key(user))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, Error> {
    Ok(checked(request).await?.json().await?)
}

async fn answer_text(request: reqwest::RequestBuilder) -> Result<String, Error> {
    Ok(checked(request).await?.text().await?)
}

async fn checked(request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() { Ok(response) } else { Err(Error::Refused { status, body: response.text().await? }) }
}

/// Converts a refusal with this status to `None`.
fn unless<T>(result: Result<T, Error>, status: StatusCode) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.has_status(status) => Ok(None),
        Err(error) => Err(error),
    }
}
