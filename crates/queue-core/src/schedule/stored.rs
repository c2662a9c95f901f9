//! The stored form of a schedule in Redis: its state as a line of text, and its message as `enqueue.lua` reads it.
//!
//! The state is a text with the parts `revision`, `runs`, `last_at`, `last_id`, `max_runs`, flags, the bytes of the message, and
//! the rule as JSON, with a tab between two parts. `lua/lib/schedule.lua` also reads the stored state of a schedule.

use std::{collections::HashMap, sync::Arc};

use crate::{
    error::{Error, Result},
    json_equality,
    message::{
        MessageId, NewMessage,
        record::{EncodedMessage, PostedRecord},
    },
    names::ScheduleName,
    schedule::rule::{Overlap, Rule},
    time::Timestamp,
};

/// The flag of a paused schedule.
pub(crate) const PAUSED_FLAG: char = 'p';
/// The flag of a schedule that leaves out ticks while an earlier message is unfinished.
pub(crate) const SKIPS_OVERLAP_FLAG: char = 'o';
/// The flag of a schedule that the configuration declared.
pub(crate) const DECLARED_FLAG: char = 'd';
/// The flag, in the stored state of a schedule, that the message of the schedule has a group. An exclusive queue refuses such a
/// schedule.
pub(crate) const GROUPED_FLAG: char = 'g';

/// The parsed rules of schedules that this process has read before, by the name of the schedule, each with the schedule's revision.
pub(crate) type ParsedRules = HashMap<String, (String, Arc<Rule>)>;

/// The state of a schedule, without its message.
#[derive(Debug, Clone)]
pub(crate) struct StoredSchedule {
    pub(crate) name: ScheduleName,
    /// A random text that changes with each new definition.
    pub(crate) revision: String,
    pub(crate) runs: u64,
    pub(crate) last_at: Option<Timestamp>,
    pub(crate) last_id: Option<MessageId>,
    pub(crate) is_paused: bool,
    pub(crate) is_declared: bool,
    /// The size of the message that each tick posts, in bytes.
    pub(crate) bytes: usize,
    pub(crate) rule: Arc<Rule>,
    /// The next tick; `None` if the schedule is paused or has ended.
    pub(crate) next: Option<Timestamp>,
}

impl StoredSchedule {
    /// Decodes the state of a schedule. A rule that the caller knows is not parsed again.
    pub(crate) fn decode(name: &str, text: &str, next: &str, known: &ParsedRules) -> Result<Self> {
        let malformed_error = || Error::unexpected(format_args!("malformed schedule {name}: {text}"));
        let mut parts = text.splitn(8, '\t');
        let mut next_part = || parts.next().ok_or_else(malformed_error);
        let (revision, runs, last_at, last_id) = (next_part()?, next_part()?, next_part()?, next_part()?);
        let (_, flags, bytes, rule) = (next_part()?, next_part()?, next_part()?, next_part()?);
        Ok(Self {
            name: name.parse().map_err(Error::unexpected)?,
            revision: revision.to_owned(),
            runs: runs.parse().map_err(|_| malformed_error())?,
            last_at: last_at.parse().ok().map(Timestamp::from_millis),
            last_id: last_id.parse().ok(),
            is_paused: flags.contains(PAUSED_FLAG),
            is_declared: flags.contains(DECLARED_FLAG),
            bytes: bytes.parse().map_err(|_| malformed_error())?,
            rule: match known.get(name) {
                Some((known_revision, rule)) if known_revision == revision => Arc::clone(rule),
                _ => Arc::new(serde_json::from_str(rule).map_err(|_| malformed_error())?),
            },
            next: next.parse().ok().map(Timestamp::from_millis),
        })
    }

    /// Whether the schedule has posted its maximum number of messages.
    pub(crate) fn has_ended(&self) -> bool {
        self.rule.max_runs.is_some_and(|max| self.runs >= max.unsigned_abs())
    }

    /// Returns the instant after which the next tick must be: now, or the newest posted tick if Redis's clock has stepped back before
    /// that tick.
    pub(crate) fn next_tick_bound(&self, now: Timestamp) -> Timestamp {
        self.last_at.map_or(now, |last| last.max(now))
    }
}

/// The definition of a schedule in the form in which scripts store it.
#[derive(Debug)]
pub(crate) struct EncodedSchedule {
    pub(crate) max_runs: String,
    pub(crate) flags: String,
    pub(crate) rule: String,
    /// The options and the record of the message, with a line feed between them.
    pub(crate) message: String,
    /// The size of the message's record, in bytes.
    pub(crate) bytes: usize,
}

impl EncodedSchedule {
    pub(crate) fn of(name: &ScheduleName, rule: &Rule, message: &NewMessage, is_declared: bool) -> Self {
        let EncodedMessage { record, options, .. } = EncodedMessage::of(message).posted_by(name);
        let flags = [
            (rule.overlap == Overlap::Skip, SKIPS_OVERLAP_FLAG),
            (is_declared, DECLARED_FLAG),
            (message.group.is_some(), GROUPED_FLAG),
        ];
        Self {
            max_runs: rule.max_runs.map(|runs| runs.to_string()).unwrap_or_default(),
            flags: flags.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag)).collect(),
            rule: serde_json::to_string(rule).expect("a rule has a JSON form"),
            bytes: record.len(),
            message: format!("{options}\n{record}"),
        }
    }
}

/// Whether two stored messages of schedules are equal; texts of JSON that have the same meaning count as equal data.
pub(crate) fn are_messages_equal(one: &str, other: &str) -> bool {
    /// Splits the stored message of a schedule into three parts: the options, the first line of the record, and the data.
    fn split_message(message: &str) -> Option<(&str, &str, &str)> {
        let (options, record) = message.split_once('\n')?;
        let (first_line, data) = record.split_once('\n')?;
        Some((options, first_line, data))
    }
    one == other
        || split_message(one)
            .zip(split_message(other))
            .is_some_and(|(one, other)| (one.0, one.1) == (other.0, other.1) && json_equality::is_equal(one.2, other.2))
}

/// Decodes the stored message of a schedule; `None` if Drover did not write the text.
pub(crate) fn decode_message(text: &str) -> Option<NewMessage> {
    let (options, record) = text.split_once('\n')?;
    let mut posted_record = PostedRecord::decode(format!("0{record}").as_bytes()).ok()?;
    posted_record.decode_options(options).ok()?;
    Some(posted_record.message)
}
