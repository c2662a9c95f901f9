//! JSON responses. A large one takes memory until its client has read it, so that clients that do not read cost a bounded
//! amount; where a response may be large, the memory is taken before Redis is called.

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
    budget::{Full, Share},
    errors::{self, Result},
};

/// A response of at most this size does not count. A response whose size is not known yet takes at least this much.
const UNCOUNTED_BYTES: usize = 64 * 1_024;

/// Makes the responses to a client, within the memory that the client may have.
#[derive(Clone)]
pub(crate) struct Responder {
    app: App,
    pub(crate) caller: Caller,
}

impl FromRequestParts<App> for Responder {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self { app: app.clone(), caller: Caller::of(&parts.extensions) })
    }
}

impl Responder {
    /// Takes memory for a number of messages, before Redis is called.
    pub(crate) fn reserve(&self, messages: usize) -> Result<Reserved> {
        // One message comes whole, however large it is.
        let most = if messages == 1 { UNCOUNTED_BYTES } else { Queue::MAX_BYTES };
        self.with_all(self.app.response_memory.take_some(self.caller.client(), UNCOUNTED_BYTES, most))
    }

    /// The response with a value that was read, of `about` this many bytes: refused if it is large and there is no memory for it.
    pub(crate) fn read(&self, value: &impl Serialize, about: usize) -> Result<Response> {
        // A response that is larger than the memory of one client is sent alone.
        self.json(value, about, self.app.response_memory.most_per_client())
    }

    /// The response to an operation that was done, of `about` this many bytes. It is never refused: where there is no memory for
    /// it, later responses are refused.
    pub(crate) fn done(&self, value: &impl Serialize, about: usize) -> Result<Response> {
        self.json(value, about, 0)
    }

    /// The response, which is refused if it is large and there is no memory for its size or `most`, whichever is less.
    fn json(&self, value: &impl Serialize, about: usize, most: usize) -> Result<Response> {
        let text = json(value, about)?;
        if text.len() <= UNCOUNTED_BYTES {
            return Ok(response(text.into()));
        }
        let reserved = self.with_all(self.app.response_memory.take(self.caller.client(), text.len().min(most)))?;
        Ok(reserved.hold(text))
    }

    /// Takes the same amount of the memory that responses share with bodies.
    fn with_all(&self, of_responses: Result<Share, Full>) -> Result<Reserved> {
        let of_responses = of_responses.map_err(errors::no_memory_for_response)?;
        let of_all = self.app.body_memory.take(self.caller.client(), of_responses.amount());
        Ok(Reserved { of_responses, of_all: of_all.map_err(errors::no_memory_for_response)? })
    }
}

/// Memory for one response. Responses have a part of the memory that they share with bodies, so that bodies find room beside them.
pub(crate) struct Reserved {
    of_responses: Share,
    of_all: Share,
}

impl Reserved {
    pub(crate) fn bytes(&self) -> usize {
        self.of_responses.amount()
    }

    /// The response, which keeps as much of the memory as it needs.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<Response> {
        let text = json(value, 0)?;
        Ok(if text.len() <= UNCOUNTED_BYTES { response(text.into()) } else { self.hold(text) })
    }

    fn hold(mut self, mut text: Vec<u8>) -> Response {
        text.shrink_to_fit();
        self.of_responses.count(text.capacity());
        self.of_all.count(text.capacity());
        response(Bytes::from_owner(Counted { text, _memory: self }))
    }
}

/// The text of a response with its memory, which is free again when the last part of the text was sent or dropped.
struct Counted {
    text: Vec<u8>,
    _memory: Reserved,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// The memory for the response to a client that may wait for messages: taken only while messages are leased for it.
pub(crate) struct LeaseMemory {
    responder: Responder,
    messages: usize,
    state: Mutex<Option<Result<Reserved>>>,
}

impl LeaseMemory {
    pub(crate) fn new(responder: Responder, messages: usize) -> Self {
        Self { responder, messages, state: Mutex::default() }
    }

    /// The memory that was taken, or the refusal; `None` if nothing was leased.
    pub(crate) fn outcome(&self) -> Option<Result<Reserved>> {
        self.state.lock().take()
    }
}

impl ResponseMemory for LeaseMemory {
    fn take(&self) -> Option<usize> {
        let reserved = self.responder.reserve(self.messages);
        let bytes = reserved.as_ref().map(Reserved::bytes).ok();
        *self.state.lock() = Some(reserved);
        bytes
    }

    fn release(&self) {
        self.state.lock().take_if(|reserved| reserved.is_ok());
    }
}

fn json(value: &impl Serialize, about: usize) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(about);
    serde_json::to_writer(&mut text, value).map_err(|_| errors::INTERNAL)?;
    Ok(text)
}

fn response(text: Bytes) -> Response {
    /// The number of headers that a response usually has in the end.
    const HEADERS: usize = 10;
    let mut response = Response::new(Body::from(text));
    // With room for all of them, so that the map does not grow half-way.
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *response.headers_mut() = headers;
    response
}
