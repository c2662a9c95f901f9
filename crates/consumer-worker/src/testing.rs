//! Messages for the tests of handlers, without Redis.

use std::collections::BTreeMap;

use queue_core::{Message, Millis, Timestamp};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::Job;

/// A message of a test's own, to run a handler on without Redis:
///
/// ```
/// use consumer_worker::{HandlerError, Outcome, Payload, Routes, TestJob};
///
/// async fn double(Payload(number): Payload<u64>) -> Result<u64, HandlerError> {
///     Ok(number * 2)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let routes = Routes::new().route("numbers", double);
/// let outcome = routes.handle(TestJob::new("numbers", &21).job()).await;
/// assert!(matches!(outcome, Outcome::Complete(result) if result.get() == "42"));
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TestJob {
    message: Message,
    headers: BTreeMap<String, String>,
    timeout: Option<Millis>,
}

impl TestJob {
    /// The first attempt of a message with this data in this queue, without a name, without headers, with the id
    /// `00000000000001`.
    ///
    /// # Panics
    ///
    /// When this is no name of a queue, or the data has no JSON form.
    pub fn new(queue: &str, data: &impl Serialize) -> Self {
        let message = Message::started(
            "00000000000001".parse().expect("14 digits are an id"),
            queue.parse().expect("the name of a queue"),
            to_raw_value(data).expect("data with a JSON form"),
            Timestamp::from_millis(1_600_000_000_000),
        );
        Self { message, headers: BTreeMap::new(), timeout: None }
    }

    /// With a name.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.message.name = Some(name.parse().expect("the name of a message"));
        self
    }

    /// With an id.
    ///
    /// # Panics
    ///
    /// When it is none.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.message.id = id.parse().expect("the id of a message");
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// As released by a signal with this data.
    ///
    /// # Panics
    ///
    /// When the data has no JSON form.
    #[must_use]
    pub fn signal(mut self, data: &impl Serialize) -> Self {
        self.message.signal = Some(to_raw_value(data).expect("data with a JSON form"));
        self
    }

    /// As this attempt, from 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.message.attempts_made = attempt.saturating_sub(1);
        self.message.deliveries = attempt;
        self
    }

    /// With so much time for the run.
    #[must_use]
    pub fn timeout(mut self, timeout: Millis) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The job. Its progress is kept for [`reported`]; extending its lease does nothing.
    ///
    /// # Panics
    ///
    /// When the headers are more than a message may have.
    pub fn job(mut self) -> Job {
        self.message.headers = self.headers.try_into().expect("no more headers than a message may have");
        let lease_expires_at = self.message.created_at + Millis::from_secs(30);
        Job::pretended(self.message, self.timeout, lease_expires_at)
    }
}

/// What a handler reported of a [`TestJob`], each as its JSON.
pub fn reported(job: &Job) -> Vec<String> {
    job.reports().iter().map(|report| report.get().to_owned()).collect()
}
