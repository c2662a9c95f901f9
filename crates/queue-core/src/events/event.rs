//! An event of a message: how the log has it, and how readers see it.

use serde::Serialize;
use serde_json::value::RawValue;
use strum::{EnumString, IntoStaticStr};

use crate::{
    events::id::EventId,
    message::{ConsumerId, MessageId, MessageName, MessageRef, OwnId, State},
    time::Timestamp,
};

/// The kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum EventKind {
    /// It was posted, or posted anew by a change: it is waiting, delayed or held.
    Enqueued,
    /// The signal came that it was held for: it is waiting, or delayed.
    Signalled,
    /// It was delayed and is waiting: it was due, or a client promoted it.
    Promoted,
    /// It was handed out.
    Started,
    /// Its handler reported.
    Progress,
    /// It is done.
    Completed,
    /// It will run again: an attempt failed and others are left, or a client retried it after it had failed for good.
    Retried,
    /// It failed for good: its attempts were used up, it expired, it was cancelled, or its lease lapsed too often.
    Failed,
    /// Its lease was given up with no attempt spent: it is waiting, or delayed.
    Released,
    /// Its lease lapsed: it is waiting.
    Lapsed,
    /// A client erased it, or purged its queue. A message that goes by its age alone has no event.
    Erased,
    /// This happened to the feed and not to a message: the events before it are no longer known in full. It was too long ago, or
    /// the queue was deleted, or Redis has lost its memory.
    Reset,
}

impl EventKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The state that the message is in from then on; none when it is gone.
    fn state(self, is_held: bool, is_delayed: bool) -> Option<State> {
        match self {
            Self::Enqueued if is_held => Some(State::Held),
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

/// Something that happened to a message, or a reset of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it stands in the log. A reset has the id of the newest event, and everything that happens after that follows; with
    /// `None` there is no such queue now.
    pub id: Option<EventId>,
    /// The kind.
    pub kind: EventKind,
    /// `None` for a reset.
    message: Option<MessageId>,
    own_id: Option<OwnId>,
    json: Box<str>,
}

/// As readers see it; what there is nothing to say of is left out.
#[derive(Serialize)]
struct Shown<'a> {
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
    attempt: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer: Option<ConsumerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Box<RawValue>>,
}

/// JSON as it came. A line feed between its tokens would end a line of the stream that sends it on.
fn on_one_line(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.replace(['\n', '\r'], " ")).ok()
}

impl Event {
    /// The reset of a feed, after which everything is read that happens after `newest`.
    pub(crate) fn reset(newest: Option<EventId>) -> Self {
        Self { id: newest, kind: EventKind::Reset, message: None, own_id: None, json: "{}".into() }
    }

    /// Whether it concerns this message, by Drover's id or the producer's own. A reset concerns every message.
    pub fn is_about(&self, message: &MessageRef) -> bool {
        match (&self.message, message) {
            (None, _) => true,
            (Some(about), MessageRef::Id(id)) => id == about,
            (Some(_), MessageRef::Own(id)) => self.own_id.as_ref() == Some(id),
        }
    }

    /// All its details, as one line of JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// `None` for what a newer version may have written, or is not Drover's.
    pub(crate) fn decode(id: EventId, word: &str, text: &str) -> Option<Self> {
        let kind = word.parse().ok().filter(|kind| *kind != EventKind::Reset)?;
        let (text, json) = text.split_once('\n').map_or((text, None), |(text, json)| (text, Some(json)));
        let mut fields = text.split('\t');
        let message: MessageId = fields.next()?.parse().ok()?;
        let mut own_id: Option<OwnId> = None;
        let mut details = Details::default();
        for field in fields {
            let tag = field.chars().next()?;
            let value = &field[tag.len_utf8()..];
            match tag {
                'i' => own_id = value.parse().ok(),
                'n' => details.name = value.parse().ok(),
                'a' => details.attempt = value.parse().ok(),
                'c' => details.consumer = value.parse().ok(),
                'd' => details.due_at = value.parse().ok().map(Timestamp::from_millis),
                'k' => details.hold = Some(value),
                _ => {}
            }
        }
        match kind {
            EventKind::Progress => details.progress = json.and_then(on_one_line),
            _ => details.error = json.and_then(on_one_line),
        }
        let state = kind.state(details.hold.is_some(), details.due_at.is_some());
        let shown_id = own_id.as_ref().map_or(message.as_str(), OwnId::as_str);
        let json = serde_json::to_string(&Shown { id: shown_id, at: id.place.at, state, details }).ok()?;
        Some(Self { id: Some(id), kind, message: Some(message), own_id, json: json.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_is_encoded_as_one_line_of_json() {
        let id: EventId = "120-1795424400000-2".parse().unwrap();
        let event = |word, text| Event::decode(id, word, text).unwrap();
        let posted = event("enqueued", "21718923400017\tiorder-42\tnwelcome\td1795424401500");
        assert_eq!(
            posted.json(),
            r#"{"id":"order-42","at":"2026-11-23T09:00:00.000Z","state":"delayed","name":"welcome","due_at":"2026-11-23T09:00:01.500Z"}"#
        );
        assert!(posted.is_about(&"order-42".parse().unwrap()) && posted.is_about(&"21718923400017".parse().unwrap()));
        assert!(!posted.is_about(&"21718923400018".parse().unwrap()));
        let reported = event("progress", "21718923400017\ta1\tcc-1\n{\"done\":\n 4}");
        assert!(reported.json().ends_with(r#""attempt":1,"consumer":"c-1","progress":{"done":  4}}"#), "{reported:?}");
        let gone = event("erased", "21718923400017\tznew");
        assert!(gone.json().ends_with(r#""state":null}"#), "{gone:?}");
        for unknown in ["paused", "reset"] {
            assert_eq!(Event::decode(id, unknown, "21718923400017"), None);
        }
        assert_eq!(Event::decode(id, "erased", "x"), None);
    }
}
