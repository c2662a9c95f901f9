//! The stored form of a message in Redis: the record, the options, the run, the outcome.
//!
//! The record, the options, the run and the outcome are text that a person can read in `redis-cli`. The record is a first line
//! and, after a line feed, the unchanged payload. The first line is the instant of creation and *fields*; the options are fields
//! too. A field is a tab, a letter and the value. `lua/lib/fields.lua` reads the fields in the scripts.

use std::{
    fmt::{Display, Write},
    str::FromStr,
};

use serde_json::value::RawValue;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::{
    message::{
        failure::{MessageError, RunErrors},
        id::MessageId,
        new::{NewMessage, Priority},
    },
    names::{ConsumerId, ScheduleName},
    time::{Millis, Timestamp},
};

/// The error for a stored text that can't be decoded, because this library did not write it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub(crate) struct MalformedPart(pub(crate) &'static str);

/// The fields of a record, each with its letter.
#[derive(Clone, Copy, PartialEq, EnumString, IntoStaticStr, VariantArray)]
enum RecordField {
    #[strum(serialize = "d")]
    Due,
    #[strum(serialize = "n")]
    Name,
    #[strum(serialize = "h")]
    Headers,
    #[strum(serialize = "s")]
    Schedule,
    #[strum(serialize = "u")]
    ScheduledAt,
}

/// The fields of the options, each with its letter.
#[derive(Clone, Copy, PartialEq, EnumString, IntoStaticStr, VariantArray)]
enum OptionField {
    #[strum(serialize = "p")]
    Priority,
    #[strum(serialize = "a")]
    MaxAttempts,
    #[strum(serialize = "b")]
    Backoff,
    #[strum(serialize = "i")]
    OwnId,
    #[strum(serialize = "t")]
    Timeout,
    /// The ttl in a request or in a schedule; `enqueue.lua` replaces it with `Expires`, an instant.
    #[strum(serialize = "l")]
    Ttl,
    #[strum(serialize = "e")]
    Expires,
    #[strum(serialize = "k")]
    Hold,
    #[strum(serialize = "g")]
    Group,
    #[strum(serialize = "r")]
    Ready,
}

/// The letters of those fields of a record that a patch replaces: all but the fields of a schedule.
pub(crate) fn patched_letters() -> String {
    let unpatched_fields = [RecordField::Schedule, RecordField::ScheduledAt];
    RecordField::VARIANTS.iter().filter(|field| !unpatched_fields.contains(field)).map(<&str>::from).collect()
}

/// Appends a field to a text, if the field has a value.
fn push(text: &mut String, field: impl Into<&'static str>, value: Option<impl Display>) {
    if let Some(value) = value {
        write!(text, "\t{}{value}", field.into()).expect("writing to a string does not fail");
    }
}

/// Reads the known fields of a text, each with its value.
fn fields<F: FromStr>(text: &str) -> impl Iterator<Item = (F, &str)> {
    text.split('\t').filter_map(|field| {
        let (letter, value) = field.split_at_checked(1)?;
        Some((letter.parse().ok()?, value))
    })
}

/// A message to be stored, in the form that `enqueue.lua` and `patch.lua` read.
pub(crate) struct EncodedMessage {
    /// The record without the instants, which the script adds by Redis's clock.
    pub(crate) record: String,
    /// The options as text, which is empty if no option differs from its default.
    pub(crate) options: String,
    /// The due time as text, which is empty if the message is due now.
    pub(crate) due: String,
}

