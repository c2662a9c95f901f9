//! Jobs for the tests of handlers, without Redis and without a lease.

use std::collections::BTreeMap;

use queue_core::{Message, Millis, Timestamp};
use serde::Serialize;
use serde_json::value::to_raw_value;

use crate::{
    job::Job,
    routing::{Outcome, Routes},
    runtime,
};

/// A message on which a test runs a handler, without Redis:
///
/// ```
/// use consumer_worker::{HandlerError, Outcome, Payload, Routes, TestJob};
///
/// async fn times_two(Payload(number): Payload<u64>) -> Result<u64, HandlerError> {
///     Ok(number * 2)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let routes = Routes::new().route("numbers", times_two);
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
    /// Creates the first attempt of a message with this data in this queue. The message has the id `00000000000001`, no name
    /// and no headers.
    ///
    /// # Panics
    ///
    /// The function panics if the name of the queue is invalid, or if the data can't be serialized as JSON.
    pub fn new(queue: &str, data: &impl Serialize) -> Self {
        let message = Message::started(
            "00000000000001".parse().expect("14 digits are an id"),
            queue.parse().expect("the name of a queue"),
            to_raw_value(data).expect("data with a JSON form"),
            Timestamp::from_millis(1_600_000_000_000),
        );
        Self { message, headers: BTreeMap::new(), timeout: None }
    }

    /// Sets the name of the message.
    ///
    /// # Panics
    /// The method panics if the name is invalid.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.message.name = Some(name.parse().expect("the name of a message"));
        self
    }

    /// Sets the group of the message.
    ///
    /// # Panics
    /// The method panics if the group is invalid.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.message.group = Some(group.parse().expect("the group of a message"));
        self
    }

    /// Sets the id of the message.
    ///
    /// # Panics
    /// The method panics if the id is invalid.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        self.message.id = id.parse().expect("the id of a message");
        self
    }

    /// Adds a header to the message.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the data of the signal that released the message.
    ///
    /// # Panics
    /// The method panics if the data can't be serialized as JSON.
    #[must_use]
    pub fn signal(mut self, data: &impl Serialize) -> Self {
        self.message.signal = Some(to_raw_value(data).expect("data with a JSON form"));
        self
    }

    /// Sets the number of the attempt. The first attempt has the number 1.
    #[must_use]
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.message.attempts_made = attempt.saturating_sub(1);
        self.message.deliveries = attempt;
        self
    }

    /// Sets the time-out of the run (default: none).
    #[must_use]
    pub fn timeout(mut self, timeout: Millis) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Creates the job. [`reported`] returns the progress that the job's handler reports; extending the job's lease has no
    /// effect.
    ///
    /// # Panics
    ///
    /// The method panics if there are more headers than a message may have.
    pub fn job(mut self) -> Job {
        self.message.headers = self.headers.try_into().expect("no more headers than a message may have");
        let lease_expires_at = self.message.created_at + Millis::from_secs(30);
        Job::simulated(self.message, self.timeout, lease_expires_at)
    }
}

/// Returns the progress that a handler reported for a [`TestJob`], each report as JSON.
pub fn reported(job: &Job) -> Vec<String> {
    job.progress_reports().iter().map(|report| report.get().to_owned()).collect()
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// Runs the handler of one message as the worker would, with its layers and its time-out, but without Redis and
    /// without a lease: for tests, with a [`TestJob`].
    pub async fn handle(&self, job: Job) -> Outcome {
        let routes = self.table().routes_of_queue(job.queue());
        runtime::run(routes.as_ref(), &job).await.outcome
    }
}
