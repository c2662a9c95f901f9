//! The stored form of a message in Redis: the record, the options, the run, the outcome.
//!
//! All four are text that a person can read in `redis-cli`. The record is a first line and, after a line feed, the unchanged
//! payload. The first line is the instant of creation and *fields*; the options are fields too. A field is a tab, a letter and
//! the value. `lua/lib/fields.lua` reads the same format.

use std::fmt::Write;

use serde_json::value::RawValue;

use crate::{
    message::{
        failure::MessageError,
        id::MessageId,
        new::{Headers, MaxAttempts, NewMessage, Priority},
    },
    names::{ConsumerId, MessageName, OwnId, SignalKey},
    settings::backoff::Backoff,
    time::{Millis, Timestamp},
};

/// The error of a stored text that this library did not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

/// The tags of fields: one letter each.
mod tag {
    pub(super) const DUE: char = 'd';
    pub(super) const NAME: char = 'n';
    pub(super) const HEADERS: char = 'h';
    pub(super) const PRIORITY: char = 'p';
    pub(super) const MAX_ATTEMPTS: char = 'a';
    pub(super) const BACKOFF: char = 'b';
    pub(super) const OWN_ID: char = 'i';
    pub(super) const TIMEOUT: char = 't';
    /// The ttl in a request; `enqueue.lua` replaces it with `EXPIRES`, an instant.
    pub(super) const TTL: char = 'l';
    pub(super) const EXPIRES: char = 'e';
    pub(super) const HOLD: char = 'k';
    pub(super) const READY: char = 'r';
}

/// Adds a field if there is a value.
fn push(text: &mut String, tag: char, value: Option<impl std::fmt::Display>) {
    if let Some(value) = value {
        write!(text, "\t{tag}{value}").expect("writing to a string does not fail");
    }
}

fn fields(text: &str) -> impl Iterator<Item = (char, &str)> {
    text.split('\t').filter_map(|field| {
        let tag = field.chars().next()?;
        Some((tag, &field[tag.len_utf8()..]))
    })
}

/// The payload, name, headers, creation and first due time of a message.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) created_at: Timestamp,
    pub(crate) due_at: Timestamp,
    pub(crate) name: Option<MessageName>,
    pub(crate) headers: Headers,
    pub(crate) data: Box<RawValue>,
}

impl Record {
    /// The record without the instants, which the script adds by Redis's clock.
    pub(crate) fn encode(message: &NewMessage) -> String {
        let data = message.data.get();
        let mut text = String::with_capacity(data.len() + 1);
        push(&mut text, tag::NAME, message.name.as_ref());
        let headers = Some(&message.headers).filter(|headers| !headers.is_empty());
        let json = |headers| serde_json::to_string(headers).expect("a map of strings has a JSON form");
        push(&mut text, tag::HEADERS, headers.map(json));
        text.push('\n');
        text.push_str(data);
        text
    }

    /// The record that is shown for a message whose record can't be read.
    pub(crate) fn unreadable(id: &MessageId) -> Self {
        let created_at = id.posted_at();
        Self {
            created_at,
            due_at: created_at,
            name: None,
            headers: Headers::default(),
            data: RawValue::NULL.to_owned(),
        }
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, Malformed> {
        const MALFORMED: Malformed = Malformed("record");
        let record = std::str::from_utf8(record).map_err(|_| MALFORMED)?;
        let (first_line, data) = record.split_once('\n').ok_or(MALFORMED)?;
        let (created, rest) = first_line.split_at(first_line.find('\t').unwrap_or(first_line.len()));
        let created_at = Timestamp::from_millis(created.parse().map_err(|_| MALFORMED)?);
        let mut record = Self {
            created_at,
            due_at: created_at,
            name: None,
            headers: Headers::default(),
            data: RawValue::from_string(data.to_owned()).map_err(|_| MALFORMED)?,
        };
        for (tag, value) in fields(rest) {
            match tag {
                tag::DUE => record.due_at = Timestamp::from_millis(value.parse().map_err(|_| MALFORMED)?),
                tag::NAME => record.name = Some(value.parse().map_err(|_| MALFORMED)?),
                tag::HEADERS => record.headers = serde_json::from_str(value).map_err(|_| MALFORMED)?,
                _ => {}
            }
        }
        Ok(record)
    }
}

/// The options of a message: each value that differs from the default.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) priority: Priority,
    pub(crate) max_attempts: Option<MaxAttempts>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) own_id: Option<OwnId>,
    pub(crate) timeout: Option<Millis>,
    pub(crate) ttl: Option<Millis>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) hold: Option<SignalKey>,
    /// When the message became ready by a promotion or a signal.
    pub(crate) ready_at: Option<Timestamp>,
}