impl EncodedMessage {
    pub(crate) fn of(message: &NewMessage) -> Self {
        let reason = "a map of strings and a back-off have a JSON form";
        // The pattern has no `..`, so the compiler reports a field that is neither stored nor left out on purpose.
        let NewMessage {
            data,
            name,
            headers,
            priority,
            max_attempts,
            backoff,
            id,
            timeout,
            ttl,
            hold,
            group,
            delay: _,
            deliver_at: _,
        } = message;
        let mut record = String::with_capacity(data.get().len() + 1);
        push(&mut record, RecordField::Name, name.as_ref());
        let headers = Some(headers).filter(|headers| !headers.is_empty());
        push(&mut record, RecordField::Headers, headers.map(|headers| serde_json::to_string(headers).expect(reason)));
        record.push('\n');
        record.push_str(data.get());
        let mut options = String::new();
        push(&mut options, OptionField::Priority, Some(priority).filter(|priority| **priority != Priority::default()));
        push(&mut options, OptionField::MaxAttempts, max_attempts.as_ref());
        push(&mut options, OptionField::Backoff, backoff.map(|backoff| serde_json::to_string(&backoff).expect(reason)));
        push(&mut options, OptionField::OwnId, id.as_ref());
        push(&mut options, OptionField::Timeout, timeout.map(|timeout| timeout.get()));
        push(&mut options, OptionField::Ttl, ttl.map(|ttl| ttl.get()));
        push(&mut options, OptionField::Hold, hold.as_ref());
        push(&mut options, OptionField::Group, group.as_ref());
        Self { record, options, due: message.due().encode() }
    }

    /// Returns the message, marked with the schedule that posts it.
    pub(crate) fn posted_by(mut self, schedule: &ScheduleName) -> Self {
        let mut record = String::new();
        push(&mut record, RecordField::Schedule, Some(schedule));
        self.record.insert_str(0, &record);
        self
    }

    /// Returns the message, marked with the instant for which a schedule posts it.
    pub(crate) fn scheduled_at(mut self, instant: Timestamp) -> Self {
        let mut record = String::new();
        push(&mut record, RecordField::ScheduledAt, Some(instant.as_millis()));
        self.record.insert_str(0, &record);
        self
    }

    /// Whether the message is not due now, or has options.
    pub(crate) fn has_terms(&self) -> bool {
        !(self.due.is_empty() && self.options.is_empty())
    }

    /// The number of bytes with which the message counts towards the limit of one call.
    pub(crate) fn bytes(&self) -> usize {
        self.record.len()
    }
}

/// A message as its record and its options store it, with instants instead of the delay and the ttl.
#[derive(Debug, Clone)]
pub(crate) struct PostedRecord {
    pub(crate) message: NewMessage,
    pub(crate) created_at: Timestamp,
    pub(crate) due_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    /// The instant at which a promotion or a signal made the message ready.
    pub(crate) ready_at: Option<Timestamp>,
    /// The schedule that posted the message.
    pub(crate) schedule: Option<ScheduleName>,
    /// The tick for which the schedule posted the message.
    pub(crate) scheduled_at: Option<Timestamp>,
}

impl PostedRecord {
    pub(crate) fn new(message: NewMessage, created_at: Timestamp) -> Self {
        let due_at = message.due().instant(created_at);
        let expires_at = message.ttl.map(|ttl| created_at + *ttl);
        let (ready_at, schedule, scheduled_at) = (None, None, None);
        Self { message, created_at, due_at, expires_at, ready_at, schedule, scheduled_at }
    }

    /// Makes a substitute for a record that can't be read: the payload is null, and the time of the post is estimated from the
    /// id.
    pub(crate) fn unreadable(id: &MessageId) -> Self {
        Self::new(NewMessage::new(RawValue::NULL.to_owned()), id.posted_at())
    }

    /// Decodes the record of a message. The options, if any, are decoded by `decode_options`.
    pub(crate) fn decode(record: &[u8]) -> Result<Self, MalformedPart> {
        const MALFORMED: MalformedPart = MalformedPart("record");
        let record = std::str::from_utf8(record).map_err(|_| MALFORMED)?;
        let (first_line, data) = record.split_once('\n').ok_or(MALFORMED)?;
        let (created, rest) = first_line.split_at(first_line.find('\t').unwrap_or(first_line.len()));
        let data = RawValue::from_string(data.to_owned()).map_err(|_| MALFORMED)?;
        let mut posted_record = Self::new(NewMessage::new(data), instant(created).ok_or(MALFORMED)?);
        for (field, value) in fields(rest) {
            posted_record.decode_field(field, value).ok_or(MALFORMED)?;
        }
        Ok(posted_record)
    }

