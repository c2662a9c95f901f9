use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{Backoff, MaxAttempts, MessageName, Millis, OwnId, Priority, SignalKey, Timestamp, record};

/// A message to be enqueued.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The payload: any JSON, kept byte for byte as it came.
    pub data: Box<RawValue>,
    /// The kind of the message. Defaults to none.
    pub name: Option<MessageName>,
    /// The producer's own id. Defaults to none.
    pub id: Option<OwnId>,
    /// When it may be handed out. Defaults to now.
    pub due: Due,
    /// Defaults to 0.
    pub priority: Priority,
    /// Defaults to the queue's setting.
    pub max_attempts: Option<MaxAttempts>,
    /// Defaults to the queue's setting.
    pub backoff: Option<Backoff>,
    /// How long one run may take: up to 7 days. Defaults to the queue's setting.
    pub timeout: Option<Millis>,
    /// For how long after it was posted it may still be started; then it fails as expired: up to 3,650 days. Defaults to
    /// for ever.
    pub ttl: Option<Millis>,
    /// The key of the signal that it waits for. Defaults to none.
    pub hold: Option<SignalKey>,
    /// What consumers see beside the data. Defaults to none.
    pub headers: Headers,
}

/// When a message may be handed out first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Due {
    /// At once.
    #[default]
    Now,
    /// So long after Redis took it: up to [`Due::LONGEST_DELAY`].
    After(Millis),
    /// At an instant; at once if that is past.
    At(Timestamp),
}

impl Due {
    /// The longest delay: 3,650 days.
    pub const LONGEST_DELAY: Millis = Millis::from_days(3_650);

    /// The instant, for a message that Redis took at `created`.
    pub(crate) fn instant(self, created: Timestamp) -> Timestamp {
        match self {
            Self::Now => created,
            Self::After(delay) => created + delay,
            Self::At(instant) => instant.max(created),
        }
    }

    /// As `enqueue.lua` reads it.
    pub(crate) fn encode(self) -> String {
        match self {
            Self::Now => String::new(),
            Self::After(delay) => format!("+{}", delay.get()),
            Self::At(instant) => instant.as_millis().to_string(),
        }
    }
}

/// A small map of strings that goes with a message: at most 32 entries and 4 KiB.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
pub struct Headers(BTreeMap<String, String>);

impl Headers {
    const MOST: usize = 32;
    const MOST_BYTES: usize = 4_096;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one that is not there yet. Answers whether it is there now: it is not, and nothing is changed, where they would
    /// be too many or too large.
    pub fn add(&mut self, name: &str, value: &str) -> bool {
        let is_new = !self.0.contains_key(name);
        let fits = self.0.len() < Self::MOST && self.bytes() + name.len() + value.len() <= Self::MOST_BYTES;
        if is_new && fits {
            self.0.insert(name.to_owned(), value.to_owned());
        }
        is_new && fits
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len()).sum()
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl TryFrom<BTreeMap<String, String>> for Headers {
    type Error = &'static str;

    fn try_from(map: BTreeMap<String, String>) -> Result<Self, &'static str> {
        let headers = Self(map);
        if headers.0.len() > Self::MOST || headers.bytes() > Self::MOST_BYTES {
            return Err("headers are at most 32 and together at most 4096 bytes");
        }
        Ok(headers)
    }
}

impl NewMessage {
    /// The longest timeout of a run: 7 days.
    pub const LONGEST_TIMEOUT: Millis = Millis::from_days(7);

    /// A message with this payload and everything else by default.
    pub fn new(data: Box<RawValue>) -> Self {
        Self {
            data,
            name: None,
            id: None,
            due: Due::Now,
            priority: Priority::DEFAULT,
            max_attempts: None,
            backoff: None,
            timeout: None,
            ttl: None,
            hold: None,
            headers: Headers::default(),
        }
    }

    pub(crate) fn options(&self) -> record::Options {
        record::Options {
            priority: self.priority,
            max_attempts: self.max_attempts,
            backoff: self.backoff,
            own_id: self.id.clone(),
            timeout: self.timeout,
            ttl: self.ttl,
            expires_at: None,
            hold: self.hold.clone(),
            ready_at: None,
        }
    }
}
