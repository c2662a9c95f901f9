//! Lists of messages, page by page.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use queue_core::{MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, Message, Queue, State as MessageState};
use serde::Serialize;
use service::{Code, Problem, config::Scope};
use utoipa_axum::routes;

use super::{
    QueuePath, query,
    registry::{Limit, Needs, Routes},
};
use crate::{App, cursor::Place, refusal};

pub(super) fn register(routes: Routes) -> Routes {
    let refusals = &[Code::QueueNotFound, Code::CursorNotFound];
    routes.add(Needs::OnQueue(Scope::Read), Limit::OfRequest, refusals, routes!(list))
}

const DEFAULT_LIMIT: usize = 50;
/// How many calls a page is made of at most.
const MOST_CALLS: usize = 20;

/// What `GET /v1/queues/{queue}/messages` is asked for.
pub(crate) struct Listing {
    state: Option<MessageState>,
    limit: usize,
    cursor: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Listing {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let [state, limit, cursor] = query(&parts.uri, ["state", "limit", "cursor"])?;
        let state = state.map(|word| word.parse()).transpose().map_err(refusal::invalid_query)?;
        let limit = match limit.as_deref().map(|limit| (limit.starts_with('+'), limit.parse())) {
            None => DEFAULT_LIMIT,
            // The parser would take a sign.
            Some((false, Ok(limit @ 1..=MAX_MESSAGES_PER_CALL))) => limit,
            Some(_) => return Err(refusal::invalid_limit(MAX_MESSAGES_PER_CALL)),
        };
        Ok(Self { state, limit, cursor })
    }
}

/// What it answers.
#[derive(Serialize)]
pub(crate) struct Page {
    messages: Vec<Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// List messages
///
/// Of one state, or of all; page by page. A page of large messages ends early, at about 4 MiB.
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}/messages",
    operation_id = "list_messages",
    tag = "messages",
    responses((status = 200, description = "A page", body = ref("MessagePage"), content_type = "application/json")),
    extensions(("x-parameters" = json!(["state", "limit", "cursor"]))),
)]
pub(crate) async fn list(
    State(app): State<App>,
    QueuePath(name): QueuePath,
    Listing { state, limit, cursor }: Listing,
) -> Result<Json<Page>, Problem> {
    let place = match &cursor {
        Some(text) => Place::decode(text, &name, state)?,
        None => Place::first(state),
    };
    let queue = app.shared.queues.queue(&name);
    let (messages, next) = fill(&queue, place, limit).await?;
    if messages.is_empty() && cursor.is_none() && queue.status().await.map_err(refusal::from_queue)?.is_none() {
        return Err(refusal::queue_not_found(&name));
    }
    Ok(Json(Page { messages, next_cursor: next.map(|place| place.encode(&name)) }))
}

/// Lists in as many calls as a page needs: where much is gone that still stands in a list, and from state to state.
async fn fill(queue: &Queue, mut place: Place, limit: usize) -> Result<(Vec<Message>, Option<Place>), Problem> {
    let mut messages: Vec<Message> = Vec::new();
    let mut room = MAX_BYTES_PER_CALL;
    for _ in 0..MOST_CALLS {
        let wanted = limit - messages.len();
        let page = queue.list_up_to(room, place.state, wanted, place.cursor.as_ref()).await;
        let page = page.map_err(refusal::from_queue)?;
        if page.bytes > room && !messages.is_empty() {
            // The one message that every call answers is too large for the rest of this page: the next page begins with it.
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
