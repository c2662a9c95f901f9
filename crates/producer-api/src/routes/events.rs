//! The endpoint that streams the events of a queue as server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue},
    response::{
        IntoResponse, Response,
        sse::{self, Sse},
    },
};
use futures_util::{StreamExt, stream};
use queue_core::{
    MessageRef,
    feed::{EventId, EventListener},
};
use service::{Code, Problem, config::Scope};
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use utoipa_axum::routes;

use super::registry::Routes;
use crate::{
    api::event::{EventQuery, LastEventId, StreamedEvent, event_with_id},
    auth::{caller::Caller, endpoint::RequiredScope},
    budget::Share,
    errors::{self, Result},
    request::{Query, QueuePath},
};

pub(super) fn register(routes: Routes) -> Routes {
    let refusals = &[
        Code::QueueNotFound,
        Code::InvalidId,
        Code::InvalidLastEventId,
        Code::TooManyListenersOfKey,
        Code::TooManyListeners,
    ];
    routes.tag("events").add(RequiredScope::OnQueue(Scope::Read), refusals, routes!(listen))
}

/// The interval at which a stream without events sends a keep-alive, so that no proxy closes the stream.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// The time after which a client reconnects when its stream has ended.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// The header that disables the buffering of the stream in nginx and compatible proxies.
const NO_PROXY_BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Listen to events
///
/// Streams the events of the queue or of one message from now on, as server-sent events. With the header `Last-Event-ID`, a
/// client resumes a stream.
#[utoipa::path(
    get, path = "/v1/queues/{queue}/events",
    responses((status = 200, description = "The events of the queue as a stream", body = StreamedEvent, content_type = "text/event-stream")),
    params(EventQuery, LastEventId),
)]
async fn listen(
    QueuePath { app, queue }: QueuePath,
    Query(EventQuery { message }): Query<EventQuery>,
    LastEventId(last): LastEventId,
    caller: Caller,
) -> Result<Response> {
    let parse_id = |id: String| id.parse().map_err(|error| Problem::new(Code::InvalidId, format!("{error}")));
    let message = message.map(parse_id).transpose()?;
    let share = app.event_streams.take(caller.key(), 1).map_err(errors::too_many_listeners)?;
    let listener = app.event_feed.listen(&queue, last).await.map_err(errors::queue_error)?;
    let listener = listener.ok_or_else(|| errors::queue_not_found(queue.name()))?;
    let last_sent = listener.last();
    let first_event = event_with_id(sse::Event::default().retry(RECONNECT_AFTER), last_sent);
    let stream = EventStream { listener, message, last_sent, _share: share };
    let events = stream::unfold(stream, |mut stream| async {
        let events = stream.next().await?;
        Some((stream::iter(events), stream))
    });
    let events = stream::iter([first_event]).chain(events.flatten()).map(Ok::<_, Infallible>);
    Ok(([NO_PROXY_BUFFERING], Sse::new(events)).into_response())
}

/// The event stream of one client. The stream reads more events only after the earlier events were written to the connection.
struct EventStream {
    listener: EventListener,
    message: Option<MessageRef>,
    /// The last event id that was sent to the client. A client that resumes the stream with the header `Last-Event-ID` set to
    /// `last_sent` misses no event.
    last_sent: Option<EventId>,
    _share: Share,
}

impl EventStream {
    /// Returns the next events of the stream, or a keep-alive; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Vec<sse::Event>> {
        let keep_alive_at = Instant::now() + KEEP_ALIVE_INTERVAL;
        loop {
            match timeout_at(keep_alive_at, self.listener.next_events()).await {
                Ok(Ok(received)) => {
                    let message = self.message.as_ref();
                    let wanted_events =
                        received.iter().filter(|event| message.is_none_or(|message| event.is_about(message)));
                    let events = wanted_events.map(|event| {
                        self.last_sent = event.id;
                        StreamedEvent { id: event.id, event: event.kind.as_str(), data: event.json() }.into()
                    });
                    let events: Vec<sse::Event> = events.collect();
                    if !events.is_empty() {
                        return Some(events);
                    }
                }
                Ok(Err(ended)) => {
                    debug!(reason = %ended, "an event stream ends");
                    return None;
                }
                Err(_) => return Some(vec![self.keep_alive()]),
            }
        }
    }

    /// Returns a keep-alive: a comment, or the latest event id if events of other messages were skipped.
    fn keep_alive(&mut self) -> sse::Event {
        if self.last_sent == self.listener.last() {
            return sse::Event::DEFAULT_KEEP_ALIVE;
        }
        self.last_sent = self.listener.last();
        event_with_id(sse::Event::default(), self.last_sent)
    }
}