impl Options {
    /// The options of a message to post.
    pub(crate) fn of(message: &NewMessage) -> Self {
        Self {
            priority: message.priority,
            max_attempts: message.max_attempts,
            backoff: message.backoff,
            own_id: message.id.clone(),
            timeout: message.timeout.as_deref().copied(),
            ttl: message.ttl.as_deref().copied(),
            hold: message.hold.clone(),
            ..Self::default()
        }
    }

    /// The stored text; empty if no option differs from the default.
    pub(crate) fn encode(&self) -> String {
        let mut text = String::new();
        let json = |backoff| serde_json::to_string(backoff).expect("a back-off has a JSON form");
        push(&mut text, tag::PRIORITY, Some(self.priority).filter(|priority| *priority != Priority::default()));
        push(&mut text, tag::MAX_ATTEMPTS, self.max_attempts);
        push(&mut text, tag::BACKOFF, self.backoff.as_ref().map(json));
        push(&mut text, tag::OWN_ID, self.own_id.as_ref());
        push(&mut text, tag::TIMEOUT, self.timeout.map(Millis::get));
        push(&mut text, tag::TTL, self.ttl.map(Millis::get));
        push(&mut text, tag::HOLD, self.hold.as_ref());
        text
    }

    pub(crate) fn decode(text: &str) -> Result<Self, Malformed> {
        const MALFORMED: Malformed = Malformed("options");
        let mut options = Self::default();
        for (tag, value) in fields(text) {
            match tag {
                tag::PRIORITY => options.priority = value.parse().map_err(|_| MALFORMED)?,
                tag::MAX_ATTEMPTS => options.max_attempts = Some(value.parse().map_err(|_| MALFORMED)?),
                tag::BACKOFF => options.backoff = Some(serde_json::from_str(value).map_err(|_| MALFORMED)?),
                tag::OWN_ID => options.own_id = Some(value.parse().map_err(|_| MALFORMED)?),
                tag::TIMEOUT => options.timeout = Some(value.parse().map_err(|_| MALFORMED)?),
                tag::EXPIRES => {
                    options.expires_at = Some(Timestamp::from_millis(value.parse().map_err(|_| MALFORMED)?));
                }
                tag::HOLD => options.hold = Some(value.parse().map_err(|_| MALFORMED)?),
                tag::READY => options.ready_at = Some(Timestamp::from_millis(value.parse().map_err(|_| MALFORMED)?)),
                _ => {}
            }
        }
        Ok(options)
    }
}

/// The stored facts about the deliveries of a message; `lua/lib/run.lua` describes the format.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) attempts: u32,
    pub(crate) lapses: u32,
    pub(crate) deliveries: u32,
    pub(crate) consumer: Option<ConsumerId>,
    /// The time since which a requeued message is ready again.
    pub(crate) ready_at: Option<Timestamp>,
    pub(crate) error: Option<MessageError>,
}

impl Run {
    pub(crate) fn decode(text: &str) -> Result<Self, Malformed> {
        const MALFORMED: Malformed = Malformed("run");
        let mut parts = text.splitn(9, '\t');
        let mut part = || parts.next().ok_or(MALFORMED);
        let _token = part()?;
        let started = part()?;
        let mut count = || part()?.parse::<u32>().map_err(|_| MALFORMED);
        let (attempts, lapses, deliveries) = (count()?, count()?, count()?);
        let consumer = part()?;
        let _settled = part()?;
        let terms = part()?;
        let error = part()?;
        Ok(Self {
            started_at: started.parse().ok().map(Timestamp::from_millis),
            attempts,
            lapses,
            deliveries,
            consumer: consumer.parse().ok(),
            ready_at: parameter(terms, 'r').map(Timestamp::from_millis),
            error: if error.is_empty() { None } else { Some(Self::decode_error(error).ok_or(MALFORMED)?) },
        })
    }