    fn decode_field(&mut self, field: RecordField, value: &str) -> Option<()> {
        match field {
            RecordField::Due => self.due_at = instant(value)?,
            RecordField::Name => self.message.name = Some(value.parse().ok()?),
            RecordField::Headers => self.message.headers = serde_json::from_str(value).ok()?,
            RecordField::Schedule => self.schedule = Some(value.parse().ok()?),
            RecordField::ScheduledAt => self.scheduled_at = Some(instant(value)?),
        }
        Some(())
    }

    /// Decodes the options of the message, and stores them in it.
    pub(crate) fn decode_options(&mut self, text: &str) -> Result<(), MalformedPart> {
        fields(text).try_for_each(|(field, value)| self.decode_option(field, value)).ok_or(MalformedPart("options"))
    }

    fn decode_option(&mut self, field: OptionField, value: &str) -> Option<()> {
        let message = &mut self.message;
        match field {
            OptionField::Priority => message.priority = value.parse().ok()?,
            OptionField::MaxAttempts => message.max_attempts = Some(value.parse().ok()?),
            OptionField::Backoff => message.backoff = Some(serde_json::from_str(value).ok()?),
            OptionField::OwnId => message.id = Some(value.parse().ok()?),
            OptionField::Timeout => message.timeout = Some(Millis::new(value.parse().ok()?).try_into().ok()?),
            OptionField::Ttl => message.ttl = Some(Millis::new(value.parse().ok()?).try_into().ok()?),
            OptionField::Expires => self.expires_at = Some(instant(value)?),
            OptionField::Hold => message.hold = Some(value.parse().ok()?),
            OptionField::Group => message.group = Some(value.parse().ok()?),
            OptionField::Ready => self.ready_at = Some(instant(value)?),
        }
        Some(())
    }

    /// The delay of the message: from its creation to its first due time.
    pub(crate) fn delay(&self) -> Millis {
        self.due_at.since(self.created_at)
    }
}

fn instant(millis: &str) -> Option<Timestamp> {
    millis.parse().ok().map(Timestamp::from_millis)
}

/// The stored facts about the deliveries of a message; `lua/lib/run.lua` describes the format.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Run {
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) attempts: u32,
    pub(crate) lapses: u32,
    pub(crate) deliveries: u32,
    pub(crate) consumer: Option<ConsumerId>,
    /// The instant at which a requeued message is ready again.
    pub(crate) ready_at: Option<Timestamp>,
    pub(crate) errors: RunErrors,
}

impl Run {
    pub(crate) fn decode(text: &str) -> Result<Self, MalformedPart> {
        const MALFORMED: MalformedPart = MalformedPart("run");
        let mut parts = text.splitn(9, '\t');
        let mut part = || parts.next().ok_or(MALFORMED);
        let _token = part()?;
        let started_text = part()?;
        let mut count = || part()?.parse::<u32>().map_err(|_| MALFORMED);
        let (attempts, lapses, deliveries) = (count()?, count()?, count()?);
        let consumer = part()?;
        let _settled = part()?;
        let terms = part()?;
        let errors = part()?;
        Ok(Self {
            started_at: started_text.parse().ok().map(Timestamp::from_millis),
            attempts,
            lapses,
            deliveries,
            consumer: consumer.parse().ok(),
            ready_at: number_after(terms, 'r').map(Timestamp::from_millis),
            errors: RunErrors::decode(errors).ok_or(MALFORMED)?,
        })
    }
}

/// Returns the number that follows a letter in the `terms` of a run.
fn number_after(terms: &str, letter: char) -> Option<u64> {
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

/// The end of a message: its result or its error.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Completed(Box<RawValue>),
    Failed(MessageError),
}

