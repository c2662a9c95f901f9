use std::{fmt, str::FromStr, sync::Arc};

use deadpool_redis::redis::Value;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{ConsumerId, InvalidName, MessageId, MessageName, MessageRef, OwnId, Result, State, Timestamp, reply};

/// Where an event stands in the log of its queue; the later event has the larger one. No place is used twice, not even by
/// a Redis that came back older or empty, so a place that is found is the one that was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    place: Place,
    /// Which event of the entry, from 1; or 0 before the first.
    nth: usize,
}

/// Where an entry stands: how many bytes the log ever had before it, and when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) bytes: u64,
    at: Timestamp,
}

impl EventId {
    /// Where the entry stands that the event is in.
    pub(crate) fn place(self) -> Place {
        self.place
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.bytes, self.at.as_millis())
    }
}

impl FromStr for Place {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (bytes, at) = text.split_once('-').ok_or(NOT_AN_EVENT)?;
        Ok(Self { bytes: number(bytes)?, at: Timestamp::from_millis(number(at)?) })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.place, self.nth)
    }
}

impl FromStr for EventId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let (place, nth) = text.rsplit_once('-').ok_or(NOT_AN_EVENT)?;
        Ok(Self { place: place.parse()?, nth: usize::try_from(number(nth)?).map_err(|_| NOT_AN_EVENT)? })
    }
}

const NOT_AN_EVENT: InvalidName = InvalidName("an event's id is three numbers with hyphens between them");

/// Digits alone, and few enough to be of a double, as Redis's scripts count.
fn number(digits: &str) -> Result<u64, InvalidName> {
    if digits.is_empty() || digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_AN_EVENT);
    }
    digits.parse().map_err(|_| NOT_AN_EVENT)
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was posted: it is waiting, delayed or held.
    Enqueued,
    /// The signal came that it was held for: it is waiting, or delayed.
    Signalled,
    /// It was delayed and is waiting: it was due, or somebody promoted it.
    Promoted,
    /// It was handed out.
    Started,
    /// Its handler reported.
    Progress,
    /// It is done.
    Completed,
    /// It will run again: an attempt failed and others are left, or somebody retried it after it had failed for good.
    Retried,
    /// It failed for good: its attempts were used up, it expired, it was cancelled, or its lease lapsed too often.
    Failed,
    /// Its lease was given up with no attempt spent: it is waiting, or delayed.
    Released,
    /// Its lease lapsed: it is waiting.
    Lapsed,
    /// Somebody erased it, or purged its queue. What goes by its age alone says nothing.
    Erased,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Enqueued,
        Self::Signalled,
        Self::Promoted,
        Self::Started,
        Self::Progress,
        Self::Completed,
        Self::Retried,
        Self::Failed,
        Self::Released,
        Self::Lapsed,
        Self::Erased,
    ];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Signalled => "signalled",
            Self::Promoted => "promoted",
            Self::Started => "started",
            Self::Progress => "progress",
            Self::Completed => "completed",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Lapsed => "lapsed",
            Self::Erased => "erased",
        }
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
            Self::Erased => None,
        }
    }
}

/// Something that happened to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it stands in the log.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    message: MessageId,
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

/// JSON as it came. A line feed between its tokens would end a line of whoever sends it on.
fn on_one_line(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.replace(['\n', '\r'], " ")).ok()
}

impl Event {
    /// Whether it happened to this message, by Drover's id or the producer's own.
    pub fn is_about(&self, message: &MessageRef) -> bool {
        match message {
            MessageRef::Id(id) => *id == self.message,
            MessageRef::Own(id) => self.own_id.as_ref() == Some(id),
        }
    }

    /// All that is said of it, as one line of JSON.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// `None` for what a newer version may have written, or is not Drover's.
    fn decode(id: EventId, word: &str, text: &str) -> Option<Self> {
        let kind = EventKind::ALL.into_iter().find(|kind| kind.as_str() == word)?;
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
        Some(Self { id, kind, message, own_id, json: json.into() })
    }
}

/// What a log has after a place.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    /// In the order in which it happened.
    pub(crate) events: Vec<Event>,
    /// The place of the last of them, or that of an entry that says nothing.
    pub(crate) end: EventId,
}

impl Stretch {
    /// Of a log that nothing is known of but its newest event.
    pub(crate) fn empty(newest: EventId) -> Self {
        Self { events: Vec::new(), end: newest }
    }

    /// From entries of the log, the first of which must be the one that `after` is in; `None` if it is not.
    pub(crate) fn decode(after: EventId, entries: Vec<Value>) -> Result<Option<Self>> {
        let mut stretch = Self::empty(after);
        for (nth, entry) in entries.into_iter().enumerate() {
            let mut entry = reply::array(Some(entry))?.into_iter();
            let place: Place = reply::text(entry.next())?.parse().map_err(crate::Error::unexpected)?;
            if nth == 0 && place != after.place {
                return Ok(None);
            }
            let mut texts = reply::array(entry.next())?.into_iter();
            let mut id = EventId { place, nth: 0 };
            stretch.end = id.max(after);
            while let Some(word) = texts.next() {
                let (word, text) = (reply::text(Some(word))?, reply::text(texts.next())?);
                if word == MARK {
                    continue;
                }
                id.nth += 1;
                if id > after {
                    stretch.events.extend(Event::decode(id, &word, &text));
                    stretch.end = id;
                }
            }
            if nth == 0 && id < after {
                return Ok(None);
            }
        }
        Ok(Some(stretch))
    }
}

/// What a tailer tells those who listen.
#[derive(Debug, Clone)]
pub(crate) enum News {
    /// This, after that event.
    Happened {
        /// The event before it.
        after: EventId,
        /// What happened.
        stretch: Arc<Stretch>,
    },
    /// The log does not go on from where it was: after this event it does.
    Reset(EventId),
    /// There is no such queue any more.
    Lost,
}

/// What stands in the log where it begins; it is no event.
const MARK: &str = "listening";

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> EventId {
        "120-1795424400000-2".parse().unwrap()
    }

    #[test]
    fn an_events_id_reads_back_and_nonsense_is_none() {
        assert_eq!(id().to_string(), "120-1795424400000-2");
        assert!(id() > "120-1795424400000-1".parse().unwrap() && id() < "121-1795424400000-0".parse().unwrap());
        let long = format!("1-2-{}", "3".repeat(40));
        for bad in ["", "1", "1-2", "1-2-3-4", "a-2-3", "+1-2-3", "-1-2-3", "1--2-3", " 1-2-3", "1-2-٣", &long] {
            assert!(bad.parse::<EventId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_event_says_what_there_is_to_say_on_one_line() {
        let event = |word, text| Event::decode(id(), word, text).unwrap();
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
        assert_eq!(Event::decode(id(), "paused", "21718923400017"), None);
        assert_eq!(Event::decode(id(), "erased", "x"), None);
    }
}
