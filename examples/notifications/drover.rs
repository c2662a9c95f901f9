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
    /// The URL at which other servers of the example reach this server.
    server: String,
    times: Times,
}

/// The reason why a request to Drover failed.
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
        /// The text of the answer, which describes the error.
        body: String,
    },
}

impl Error {
    /// Returns whether Drover refused the request with this status.
    pub(crate) fn has_status(&self, expected: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == expected)
    }
}

/// A message that the server has leased, with the token of its lease.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Leased {
    pub(crate) id: String,
    /// The name of the user who gets the notification.
    pub(crate) group: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) data: Box<RawValue>,
    pub(crate) created_at: String,
    /// The token of the lease.
    pub(crate) lease: String,
}

/// The server at which a user is logged in, if any.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UserLocation {
    /// The user is not logged in.
    Away,
    /// The user is logged in at this server.
    Here,
    /// The user is logged in at the server with this URL.
    At(String),
}

#[derive(Deserialize)]
struct Signal {
    data: OnlineData,
}

/// The data of a user's sticky signal: the URL of the server at which the user is logged in.
#[derive(Deserialize)]
struct OnlineData {
    server: String,
}

#[derive(Deserialize)]
struct Leases {
    messages: Vec<Leased>,
}

impl Drover {
    /// Creates a client of the API at `base`, such as `http://127.0.0.1:8080`. `server` is the URL at which other servers of the example
    /// reach this server.
    pub(crate) fn new(base: &str, server: String, times: Times) -> Result<Self, reqwest::Error> {
        let http = Client::builder().timeout(TIME_LIMIT).build()?;
        Ok(Self { http, queue: format!("{}/v1/queues/notifications", base.trim_end_matches('/')), server, times })
    }

    /// Leases up to 100 messages, and waits for the first message. The list of leased messages may be empty.
    pub(crate) async fn lease(&self) -> Result<Vec<Leased>, Error> {
        let body = json!({
            "max": MAX_LEASES,
            "wait": millis(LEASE_WAIT),
            "visibility_timeout": millis(self.times.lease),
        });
        let request = self.http.post(format!("{}/leases", self.queue)).timeout(LEASE_WAIT + TIME_LIMIT).json(&body);
        Ok(json_answer::<Leases>(request).await?.messages)
    }

    /// Completes a message. If the lease of the message is over, nothing changes, and the message is delivered again.
    pub(crate) async fn complete(&self, lease: &str) -> Result<(), Error> {
        let completed = self.post("/leases/complete", &json!({"lease": lease})).await;
        none_if_status(completed, StatusCode::GONE).map(drop)
    }

    /// Fails a message for good.
    pub(crate) async fn fail(&self, lease: &str, code: &str, message: &str) -> Result<(), Error> {
        let body = json!({"lease": lease, "retry": false, "error": {"code": code, "message": message}});
        self.post("/leases/fail", &body).await.map(drop)
    }

    /// Returns a message to the queue after a pause, with no attempt spent. During the pause of a returned message, no later message of the
    /// user is leased, because the returned message keeps the place of its group.
    pub(crate) async fn release(&self, lease: &str, pause: Duration) -> Result<(), Error> {
        self.post_release(&json!({"lease": lease, "delay": millis(pause)})).await
    }

    /// Returns a message to the queue, where the message is held until its user logs in. Until the user logs in, no later message of the
    /// user is leased. If the user is logged in when the message is returned, Drover leases the message again at once.
    pub(crate) async fn hold(&self, lease: &str, user: &User) -> Result<(), Error> {
        self.post_release(&json!({"lease": lease, "hold": hold_key(user)})).await
    }

    /// Ends the lease of a message with this release request. If the lease is over already, nothing changes.
    async fn post_release(&self, release: &Value) -> Result<(), Error> {
        none_if_status(self.post("/leases/release", release).await, StatusCode::GONE).map(drop)
    }

    /// Sends or renews the sticky signal of a user who is logged in. Drover then releases the user's held notifications, and holds no newer
    /// notifications. The data of the signal is the URL of the server at which the user is logged in.
    pub(crate) async fn log_in(&self, user: &User) -> Result<(), Error> {
        let body = json!({"sticky_for": millis(self.times.online), "data": {"server": self.server}});
        self.post(&signal_path(user), &body).await.map(drop)
    }

    /// Forgets the sticky signal of a user, so that Drover holds the user's new notifications.
    pub(crate) async fn log_out(&self, user: &User) -> Result<(), Error> {
        let deleted = answer_text(self.http.delete(self.url(&signal_path(user)))).await;
        none_if_status(deleted, StatusCode::NOT_FOUND).map(drop)
    }

    /// Returns the server at which a user is logged in, if any.
    pub(crate) async fn user_location(&self, user: &User) -> Result<UserLocation, Error> {
        let signal = json_answer::<Signal>(self.http.get(self.url(&signal_path(user)))).await;
        Ok(match none_if_status(signal, StatusCode::NOT_FOUND)? {
            None => UserLocation::Away,
            Some(Signal { data }) if data.server == self.server => UserLocation::Here,
            Some(Signal { data }) => UserLocation::At(data.server),
        })
    }

    /// Sends a leased notification to the server at which its user is logged in. The server that gets the notification can complete the
    /// message, because the notification contains the token of the lease.
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

/// Returns the hold key of a user's notifications.
fn hold_key(user: &User) -> String {
    format!("online:{user}")
}

/// Returns the path of the signal that releases a user's held notifications. The name of a user needs no encoding in a URL.
fn signal_path(user: &User) -> String {
    format!("/signals/{}", hold_key(user))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn json_answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, Error> {
    Ok(send_checked(request).await?.json().await?)
}

async fn answer_text(request: reqwest::RequestBuilder) -> Result<String, Error> {
    Ok(send_checked(request).await?.text().await?)
}

async fn send_checked(request: reqwest::RequestBuilder) -> Result<reqwest::Response, Error> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() { Ok(response) } else { Err(Error::Refused { status, body: response.text().await? }) }
}

/// Converts the error of a refusal with this status to `None`.
fn none_if_status<T>(result: Result<T, Error>, status: StatusCode) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.has_status(status) => Ok(None),
        Err(error) => Err(error),
    }
}
