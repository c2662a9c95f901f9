//! Answers of JSON. Large ones take memory until their client has read them, so that clients that do not read cost a bounded
//! amount; where an answer may be large, the memory is taken before Redis is asked for it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::{Body, Bytes},
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::Response,
};
use parking_lot::Mutex;
use queue_core::{Queue, ResponseMemory};
use serde::Serialize;
use service::{Peer, Problem};

use crate::{
    App,
    auth::Caller,
    budget::{Budget, Client, Full, Share},
    refusal,
};

/// An answer of at most so many bytes counts for nothing. Of one whose size is not known yet, so much is taken at least.
const UNCOUNTED_BYTES: usize = 64 * 1_024;

/// The memory that the answers to a client are taken from.
#[derive(Clone)]
pub(crate) struct AnswerMemory {
    app: App,
    caller: Caller,
    peer: Option<Arc<Peer>>,
}

impl FromRequestParts<App> for AnswerMemory {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        let Ok(caller) = Caller::from_request_parts(parts, app).await;
        Ok(Self { app: app.clone(), caller, peer: parts.extensions.get().cloned() })
    }
}

impl AnswerMemory {
    /// The client that is answered.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Takes memory for a number of messages, before Redis is asked for them.
    pub(crate) fn reserve(&self, messages: usize) -> Result<Reserved, Problem> {
        // One message comes whole, however large it is.
        let most = if messages == 1 { UNCOUNTED_BYTES } else { Queue::MAX_BYTES };
        let as_answer = self.answers().take_some(self.client(), UNCOUNTED_BYTES, most).map_err(|full| refuse(&full))?;
        let in_all = self.bodies().take(self.client(), as_answer.amount()).map_err(|full| refuse(&full))?;
        Ok(Reserved { as_answer, in_all })
    }

    /// The answer of what was read, of about so many bytes: refused if it is large and there is no memory for it.
    pub(crate) fn read(&self, value: &impl Serialize, about: usize) -> Result<Response, Problem> {
        let text = json(value, about)?;
        if text.len() <= UNCOUNTED_BYTES {
            return Ok(answer(text.into()));
        }
        // What is larger than all that one client may have is answered alone.
        let bytes = text.len().min(self.answers().most_per_client());
        let as_answer = self.answers().take(self.client(), bytes).map_err(|full| refuse(&full))?;
        let in_all = self.bodies().take(self.client(), bytes).map_err(|full| refuse(&full))?;
        Ok(Reserved { as_answer, in_all }.hold(text))
    }

    /// The answer of what was done, of about so many bytes. It is not refused: where there is no memory for it, what comes
    /// after it is.
    pub(crate) fn done(&self, value: &impl Serialize, about: usize) -> Result<Response, Problem> {
        let text = json(value, about)?;
        if text.len() <= UNCOUNTED_BYTES {
            return Ok(answer(text.into()));
        }
        let none = |budget: &Budget| budget.take(self.client(), 0).map_err(|full| refuse(&full));
        Ok(Reserved { as_answer: none(self.answers())?, in_all: none(self.bodies())? }.hold(text))
    }

    fn answers(&self) -> &Budget {
        &self.app.shared.answer_memory
    }

    fn bodies(&self) -> &Budget {
        &self.app.shared.body_memory
    }

    fn client(&self) -> Option<Client> {
        let address = || self.peer.as_ref().map(|peer| Client::Address(peer.network()));
        self.caller.key().or_else(address)
    }
}

/// Memory for one answer. Answers have a part of what they share with bodies, so that bodies find room beside them.
pub(crate) struct Reserved {
    as_answer: Share,
    in_all: Share,
}

impl Reserved {
    /// For how many bytes it is.
    pub(crate) fn bytes(&self) -> usize {
        self.as_answer.amount()
    }

    /// The answer, which holds as much memory as it needs.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<Response, Problem> {
        let text = json(value, 0)?;
        Ok(if text.len() <= UNCOUNTED_BYTES { answer(text.into()) } else { self.hold(text) })
    }

    fn hold(mut self, mut text: Vec<u8>) -> Response {
        text.shrink_to_fit();
        self.as_answer.count(text.capacity());
        self.in_all.count(text.capacity());
        answer(Bytes::from_owner(Held { text, _memory: self }))
    }
}

/// The text of an answer with its memory, which is given back when the last part of it was sent or dropped.
struct Held {
    text: Vec<u8>,
    _memory: Reserved,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// The memory for the answer of a consumer that may have to wait: taken only while messages are leased for it.
pub(crate) struct LeaseRoom {
    memory: AnswerMemory,
    messages: usize,
    state: Mutex<Option<Result<Reserved, Problem>>>,
}

impl LeaseRoom {
    /// For a consumer that asks for so many messages.
    pub(crate) fn new(memory: AnswerMemory, messages: usize) -> Self {
        Self { memory, messages, state: Mutex::default() }
    }

    /// What was taken, or why nothing was; `None` if nothing was leased.
    pub(crate) fn outcome(&self) -> Option<Result<Reserved, Problem>> {
        self.state.lock().take()
    }
}

impl ResponseMemory for LeaseRoom {
    fn take(&self) -> Option<usize> {
        let reserved = self.memory.reserve(self.messages);
        let bytes = reserved.as_ref().map(Reserved::bytes).ok();
        *self.state.lock() = Some(reserved);
        bytes
    }

    fn release(&self) {
        self.state.lock().take_if(|reserved| reserved.is_ok());
    }
}

#[cold]
fn refuse(full: &Full) -> Problem {
    refusal::no_memory_for_answer(full)
}

fn json(value: &impl Serialize, about: usize) -> Result<Vec<u8>, Problem> {
    let mut text = Vec::with_capacity(about);
    serde_json::to_writer(&mut text, value).map_err(|_| refusal::internal())?;
    Ok(text)
}

fn answer(text: Bytes) -> Response {
    /// The headers that an answer usually has in the end.
    const HEADERS: usize = 10;
    let mut answer = Response::new(Body::from(text));
    // For all that will be there, so that they are not put in anew half-way.
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *answer.headers_mut() = headers;
    answer
}
