//! The endpoint that lists the messages of a queue page by page.

use axum::response::Response;
use queue_core::{GroupKey, ListFilter, Message, MessageName, Queue, SignalKey, State};
use serde::Deserialize;
use service::{Code, config::Scope};
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::registry::Routes;
use crate::{
    api::{Limit, cursor::Position, limit_or, message::MessagePage},
    auth::endpoint::RequiredScope,
    errors::{self, Result},
    request::{Query, QueuePath, query},
    response::Responder,
};

pub(super) fn register(routes: Routes) -> Routes {
    let refusals = &[Code::QueueNotFound, Code::CursorNotFound];
    routes.tag("messages").add(RequiredScope::OnQueue(Scope::Read), refusals, routes!(list_messages))
}

const DEFAULT_PAGE_SIZE: usize = 50;
/// The maximum number of calls to Redis for one page.
const MAX_CALLS_PER_PAGE: usize = 20;

/// The query of a list of messages.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MessageQuery {
    /// List the messages of this state only.
    #[serde(default, deserialize_with = "query::parse_text")]
    state: Option<State>,
    /// List only messages of this name. A page may have fewer messages than requested, or none, although more messages follow
    /// at its `next_cursor`, because a page reads at most 1,000 messages to find messages of the name.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    name: Option<MessageName>,
    /// List only held messages that wait for a signal with this key. With `hold`, `state` must be `held` or absent.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    hold: Option<SignalKey>,
    /// List only messages of this group. For messages that are not waiting, a page reads at most 1,000 messages, as with
    /// `name`.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    group: Option<GroupKey>,
    /// The maximum number of messages; 50 if absent.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline)]
    limit: Option<Limit>,
    /// The `next_cursor` of the previous page.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(pattern = "^[A-Za-z0-9_-]+$")]
    cursor: Option<String>,
}

/// List messages
///
/// Lists messages of one state or of all states, of one name, of one hold key, or of one group, page by page. A page of large messages ends
/// early: it has at most about 4 MiB.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/messages", responses((status = 200, description = "A page of the list", body = MessagePage)),
    params(MessageQuery),
)]
async fn list_messages(
    QueuePath { queue, .. }: QueuePath,
    Query(query): Query<MessageQuery>,
    responder: Responder,
) -> Result<Response> {
    let state = match (&query.hold, query.state) {
        (Some(_), None | Some(State::Held)) => Some(State::Held),
        (Some(_), Some(_)) => return Err(errors::HOLD_KEY_WITH_ANOTHER_STATE.into()),
        (None, state) => state,
    };
    let position = match &query.cursor {
        Some(text) => Position::decode(text, queue.name(), state)?,
        None => Position::of_first_page(state),
    };
    let limit = limit_or(DEFAULT_PAGE_SIZE, query.limit);
    let memory_for_response = responder.reserve(limit)?;
    let is_first_page = query.cursor.is_none();
    let filter = ListFilter { name: query.name, hold: query.hold, group: query.group };
    let (messages, next) = fill_page(&queue, position, &filter, limit, memory_for_response.reserved_bytes()).await?;
    if messages.is_empty() && is_first_page && queue.status().await.map_err(errors::queue_error)?.is_none() {
        return Err(errors::queue_not_found(queue.name()));
    }
    memory_for_response
        .json_response(&MessagePage { messages, next_cursor: next.map(|position| position.encode(queue.name())) })
}

/// Fills a page up to `limit` messages and `bytes_left` bytes. `fill_page` may need several calls to Redis, because listed
/// messages may be forgotten before they are read, and a list may continue with the next state.
async fn fill_page(
    queue: &Queue,
    mut position: Position,
    filter: &ListFilter,
    limit: usize,
    mut bytes_left: usize,
) -> Result<(Vec<Message>, Option<Position>)> {
    let mut messages: Vec<Message> = Vec::new();
    for _ in 0..MAX_CALLS_PER_PAGE {
        let wanted_count = limit - messages.len();
        let page = queue.list_page(position.state, filter, wanted_count, bytes_left, position.cursor.as_deref()).await;
        let page = page.map_err(errors::queue_error)?;
        if page.bytes > bytes_left && !messages.is_empty() {
            // `list_page` returns at least one message, however large. A message that is too large for the rest of the page
            // is left to the next page.
            break;
        }
        messages.extend(page.messages);
        bytes_left = bytes_left.saturating_sub(page.bytes);
        match position.after_page(page.next) {
            Some(next) if messages.len() < limit && bytes_left > 0 => position = next,
            next => return Ok((messages, next)),
        }
    }
    Ok((messages, Some(position)))
}
