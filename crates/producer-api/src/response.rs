//! JSON responses. A large response counts towards the memory budget until its client has read it, so that slow clients use
//! bounded memory. If a response may be large, the memory is reserved before Redis is called.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::Response,
};
use parking_lot::Mutex;
use queue_core::{Queue, ResponseMemory};
use serde::Serialize;

use crate::{
    app::App,
    auth::caller::Caller,
    budget::{BudgetExceeded, Share},
    errors::{self, Result},
};

/// The size in bytes up to which a response does not count towards the memory budget. For a response of unknown size, at
/// least this number of bytes is reserved.
const MAX_BYTES_OUTSIDE_MEMORY_BUDGET: usize = 64 * 1_024;

/// Creates the responses to a client within the client's memory budget.
#[derive(Clone)]
pub(crate) struct Responder {
    app: App,
    pub(crate) caller: Caller,
}

impl FromRequestParts<App> for Responder {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self { app: app.clone(), caller: Caller::from_extensions(&parts.extensions) })
    }
}

impl Responder {
    /// Reserves memory for a response with up to `messages` messages, before Redis is called.
    pub(crate) fn reserve(&self, messages: usize) -> Result<ReservedMemory> {
        // The API returns a single message of any size, so for a response with one message only the minimum of memory is
        // reserved.
        let max = if messages == 1 { MAX_BYTES_OUTSIDE_MEMORY_BUDGET } else { Queue::MAX_BYTES };
        self.reserve_in_total_budget(self.app.response_memory.take_flexible(
            self.caller.client(),
            MAX_BYTES_OUTSIDE_MEMORY_BUDGET,
            max,
        ))
    }

    /// Returns a response with a value that was read from Redis, or an error if a large response would exceed the memory
    /// budget. `expected_bytes` is the approximate size of the response.
    pub(crate) fn respond_to_read(&self, value: &impl Serialize, expected_bytes: usize) -> Result<Response> {
        // A response larger than one client's budget needs the whole budget of the client.
        self.json_response(value, expected_bytes, self.app.response_memory.max_per_client())
    }

    /// Returns the response to an operation that changed data. The response is sent even if it exceeds the memory budget; later
    /// responses are refused until memory is free again. `expected_bytes` is the approximate size of the response.
    pub(crate) fn respond_to_change(&self, value: &impl Serialize, expected_bytes: usize) -> Result<Response> {
        self.json_response(value, expected_bytes, 0)
    }

    /// Creates a response. For a large response, the function returns an error unless the memory budget has the size of
    /// the response, or at least `max` bytes, left. If `max` is 0, the function never refuses a response.
    fn json_response(&self, value: &impl Serialize, expected_bytes: usize, max: usize) -> Result<Response> {
        let text = serialize_json(value, expected_bytes)?;
        if text.len() <= MAX_BYTES_OUTSIDE_MEMORY_BUDGET {
            return Ok(response_with_json(text.into()));
        }
        let reserved_memory =
            self.reserve_in_total_budget(self.app.response_memory.take(self.caller.client(), text.len().min(max)))?;
        Ok(reserved_memory.response_with_text_in_memory_budget(text))
    }

    /// Takes the amount of `response_share`, which comes from the budget of responses, also from the total budget of bodies and
    /// responses.
    fn reserve_in_total_budget(&self, response_share: Result<Share, BudgetExceeded>) -> Result<ReservedMemory> {
        let response_share = response_share.map_err(errors::no_memory_for_response)?;
        let total_share = self.app.body_memory.take(self.caller.client(), response_share.amount());
        Ok(ReservedMemory { response_share, total_share: total_share.map_err(errors::no_memory_for_response)? })
    }
}

/// Memory that is reserved for one response. The memory counts towards the budget of responses and towards the total budget of
/// bodies and responses.
pub(crate) struct ReservedMemory {
    response_share: Share,
    total_share: Share,
}

impl ReservedMemory {
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.response_share.amount()
    }

    /// Creates the response, and gives the memory that the response does not need back to the budget.
    pub(crate) fn json_response(self, value: &impl Serialize) -> Result<Response> {
        let text = serialize_json(value, 0)?;
        Ok(if text.len() <= MAX_BYTES_OUTSIDE_MEMORY_BUDGET {
            response_with_json(text.into())
        } else {
            self.response_with_text_in_memory_budget(text)
        })
    }

    fn response_with_text_in_memory_budget(mut self, mut text: Vec<u8>) -> Response {
        text.shrink_to_fit();
        self.response_share.force_resize(text.capacity());
        self.total_share.force_resize(text.capacity());
        response_with_json(Bytes::from_owner(TextInMemoryBudget { text, _memory: self }))
    }
}

/// The text of a response, with the text's share of the memory budget. The share returns to the budget when the last part of the
/// text was sent or dropped.
struct TextInMemoryBudget {
    text: Vec<u8>,
    _memory: ReservedMemory,
}

impl AsRef<[u8]> for TextInMemoryBudget {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// The memory for the response to a client that may wait for messages. The memory is reserved only when messages are leased for
/// the client.
pub(crate) struct LeaseMemory {
    responder: Responder,
    messages: usize,
    state: Mutex<Option<Result<ReservedMemory>>>,
}

impl LeaseMemory {
    pub(crate) fn new(responder: Responder, messages: usize) -> Self {
        Self { responder, messages, state: Mutex::default() }
    }

    /// Returns the reserved memory, or the error of the reservation; `None` if no message was leased.
    pub(crate) fn take_reserved_memory(&self) -> Option<Result<ReservedMemory>> {
        self.state.lock().take()
    }
}

impl ResponseMemory for LeaseMemory {
    fn take(&self) -> Option<usize> {
        let memory_for_response = self.responder.reserve(self.messages);
        let bytes = memory_for_response.as_ref().map(ReservedMemory::reserved_bytes).ok();
        *self.state.lock() = Some(memory_for_response);
        bytes
    }

    fn free(&self) {
        self.state.lock().take_if(|reserved| reserved.is_ok());
    }
}

fn serialize_json(value: &impl Serialize, expected_bytes: usize) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(expected_bytes);
    serde_json::to_writer(&mut text, value).map_err(|_| errors::INTERNAL_ERROR)?;
    Ok(text)
}

fn response_with_json(text: Bytes) -> Response {
    /// The usual number of headers of a complete response.
    const USUAL_HEADER_COUNT: usize = 10;
    let mut response = Response::new(Body::from(text));
    // The map of headers is preallocated, so that it does not grow later.
    let mut headers = HeaderMap::with_capacity(USUAL_HEADER_COUNT);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.headers_mut() = headers;
    response
}
