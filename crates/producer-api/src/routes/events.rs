//! Events of a queue, as a stream of server-sent events.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    http::{HeaderName, HeaderValue, request::Parts},
    response::{
        IntoResponse, Response,
        sse::{self, Sse},
    },
};
use futures_util::{StreamExt, stream};
use queue_core::{EventId, EventListener, MessageRef};
use serde::Deserialize;
use service::{Code, Problem, config::Scope};
use tokio::time::{Instant, timeout_at};
use tracing::debug;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        ObjectBuilder, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};
use utoipa_axum::routes;

use super::{
    QueuePath,
    registry::{Limit, Needs, Routes},
};
use crate::{
    App,
    api::query::{self, Query},
    auth::Caller,
    budget::Share,
    refusal,
};

pub(super) fn register(routes: Routes) -> Routes {
    let refusals = &[
        Code::QueueNotFound,
        Code::InvalidId,
        Code::InvalidLastEventId,
        Code::TooManyListenersOfKey,
        Code::TooManyListeners,
    ];
    routes.add(Needs::OnQueue(Scope::Read), Limit::OfRequest, refusals, routes!(listen))
}

/// A stream that is silent for so long says that it is still there, so that nothing on the way closes it.
const SIGN_OF_LIFE_EVERY: Duration = Duration::from_secs(15);
/// How soon a client comes back after its stream has ended.
const COME_BACK_AFTER: Duration = Duration::from_secs(1);

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Tells nginx, and those that do as it does, to hand on what comes at once.
const UNBUFFERED: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));

/// Whose events.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Of {
    /// What happens to this message only; it need not be posted yet.
    #[serde(default, deserialize_with = "query::text")]
    #[param(inline, value_type = Option<MessageRef>)]
    message: Option<String>,
}

/// The header `Last-Event-ID`: what happened after that.
pub(crate) struct After(Option<EventId>);

impl IntoParams for After {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        // Empty, as an `EventSource` has it before the first event, or three numbers.
        let pattern = "^(?:[0-9]{1,15}-[0-9]{1,15}-[0-9]{1,15})?$";
        let description =
            "The last id that the stream gave: it goes on after that. An `EventSource` sends it by itself";
        vec![
            ParameterBuilder::new()
                .name("Last-Event-ID")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern))))
                .build(),
        ]
    }
}

impl<S: Sync> FromRequestParts<S> for After {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut values = parts.headers.get_all(LAST_EVENT_ID).iter();
        let last = match (values.next(), values.next()) {
            (None, _) => return Ok(Self(None)),
            (Some(value), None) => value.to_str().ok().map(str::trim),
            (Some(_), Some(_)) => None,
        };
        match last {
            // What an EventSource knows before the first event.
            Some("") => Ok(Self(None)),
            Some(id) => id.parse().map(|id| Self(Some(id))).map_err(|_| refusal::invalid_last_event_id()),
            None => Err(refusal::invalid_last_event_id()),
        }
    }
}

/// Listen to events
///
/// What happens in the queue from now on, or to one message, as server-sent events; resumable with `Last-Event-ID`.
#[utoipa::path(
    get,
    path = "/v1/queues/{queue}/events",
    operation_id = "listen",
    tag = "events",
    responses((status = 200, description = "The stream, as long as it lasts", body = StreamedEvent, content_type = "text/event-stream")),
    params(Of, After),
)]
pub(crate) async fn listen(
    State(app): State<App>,
    QueuePath(queue): QueuePath,
    Query(Of { message }): Query<Of>,
    After(last): After,
    caller: Result<Caller, Infallible>,
) -> Result<Response, Problem> {
    let Ok(caller) = caller;
    let message = message.map(|id| id.parse()).transpose().map_err(refusal::invalid_id)?;
    let place = app.shared.listening.take(caller.key(), 1).map_err(|full| refusal::too_many_listeners(&full))?;
    let queue = app.shared.queues.queue(&queue);
    let listener = app.shared.listeners.listen(&queue, last).await.map_err(refusal::from_queue)?;
    let listener = listener.ok_or_else(|| refusal::queue_not_found(queue.name()))?;
    let told = listener.last();
    let beginning = with_id(sse::Event::default().retry(COME_BACK_AFTER), told);
    let hearing = Hearing { listener, message, told, _place: place };
    let heard = stream::unfold(hearing, |mut hearing| async {
        let events = hearing.next().await?;
        Some((stream::iter(events), hearing))
    });
    let events = stream::iter([beginning]).chain(heard.flatten()).map(Ok::<_, Infallible>);
    Ok(([UNBUFFERED], Sse::new(events)).into_response())
}

/// One event of the stream, by its fields.
#[derive(ToSchema)]
struct StreamedEvent<'a> {
    /// Come back with it in Last-Event-ID.
    #[schema(value_type = Option<String>, nullable = false)]
    id: Option<EventId>,
    /// What happened, or `reset`: events were missed.
    event: &'a str,
    /// An object with the id of the message, at, its state, and what else there is to say.
    #[schema(
        content_media_type = "application/json",
        examples("{\"id\":\"order-42\",\"at\":\"2026-11-23T09:00:00.123Z\",\"state\":\"waiting\"}")
    )]
    data: &'a str,
}

impl From<StreamedEvent<'_>> for sse::Event {
    fn from(StreamedEvent { id, event, data }: StreamedEvent<'_>) -> Self {
        with_id(Self::default(), id).event(event).data(data)
    }
}

/// With an empty id the client forgets what it knew.
fn with_id(event: sse::Event, id: Option<EventId>) -> sse::Event {
    event.id(id.map(|id| id.to_string()).unwrap_or_default())
}

/// A client that listens. It is asked for more when all before that was taken.
struct Hearing {
    listener: EventListener,
    message: Option<MessageRef>,
    /// The id that the client knows: with it, it misses nothing when it comes back.
    told: Option<EventId>,
    _place: Share,
}

impl Hearing {
    /// What is sent next: a portion of events, or a sign of life; `None` at the end.
    async fn next(&mut self) -> Option<Vec<sse::Event>> {
        let silent_until = Instant::now() + SIGN_OF_LIFE_EVERY;
        loop {
            match timeout_at(silent_until, self.listener.hear()).await {
                Ok(Ok(heard)) => {
                    let message = self.message.as_ref();
                    let meant = heard.iter().filter(|event| message.is_none_or(|message| event.is_about(message)));
                    let streamed: Vec<sse::Event> = meant
                        .map(|event| {
                            self.told = event.id;
                            StreamedEvent { id: event.id, event: event.kind.as_str(), data: event.json() }.into()
                        })
                        .collect();
                    if !streamed.is_empty() {
                        return Some(streamed);
                    }
                }
                Ok(Err(ended)) => {
                    debug!(reason = %ended, "a stream of events ends");
                    return None;
                }
                Err(_) => return Some(vec![self.sign_of_life()]),
            }
        }
    }

    /// How far a client is that hears of one message only, or a comment if it knows that.
    fn sign_of_life(&mut self) -> sse::Event {
        if self.told == self.listener.last() {
            return sse::Event::DEFAULT_KEEP_ALIVE;
        }
        self.told = self.listener.last();
        with_id(sse::Event::default(), self.told)
    }
}
