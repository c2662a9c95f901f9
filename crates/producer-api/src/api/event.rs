//! Events in the format of server-sent events, and the query and the header of requests for event streams.

use axum::{
    extract::FromRequestParts,
    http::{HeaderName, request::Parts},
    response::sse,
};
use queue_core::{MessageRef, feed::EventId};
use serde::Deserialize;
use service::Problem;
use utoipa::{
    IntoParams, ToSchema,
    openapi::path::{Parameter, ParameterIn},
};

use crate::{
    errors::{self, Result},
    request::{header, query},
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The query of an event stream.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventQuery {
    /// The id of a message: the stream has only the events of this message. The stream may be opened before the message is
    /// posted.
    #[serde(default, deserialize_with = "query::parse_text")]
    #[param(inline, value_type = Option<MessageRef>)]
    pub(crate) message: Option<String>,
}

/// The header `Last-Event-ID`: the stream continues after the event with that id.
pub(crate) struct LastEventId(pub(crate) Option<EventId>);

impl IntoParams for LastEventId {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        // The value of `Last-Event-ID` is empty, which counts as no header, or has the three numbers of an event id.
        let pattern = "^(?:[0-9]{1,15}-[0-9]{1,15}-[0-9]{1,15})?$";
        let description = "The last id that the stream sent: the stream continues after that event. An `EventSource` sends this \
                           header by itself";
        header::optional_header("Last-Event-ID", description, pattern)
    }
}

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        if !parts.headers.contains_key(LAST_EVENT_ID) {
            return Ok(Self(None));
        }
        let last_event_id = header::single_value(&parts.headers, &LAST_EVENT_ID).and_then(|value| value.to_str().ok());
        match last_event_id.map(str::trim) {
            Some("") => Ok(Self(None)),
            Some(id) => Ok(Self(Some(id.parse().map_err(|_| errors::INVALID_LAST_EVENT_ID)?))),
            None => Err(errors::INVALID_LAST_EVENT_ID.into()),
        }
    }
}

/// The fields of one event of an event stream.
#[derive(ToSchema)]
pub(crate) struct StreamedEvent<'a> {
    /// The id of the event, for the header Last-Event-ID.
    #[schema(value_type = Option<String>, nullable = false)]
    pub(crate) id: Option<EventId>,
    /// The kind of event, or `reset` if events were missed.
    pub(crate) event: &'a str,
    /// An object with the `id` of the message, the instant `at`, its `state`, and further members that depend on the kind of
    /// event.
    #[schema(
        content_media_type = "application/json",
        examples("{\"id\":\"order-42\",\"at\":\"2026-11-23T09:00:00.123Z\",\"state\":\"waiting\"}")
    )]
    pub(crate) data: &'a str,
}

impl From<StreamedEvent<'_>> for sse::Event {
    fn from(StreamedEvent { id, event, data }: StreamedEvent<'_>) -> Self {
        event_with_id(Self::default(), id).event(event).data(data)
    }
}

/// Returns the server-sent event `event` with the id `id`. If `id` is `None`, the event gets an empty id, which makes the
/// client forget the last id that the client received.
pub(crate) fn event_with_id(event: sse::Event, id: Option<EventId>) -> sse::Event {
    event.id(id.map(|id| id.to_string()).unwrap_or_default())
}
