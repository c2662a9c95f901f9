//! Lists of messages, page by page.

use axum::{extract::State, response::Response};
use queue_core::{Message, MessageName, MostMessages, Queue, SignalKey, State as MessageState};
use serde::Deserialize;
use service::{Code, Problem, config::Scope};
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::{
    QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    answer::AnswerMemory,
    api::{
        message::MessagePage,
        query::{self, Query},
    },
    cursor::Place,
    refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    let refusals = &[Code::QueueNotFound, Code::CursorNotFound];
    routes.add(Needs::OnQueue(Scope::Read), Limit::OfRequest, refusals, routes!(list))
}

const DEFAULT_LIMIT: usize = 50;
/// How many calls a page is made of at most.
const MOST_CALLS: usize = 20;
const HOLD_OF_ANOTHER_STATE: &str = "only held messages wait for a hold key: leave state away, or ask for state=held";

/// Which messages to list.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Listing {
    /// List the messages of this state only.
    #[serde(default, deserialize_with = "query::text")]
    state: Option<MessageState>,
    /// List only messages of this name. A page looks at no more than 1,000 messages for that: it may have fewer than asked
    /// for, or none, and a `next_cursor`.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline)]
    name: Option<MessageName>,
    /// List only held messages that wait for this key; without `state`, held ones are meant.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline)]
    hold: Option<SignalKey>,
    /// How many at most; 50 if absent.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline)]
    limit: Option<MostMessages>,
    /// The `next_cursor` of the page before.
    #[serde(default, deserialize_with = "query::text")]
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List messages
///
/// Of one state, or of all; of one name, or of one hold key; page by page. A page of large messages ends early, at about 4 MiB.
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}/messages",
    operation_id = "list_messages",
    tag = "messages",
    responses((status = 200, description = "A page", body = MessagePage)),
    params(Listing),
)]
pub(crate) async fn list(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    Query(Listing { state, name: named, hold, limit, cursor }): Query<Listing>,
    memory: AnswerMemory,
) -> Result<Response, Problem> {
    let state = match (&hold, state) {
        (Some(_), None | Some(MessageState::Held)) => Some(MessageState::Held),
        (Some(_), Some(_)) => return Err(refusal::invalid_query(HOLD_OF_ANOTHER_STATE)),
        (None, state) => state,
    };
    let place = match &cursor {
        Some(text) => Place::decode(text, &name, state)?,
        None => Place::first(state),
    };
    let queue = app.shared.queues.queue(&name);
    let limit = limit.map_or(DEFAULT_LIMIT, MostMessages::get);
    let reserved = memory.reserve(limit)?;
    let sought = Sought { name: named.as_ref(), hold: hold.as_ref(), limit, bytes: reserved.bytes() };
    let (messages, next) = fill(&queue, place, sought).await?;
    if messages.is_empty() && cursor.is_none() && queue.status().await.map_err(refusal::from_queue)?.is_none() {
        return Err(refusal::queue_not_found(&name));
    }
    reserved.json(&MessagePage { messages, next_cursor: next.map(|place| place.encode(&name)) })
}

/// The messages that a page is filled with, at most so many of them and so many bytes.
#[derive(Clone, Copy)]
struct Sought<'a> {
    name: Option<&'a MessageName>,
    hold: Option<&'a SignalKey>,
    limit: usize,
    bytes: usize,
}

/// Lists in as many calls as a page needs: where much is gone that still stands in a list, and from state to state.
async fn fill(
    queue: &Queue,
    mut place: Place,
    Sought { name, hold, limit, bytes }: Sought<'_>,
) -> Result<(Vec<Message>, Option<Place>), Problem> {
    let mut messages: Vec<Message> = Vec::new();
    let mut room = bytes;
    for _ in 0..MOST_CALLS {
        let wanted = limit - messages.len();
        let page = queue.list_some(place.state, name, hold, wanted, room, place.cursor.as_deref()).await;
        let page = page.map_err(refusal::from_queue)?;
        if page.bytes > room && !messages.is_empty() {
            // The one message that every call looks at is too large for the rest of this page: the next page begins with it.
            break;
        }
        messages.extend(page.messages);
        room = room.saturating_sub(page.bytes);
        match place.after(page.next) {
            Some(next) if messages.len() < limit && room > 0 => place = next,
            next => return Ok((messages, next)),
        }
    }
    Ok((messages, Some(place)))
}