    fn decode_error(text: &str) -> Option<MessageError> {
        let mut parts = text.splitn(3, ' ');
        let attempt = parts.next()?.parse().ok()?;
        let at = Timestamp::from_millis(parts.next()?.parse().ok()?);
        MessageError::decode(parts.next()?, attempt, at)
    }
}

/// The number after a letter in the `terms` of a run.
fn parameter(terms: &str, letter: char) -> Option<u64> {
    let (_, rest) = terms.split_once(letter)?;
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// The outcome of a message; `lua/lib/finish.lua` describes the format.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) finished_at: Timestamp,
    pub(crate) run: Run,
    pub(crate) end: End,
}

/// How a message ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Completed(Box<RawValue>),
    Failed(MessageError),
}

impl Outcome {
    pub(crate) fn decode(text: &str) -> Result<Self, Malformed> {
        const MALFORMED: Malformed = Malformed("outcome");
        let (first_line, json) = text.split_once('\n').ok_or(MALFORMED)?;
        let (finished, run) = first_line.split_once('\t').ok_or(MALFORMED)?;
        let letter = finished.chars().next().ok_or(MALFORMED)?;
        let finished_at = Timestamp::from_millis(finished[letter.len_utf8()..].parse().map_err(|_| MALFORMED)?);
        let mut run = Run::decode(run)?;
        // With the letters `c` and `f`, the message ended by an attempt that the stored run does not count. With `l` it ended
        // without one, for example by a lapse.
        if letter != 'l' {
            run.attempts += 1;
        }
        let end = match letter {
            'c' => End::Completed(RawValue::from_string(json.to_owned()).map_err(|_| MALFORMED)?),
            'f' | 'l' => End::Failed(MessageError::decode(json, run.attempts, finished_at).ok_or(MALFORMED)?),
            _ => return Err(MALFORMED),
        };
        Ok(Self { finished_at, run, end })
    }
}

/// The delay of a message: from its creation to its first due time.
pub(crate) fn delay(record: &Record) -> Millis {
    record.due_at.since(record.created_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_record_keeps_the_payload_byte_for_byte() {
        let odd = "{ \"big\": 12345678901234567890, \"a\":[],\"t\":\"\\t\\n\" }";
        let mut message = NewMessage::new(raw(odd));
        message.name = Some("welcome".parse().unwrap());
        message.headers = serde_json::from_str(r#"{"tab":"a\tb","n":"\n"}"#).unwrap();
        let text = format!("1795424400000\td1795424401500{}", Record::encode(&message));
        let record = Record::decode(text.as_bytes()).unwrap();
        assert_eq!(record.data.get(), odd);
        assert_eq!(record.name, message.name);
        assert_eq!(record.headers, message.headers);
        assert_eq!(delay(&record), Millis::new(1_500));
    }

    #[test]
    fn options_read_back_and_defaults_are_encoded_as_empty_text() {
        assert_eq!(Options::of(&NewMessage::new(raw("1"))).encode(), "");
        let options = Options {
            priority: "-5".parse().unwrap(),
            max_attempts: Some("9".parse().unwrap()),
            backoff: Some(Backoff::default()),
            own_id: Some("order 42".parse().unwrap()),
            timeout: Some(Millis::from_secs(3)),
            ttl: None,
            expires_at: None,
            hold: Some("payment 42".parse().unwrap()),
            ready_at: None,
        };
        assert_eq!(Options::decode(&options.encode()).unwrap(), options);
    }

    #[test]
    fn malformed_record_is_an_error() {
        for bad in ["", "no line feed", "x\n1", "1795424400000\nnot json", "1795424400000\tdx\n1"] {
            assert!(Record::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(Record::decode(b"1795424400000\n\"\xff\"").is_err());
        assert!(Options::decode("\tpx").is_err());
        assert!(Run::decode("t\t1\t0").is_err());
        assert!(Outcome::decode("c1\tt\t1\t0\t0\t1\tc\t\t\t\n{").is_err());
    }
}
