//! Batches of messages, as JSON or as NDJSON, and their outcome.

use queue_core::{Enqueued, MessageRef, NewMessage, State};
use serde::{Deserialize, Serialize};
use service::{Code, FieldError, Problem};
use utoipa::ToSchema;

use super::json::{self, Body};

/// The maximum number of refused lines that the response to NDJSON lists.
const MAX_LISTED_LINES: usize = 100;

/// A batch of messages to post: all messages are stored, or none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"messages": [{"data": 1}, {"data": 2, "id": "order-43", "delay": "1h"}]})))]
pub(crate) struct NewBatch {
    #[serde(deserialize_with = "json::deserialize_objects")]
    #[schema(min_items = 1, max_items = 1000)]
    pub(crate) messages: Vec<NewMessage>,
}

impl Body for NewBatch {
    const INVALID_BODY_CODE: Code = Code::InvalidMessage;

    fn check(&self) -> Result<(), FieldError> {
        let mut messages = self.messages.iter().enumerate();
        messages.try_for_each(|(index, message)| {
            message.check().map_err(|error| error.with_parent_pointer(&format!("/messages/{index}")))
        })
    }
}

/// The outcome of each message of a batch, in the order of the request.
#[derive(Serialize, ToSchema)]
pub(crate) struct PostedBatch {
    pub(crate) messages: Vec<BatchEntry>,
}

/// The outcome of one message of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchEntry {
    #[schema(inline)]
    id: MessageRef,
    #[schema(required)]
    state: Option<State>,
    /// Whether the message with this `id` existed before this post.
    pub(crate) duplicate: bool,
}

impl From<&Enqueued> for BatchEntry {
    fn from(enqueued: &Enqueued) -> Self {
        let duplicate = !matches!(enqueued, Enqueued::Created(_));
        Self { id: enqueued.id().clone(), state: enqueued.state(), duplicate }
    }
}

/// The outcome of a batch: an entry for each message of a JSON body, or a summary of all lines of an NDJSON body.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum BatchOrLines {
    Batch(PostedBatch),
    Lines(LinesSummary),
}

/// The outcome of all lines of an NDJSON body.
#[derive(Default, Serialize, ToSchema)]
pub(crate) struct LinesSummary {
    /// The number of messages that were stored.
    enqueued: u64,
    /// The number of messages that existed before this post.
    duplicates: u64,
    /// The first 100 lines that were refused.
    #[schema(max_items = 100)]
    refused: Vec<RefusedLine>,
    /// The number of all lines that were refused.
    refused_count: u64,
    /// Whether all lines were read; `false` only in an error response.
    pub(crate) done: bool,
}

/// A line of an NDJSON body that was refused.
#[derive(Serialize, ToSchema)]
struct RefusedLine {
    /// The number of the refused line of the body. The first line of the body has the number 1.
    #[schema(minimum = 1)]
    line: u64,
    #[schema(value_type = String)]
    code: Code,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1)]
    errors: Vec<FieldError>,
}

impl LinesSummary {
    /// Counts a refused line, and lists it if the list has room.
    pub(crate) fn add_refused_line(&mut self, line: u64, problem: Problem) {
        self.refused_count += 1;
        if self.refused.len() < MAX_LISTED_LINES {
            let errors = problem.errors().to_vec();
            self.refused.push(RefusedLine { line, code: problem.code(), detail: problem.detail, errors });
        }
    }

    /// Counts the messages of `enqueued` that were stored, and the messages that existed already.
    pub(crate) fn count_messages(&mut self, enqueued: &[Enqueued]) {
        for one in enqueued {
            match one {
                Enqueued::Created(_) => self.enqueued += 1,
                Enqueued::Duplicate(..) | Enqueued::Forgotten(_) => self.duplicates += 1,
            }
        }
    }
}
