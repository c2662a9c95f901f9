//! A message to post: its payload, and its options, each of which has a default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::{
    json,
    names::{GroupKey, MessageName, OwnId, SignalKey},
    range::{DurationIn, NumberIn},
    settings::{RunTime, backoff::Backoff},
    time::{Millis, Timestamp},
};

/// A message to be posted.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(
    json!({"data": {"hello": 1}, "delay": "1500ms"}),
    json!({"data": 2, "id": "order-42", "priority": -1})
))]
pub struct NewMessage {
    /// The payload: any JSON, stored unchanged.
    #[schema(value_type = Value)]
    pub data: Box<RawValue>,
    /// The name, which states the kind of message, and by which workers choose the handler; defaults to none.
    #[schema(inline)]
    pub name: Option<MessageName>,
    /// The key of the message's group: the messages of a group are leased in order, and groups have turns; defaults to none.
    #[schema(inline)]
    pub group: Option<GroupKey>,
    /// The producer's own id, not all digits: a second message with the same id is not stored; defaults to none.
    #[schema(inline)]
    pub id: Option<OwnId>,
    /// The delay until the message may be leased; excludes `deliver_at`; defaults to no delay.
    #[schema(inline)]
    pub delay: Option<Delay>,
    /// The instant (RFC 3339, before the year 2200) at which the message may be leased; excludes `delay`; defaults to now.
    #[schema(inline, value_type = Option<DeliverAtSchema>)]
    pub deliver_at: Option<Timestamp>,
    /// The priority: a message with a lower number, which may be negative, is leased first; defaults to 0.
    #[serde(default, deserialize_with = "json::or_default")]
    #[schema(inline, value_type = Option<Priority>)]
    pub priority: Priority,
    /// The maximum number of attempts; defaults to the queue's setting.
    #[schema(inline)]
    pub max_attempts: Option<MaxAttempts>,
    /// The pause before another attempt; defaults to the queue's setting.
    #[schema(schema_with = json::nullable_members::<Backoff>)]
    pub backoff: Option<Backoff>,
    /// How long one run may take: up to 7 days; defaults to the queue's setting.
    #[schema(inline)]
    pub timeout: Option<RunTime>,
    /// The time after its post within which the message must start, up to 3,650 days, or it fails as expired; defaults to no
    /// limit.
    #[schema(inline)]
    pub ttl: Option<TimeToLive>,
    /// The key of the signal that the message waits for; defaults to none.
    #[schema(inline)]
    pub hold: Option<SignalKey>,
    /// Headers that consumers see beside the data: together at most 4096 bytes; defaults to none.
    #[serde(default, deserialize_with = "json::or_default")]
    #[schema(inline, value_type = Option<Headers>)]
    pub headers: Headers,
}

/// The schema of an instant that a producer sends.
struct DeliverAtSchema;

impl PartialSchema for DeliverAtSchema {
    fn schema() -> RefOr<Schema> {
        /// A regular expression that matches instants of RFC 3339 before the year 2200.
        const PATTERN: &str = r"^(?:(?:[01][0-9]|2[01])[0-9]{2}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[01][0-9]|2[01])(?:0[48]|[2468][048]|[13579][26])-02-29)T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$";
        let text_schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(PATTERN));
        text_schema.examples(["2030-01-31T09:30:00Z"]).into()
    }
}

impl ToSchema for DeliverAtSchema {}

/// The priority of a message: a message with a lower number goes before a message with a higher number. A message that is posted
/// without a priority has the priority 0.
pub(crate) type Priority = NumberIn<-2_097_152, 2_097_152>;
/// The maximum number of attempts of a message.
pub(crate) type MaxAttempts = NumberIn<1, 1_000>;
/// The delay of a message.
pub(crate) type Delay = DurationIn<0, { NewMessage::LONGEST_DELAY.get() }>;
/// The ttl of a message: the time after its post within which it must start.
type TimeToLive = DurationIn<1, { NewMessage::LONGEST_DELAY.get() }>;

/// The time at which a message may be leased first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Due {
    /// The message may be leased at once.
    #[default]
    Now,
    /// The message may be leased this long after Redis stored it.
    After(Millis),
    /// The message may be leased at this instant, or at once if the instant is past.
    At(Timestamp),
}

impl Due {
    /// Returns the due time of a message that Redis stored at `created`.
    pub(crate) fn instant(self, created: Timestamp) -> Timestamp {
        match self {
            Self::Now => created,
            Self::After(delay) => created + delay,
            Self::At(instant) => instant.max(created),
        }
    }

