//! The requests that the server sends to Drover's API. Each user has a queue, `chat-<user>`.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::{json, value::RawValue};
use tracing::{debug, warn};

use crate::user::User;

/// The time for which a lease request waits for the first message.
const LEASE_WAIT: Duration = Duration::from_secs(20);
/// The time limit of a request to Drover. A lease request that waits has this time in addition to `LEASE_WAIT`.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The pause before a failed request is repeated for the first time. Each further failure of the request doubles the pause before the next
/// repetition.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A client of Drover's API for the chat server.
pub(crate) struct Drover {
    http: Client,
    base: String,
}

/// The reason why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API did not answer in time, or its answer was cut off. The API may have carried out the request.
    #[error("Drover does not answer: {0}; check that its API runs")]
    NoAnswer(#[from] reqwest::Error),
    /// The API answered with a status that is not 2xx.
    #[error("Drover answered {status} ({}): {}", problem.code, problem.detail)]
    Refused {
        /// The HTTP status of the answer.
        status: StatusCode,
        /// The error that the body of the answer describes.
        problem: Problem,
    },
}

/// The fields of an error answer (problem+json) that the chat server reads.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) detail: String,
}

impl Error {
    /// Returns whether the failed request may succeed when it is repeated.
    fn is_temporary(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Refused { status, problem } => {
                status.is_server_error()
                    || *status == StatusCode::REQUEST_TIMEOUT
                    || (*status == StatusCode::TOO_MANY_REQUESTS && problem.code != "queue_full")
            }
        }
    }

    /// Returns the code of Drover's error, or an empty text if there was no answer.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::NoAnswer(_) => "",
            Self::Refused { problem, .. } => &problem.code,
        }
    }
}

/// A message as the chat server posts it to Drover.
#[derive(Serialize)]
pub(crate) struct NewMessage<'a> {
    /// The own id, by which Drover recognises a repeated post.
    pub(crate) id: &'a str,
    /// The name of the message, which identifies its kind.
    pub(crate) name: &'a str,
    /// The name of the sender. Drover leases the messages of a group one after the other, so each sender's messages stay in order.
    pub(crate) group: &'a str,
    pub(crate) data: serde_json::Value,
}

/// A message that the chat server has leased, with its lease.
#[derive(Deserialize)]
pub(crate) struct Leased {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    /// The name of the message's sender.
    pub(crate) group: Option<String>,
    pub(crate) data: Box<RawValue>,
    pub(crate) created_at: String,
    /// The token of the lease.
    pub(crate) lease: String,
}

/// The action that ends or extends a lease.
#[derive(Clone, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub(crate) enum Action {
    /// Completes the message, which was delivered.
    Complete,
    /// Fails the message for good, because it can never be delivered.
    Fail {
        error: &'static str,
        /// Whether Drover may retry the message.
        retry: bool,
    },
    /// Releases the message with no attempt spent, so that another browser page of the user may get the message at once.
    Release,
    /// Extends the lease of a message that the page has not acknowledged yet.
    Extend,
}

/// A lease, and the action that ends or extends the lease.
#[derive(Clone, Serialize)]
pub(crate) struct Settlement {
    pub(crate) lease: String,
    #[serde(flatten)]
    pub(crate) action: Action,
}

/// The outcome of a settlement.
#[derive(Deserialize)]
pub(crate) struct Settled {
    pub(crate) lease: String,
    outcome: String,
}

impl Settled {
    pub(crate) fn is_gone(&self) -> bool {
        self.outcome == "gone"
    }
}

#[derive(Deserialize)]
struct Leases {
    messages: Vec<Leased>,
}

#[derive(Deserialize)]
struct Settlements {
    settlements: Vec<Settled>,
}

impl Drover {
    /// Creates a client of the API at `base`, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(base: &str) -> Result<Self, reqwest::Error> {
        let http = Client::builder().timeout(TIME_LIMIT).build()?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned() })
    }

    /// Posts a message to a user, again and again until Drover has stored the message. Returns an error if Drover refuses the message.
    pub(crate) async fn post(&self, to: &User, message: &NewMessage<'_>) -> Result<(), Error> {
        // The body of the answer is ignored, because the status says whether the message is stored.
        repeat_request::<IgnoredAny>(|| self.http.post(self.url(to, "messages")).json(message)).await.map(drop)
    }

    /// Waits until a user has messages, and leases up to `max` of them. The list of leased messages may be empty.
    pub(crate) async fn lease(&self, user: &User, max: usize) -> Result<Vec<Leased>, Error> {
        let body = json!({"max": max, "wait": u64::try_from(LEASE_WAIT.as_millis()).unwrap_or(u64::MAX)});
        let request = || self.http.post(self.url(user, "leases")).timeout(LEASE_WAIT + TIME_LIMIT).json(&body);
        Ok(repeat_request::<Leases>(request).await?.messages)
    }

    /// Settles leases, again and again until Drover has answered.
    pub(crate) async fn settle(&self, user: &User, settlements: &[Settlement]) -> Result<Vec<Settled>, Error> {
        Ok(repeat_request::<Settlements>(|| self.settlement(user, settlements)).await?.settlements)
    }

    /// Settles leases in a single request.
    pub(crate) async fn settle_once(&self, user: &User, settlements: &[Settlement]) -> Result<Vec<Settled>, Error> {
        Ok(json_answer::<Settlements>(self.settlement(user, settlements)).await?.settlements)
    }

    fn settlement(&self, user: &User, settlements: &[Settlement]) -> RequestBuilder {
        self.http.post(self.url(user, "leases/settle")).json(&json!({"settlements": settlements}))
    }

    fn url(&self, user: &User, path: &str) -> String {
        format!("{}/v1/queues/chat-{user}/{path}", self.base)
    }
}

/// Sends a request until it succeeds or is refused for good. A caller that no longer wants the answer drops the future.
async fn repeat_request<T: DeserializeOwned>(request: impl Fn() -> RequestBuilder) -> Result<T, Error> {
    let mut pause = FIRST_PAUSE;
    loop {
        match json_answer(request()).await {
            Err(error) if error.is_temporary() => {
                if pause == FIRST_PAUSE {
                    warn!("{error}; the server tries again");
                } else {
                    debug!("{error}; the server tries again");
                }
            }
            result => return result,
        }
        // The random part of the pause before a repetition spreads the requests of many users after an outage.
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = MAX_PAUSE.min(pause * 2);
    }
}

async fn json_answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
    let response = request.send().await?;
    let status = response.status();
    if status.is_success() {
        return Ok(response.json().await?);
    }
    Err(Error::Refused { status, problem: response.json().await.unwrap_or_default() })
}