impl Outcome {
    pub(crate) fn decode(text: &str) -> Result<Self, MalformedPart> {
        const MALFORMED: MalformedPart = MalformedPart("outcome");
        let (first_line, json) = text.split_once('\n').ok_or(MALFORMED)?;
        let (finished, run) = first_line.split_once('\t').ok_or(MALFORMED)?;
        let letter = finished.chars().next().ok_or(MALFORMED)?;
        let finished_at = Timestamp::from_millis(finished[letter.len_utf8()..].parse().map_err(|_| MALFORMED)?);
        let mut run = Run::decode(run)?;
        // An outcome with the letter `c` or `f` ended by an attempt, which the stored run does not count. An outcome with the letter
        // `l` ended without an attempt, for example by a lapse.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::backoff::Backoff;

    const PROTOCOL_PAGE: &str = include_str!("../../../../docs/PROTOCOL.md");

    fn raw_json(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    /// A message that has a value in each field that Redis stores.
    fn full_message(data: &str) -> NewMessage {
        NewMessage {
            data: raw_json(data),
            name: Some("welcome".parse().unwrap()),
            headers: serde_json::from_str(r#"{"tab":"a\tb","n":"\n"}"#).unwrap(),
            priority: "-5".parse().unwrap(),
            max_attempts: Some("9".parse().unwrap()),
            backoff: Some(Backoff::default()),
            id: Some("order 42".parse().unwrap()),
            timeout: Some(Millis::from_secs(3).try_into().unwrap()),
            hold: Some("payment 42".parse().unwrap()),
            group: Some("user 7".parse().unwrap()),
            // The delay and the ttl are stored as instants.
            delay: None,
            deliver_at: None,
            ttl: None,
        }
    }

    #[test]
    fn every_field_of_a_message_reads_back_and_the_payload_byte_for_byte() {
        let message = full_message("{ \"big\": 12345678901234567890, \"a\":[],\"t\":\"\\t\\n\" }");
        let EncodedMessage { record, options, .. } = EncodedMessage::of(&message);
        let mut posted_record =
            PostedRecord::decode(format!("1795424400000\td1795424401500{record}").as_bytes()).unwrap();
        posted_record.decode_options(&options).unwrap();
        assert_eq!(format!("{:?}", posted_record.message), format!("{message:?}"));
        assert_eq!(posted_record.delay(), Millis::new(1_500));
        let plain_message = EncodedMessage::of(&NewMessage::new(raw_json("1")));
        assert_eq!(
            (&*plain_message.record, &*plain_message.options, &*plain_message.due),
            ("\n1", "", ""),
            "defaults are not stored"
        );
    }

    #[test]
    fn instants_of_the_options_are_read() {
        let mut posted_record = PostedRecord::decode(b"1795424400000\n1").unwrap();
        posted_record.decode_options("\te1795424400001\tz?\tr1795424400002").unwrap();
        let instants = (posted_record.expires_at.unwrap().as_millis(), posted_record.ready_at.unwrap().as_millis());
        assert_eq!(instants, (1_795_424_400_001, 1_795_424_400_002));
    }

    #[test]
    fn the_protocol_page_names_every_field_and_no_other() {
        let documented_names = |form: &str| -> Vec<&str> {
            let line = PROTOCOL_PAGE.lines().find_map(|line| line.strip_prefix(form)).expect("the page has this form");
            line.split("[⇥").skip(1).map(|field| &field[..1]).collect()
        };
        let record: Vec<&str> = RecordField::VARIANTS.iter().map(<&str>::from).collect();
        assert_eq!(documented_names("record  "), record);
        let stored_fields = OptionField::VARIANTS.iter().filter(|field| **field != OptionField::Ttl);
        assert_eq!(documented_names("options  "), stored_fields.map(<&str>::from).collect::<Vec<_>>());
    }

    #[test]
    fn malformed_record_is_an_error() {
        for bad in ["", "no line feed", "x\n1", "1795424400000\nnot json", "1795424400000\tdx\n1"] {
            assert!(PostedRecord::decode(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(PostedRecord::decode(b"1795424400000\n\"\xff\"").is_err());
        assert!(PostedRecord::decode(b"1795424400000\n1").unwrap().decode_options("\tpx").is_err());
        assert!(Run::decode("t\t1\t0").is_err());
        assert!(Outcome::decode("c1\tt\t1\t0\t0\t1\tc\t\t\t\n{").is_err());
    }
}