    /// Encodes the due time as the text that `enqueue.lua` reads.
    pub(crate) fn encode(self) -> String {
        match self {
            Self::Now => String::new(),
            Self::After(delay) => format!("+{}", delay.get()),
            Self::At(instant) => instant.as_millis().to_string(),
        }
    }
}

/// The headers of a message: a map of strings with at most 32 entries and 4 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    const MAX_HEADERS: usize = 32;
    const MAX_BYTES: usize = 4_096;

    /// Whether there are no headers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a header. Returns `false`, and changes nothing, if there is a header of this name, or if the headers would be too
    /// many or too large.
    pub fn add(&mut self, name: &str, value: &str) -> bool {
        let is_new_header = !self.0.contains_key(name);
        let fits_limits =
            self.0.len() < Self::MAX_HEADERS && self.bytes() + name.len() + value.len() <= Self::MAX_BYTES;
        if is_new_header && fits_limits {
            self.0.insert(name.to_owned(), value.to_owned());
        }
        is_new_header && fits_limits
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// Returns the headers with changes: a text adds or replaces a header, and `None` removes one.
    pub(crate) fn with_changes(&self, changes: &BTreeMap<String, Option<String>>) -> Result<Self, &'static str> {
        let Self(mut headers) = self.clone();
        for (name, value) in changes {
            match value {
                Some(value) => headers.insert(name.clone(), value.clone()),
                None => headers.remove(name),
            };
        }
        headers.try_into()
    }

    /// Returns the value of one header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl TryFrom<BTreeMap<String, String>> for Headers {
    type Error = &'static str;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, &'static str> {
        let headers = Self(map);
        if headers.0.len() > Self::MAX_HEADERS || headers.bytes() > Self::MAX_BYTES {
            return Err("headers are at most 32 and together at most 4096 bytes");
        }
        Ok(headers)
    }
}

impl PartialSchema for Headers {
    fn schema() -> RefOr<Schema> {
        let value = ObjectBuilder::new().schema_type(Type::String);
        let headers = ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(value));
        headers.max_properties(Some(Self::MAX_HEADERS)).into()
    }
}

impl ToSchema for Headers {}

/// Serializes the data of a message, and those options that differ from their defaults.
impl Serialize for NewMessage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            data,
            name,
            id,
            delay,
            deliver_at,
            priority,
            max_attempts,
            backoff,
            timeout,
            ttl,
            hold,
            group,
            headers,
        } = self;
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("data", data)?;
        let priority = Some(priority).filter(|priority| **priority != Priority::default());
        let headers = Some(headers).filter(|headers| !headers.is_empty());
        serialize_member(&mut members, "name", name.as_ref())?;
        serialize_member(&mut members, "id", id.as_ref())?;
        serialize_member(&mut members, "delay", delay.as_ref())?;
        serialize_member(&mut members, "deliver_at", deliver_at.as_ref())?;
        serialize_member(&mut members, "priority", priority)?;
        serialize_member(&mut members, "max_attempts", max_attempts.as_ref())?;
        serialize_member(&mut members, "backoff", backoff.as_ref())?;
        serialize_member(&mut members, "timeout", timeout.as_ref())?;
        serialize_member(&mut members, "ttl", ttl.as_ref())?;
        serialize_member(&mut members, "hold", hold.as_ref())?;
        serialize_member(&mut members, "group", group.as_ref())?;
        serialize_member(&mut members, "headers", headers)?;
        members.end()
    }
}

fn serialize_member<M: SerializeMap>(
    members: &mut M,
    name: &str,
    value: Option<&impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| members.serialize_entry(name, value))
}

impl NewMessage {
    /// The maximum delay of a message.
    pub const LONGEST_DELAY: Millis = Millis::from_days(3_650);

    /// Makes a message with this payload, and with the default of every option.
    pub fn new(data: Box<RawValue>) -> Self {
        Self {
            data,
            name: None,
            group: None,
            id: None,
            delay: None,
            deliver_at: None,
            priority: Priority::default(),
            max_attempts: None,
            backoff: None,
            timeout: None,
            ttl: None,
            hold: None,
            headers: Headers::default(),
        }
    }

    /// Returns a field that contradicts another field, and an instruction to correct it.
    pub fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let has_two_times = self.delay.is_some() && self.deliver_at.is_some();
        has_two_times.then_some(("deliver_at", "give either delay or deliver_at, not both"))
    }

    /// Returns the time at which the message may be leased first. If the message has a delay and an instant, the delay
    /// counts.
    pub(crate) fn due(&self) -> Due {
        match (self.delay, self.deliver_at) {
            (Some(delay), _) if !delay.is_zero() => Due::After(*delay),
            (None, Some(instant)) => Due::At(instant),
            _ => Due::Now,
        }
    }
}
