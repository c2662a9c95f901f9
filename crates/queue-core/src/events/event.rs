//! An event of a message: its form in the log, and the JSON that clients receive.

use serde::Serialize;
use serde_json::value::RawValue;
use strum::{EnumString, IntoStaticStr};

use crate::{
    events::id::EventId,
    message::{MessageId, MessageRef, State},
    names::{ConsumerId, GroupKey, MessageName, OwnId},
    time::Timestamp,
};

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// The message was posted or patched: it is waiting, delayed or held.
    Enqueued,
    /// A signal released the message: it is waiting, or delayed.
    Signalled,
    /// The delayed message is waiting now: it was due, or a client promoted it.
    Promoted,
    /// The message was leased.
    Started,
    /// The handler reported progress.
    Progress,
    /// The message was completed.
    Completed,
    /// The message will run again: an attempt failed and other attempts are left, or a client retried the failed message.
    Retried,
    /// The message failed for good: its last attempt failed, it expired, it was cancelled, or its leases lapsed too often.
    Failed,
    /// The message was released without spending an attempt: it is waiting, delayed or held.
    Released,
    /// The lease lapsed: the message is waiting.
    Lapsed,
    /// A client erased the message, or purged the messages of its state. A message that retention forgets has no event.
    Erased,
    /// Some earlier events of the feed were lost, because they were too old, the queue was deleted, or Redis lost its data. An event of
    /// the kind `reset` counts as an event of every message.
    Reset,
}

impl EventKind {
    /// Returns the name of the kind of event, as in the feed of events.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The state of the message after the event; `None` if the message was erased.
    fn state(self, is_held: bool, is_delayed: bool) -> Option<State> {
        match self {
            Self::Enqueued | Self::Released if is_held => Some(State::Held),
            Self::Enqueued | Self::Signalled | Self::Retried | Self::Released if is_delayed => Some(State::Delayed),
            Self::Enqueued | Self::Signalled | Self::Retried | Self::Released | Self::Promoted | Self::Lapsed => {
                Some(State::Waiting)
            }
            Self::Started | Self::Progress => Some(State::Active),
            Self::Completed => Some(State::Completed),
            Self::Failed => Some(State::Failed),
            Self::Erased | Self::Reset => None,
        }
    }
}

/// An event of a message, or a reset of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The event's id. A reset has the id of the newest event, after which the feed continues; `None` if the queue does not
    /// exist.
    pub id: Option<EventId>,
    /// The kind of the event, such as `completed`.
    pub kind: EventKind,
    /// The id of the message; `None` for a reset.
    message: Option<MessageId>,
    own_id: Option<OwnId>,
    json: Box<str>,
}

/// The JSON that clients receive; absent details are omitted.
#[derive(Serialize)]
struct EventJson<'a> {
    id: &'a str,
    at: Timestamp,
    state: Option<State>,
    #[serde(flatten)]
    details: Details<'a>,
}

#[derive(Serialize, Default)]
struct Details<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<MessageName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<GroupKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<ConsumerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Box<RawValue>>,
}

/// Replaces line breaks between the tokens of JSON, because a line break would end a line of the event stream.
fn without_line_breaks(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.replace(['\n', '\r'], " ")).ok()
}

impl Event {
    /// Makes the event `reset`, which tells a listener that events of a queue were lost, and that the queue's event feed continues
    /// after the event `newest`.
    pub(crate) fn new_reset(newest: Option<EventId>) -> Self {
        Self { id: newest, kind: EventKind::Reset, message: None, own_id: None, json: "{}".into() }
    }

    /// Whether the event concerns the message with this id, which is Drover's id or the producer's own id. An event of the kind `reset`
    /// counts as an event of every message.
    pub fn is_about(&self, message: &MessageRef) -> bool {
        match (&self.message, message) {
            (None, _) => true,
            (Some(id_of_event), MessageRef::Id(id)) => id == id_of_event,
            (Some(_), MessageRef::Own(id)) => self.own_id.as_ref() == Some(id),
        }
    }

    /// Returns the event as one line of JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// Decodes an event of the log; `None` for an event of an unknown kind or form, which a newer version may have written.
    pub(crate) fn decode(id: EventId, event_type: &str, text: &str) -> Option<Self> {
        let kind = event_type.parse().ok().filter(|kind| *kind != EventKind::Reset)?;
        let (text, json) = text.split_once('\n').map_or((text, None), |(text, json)| (text, Some(json)));
        let mut fields = text.split('\t');
        let message: MessageId = fields.next()?.parse().ok()?;
        let mut own_id: Option<OwnId> = None;
        let mut details = Details::default();
        for field in fields {
            let letter = field.chars().next()?;
            let field_text = &field[letter.len_utf8()..];
            match letter {
                'i' => own_id = field_text.parse().ok(),
                'n' => details.name = field_text.parse().ok(),
                'g' => details.group = field_text.parse().ok(),
                'a' => details.attempt = field_text.parse().ok(),
                'c' => details.consumer = field_text.parse().ok(),
                'd' => details.due_at = field_text.parse().ok().map(Timestamp::from_millis),
                's' => details.schedule = Some(field_text),
                'k' => details.hold = Some(field_text),
                _ => {}
            }
        }
        match kind {
            EventKind::Progress => details.progress = json.and_then(without_line_breaks),
            _ => details.error = json.and_then(without_line_breaks),
        }
        let state = kind.state(details.hold.is_some(), details.due_at.is_some());
        let public_id = own_id.as_ref().map_or(message.as_str(), OwnId::as_str);
        let json = serde_json::to_string(&EventJson { id: public_id, at: id.entry.at, state, details }).ok()?;
        Some(Self { id: Some(id), kind, message: Some(message), own_id, json: json.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_encoded_as_one_line_of_json() {
        let id: EventId = "120-1795424400000-2".parse().unwrap();
        let event = |event_type, text| Event::decode(id, event_type, text).unwrap();
        let posted_event = event("enqueued", "21718923400017\tiorder-42\tguser-7\tnwelcome\td1795424401500");
        assert_eq!(
            posted_event.json(),
            r#"{"id":"order-42","at":"2026-11-23T09:00:00.000Z","state":"delayed","name":"welcome","group":"user-7","due_at":"2026-11-23T09:00:01.500Z"}"#
        );
        assert!(
            posted_event.is_about(&"order-42".parse().unwrap())
                && posted_event.is_about(&"21718923400017".parse().unwrap())
        );
        assert!(!posted_event.is_about(&"21718923400018".parse().unwrap()));
        let progress_event = event("progress", "21718923400017\ta1\tcc-1\n{\"done\":\n 4}");
        assert!(
            progress_event.json().ends_with(r#""attempt":1,"consumer":"c-1","progress":{"done":  4}}"#),
            "{progress_event:?}"
        );
        let erased_event = event("erased", "21718923400017\tznew");
        assert!(erased_event.json().ends_with(r#""state":null}"#), "{erased_event:?}");
        for unknown in ["paused", "reset"] {
            assert_eq!(Event::decode(id, unknown, "21718923400017"), None);
        }
        assert_eq!(Event::decode(id, "erased", "x"), None);
    }
}
