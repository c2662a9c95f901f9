//! Schedules: rules that post messages over time, by a cron pattern or at an interval.

pub(crate) mod calculations;
mod clock;
pub(crate) mod cron;
mod known;
mod matching_times;
pub(crate) mod metrics;
mod preparation;
pub(crate) mod rule;
mod scheduler;
pub(crate) mod stored;
pub(crate) mod zone;

#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    json::{self, JsonObject},
    message::{MessageRef, NewMessage},
    names::{QueueName, ScheduleName},
    time::Timestamp,
};

use cron::CronPattern;
pub use metrics::TickMetrics;
use rule::{Every, MaxRuns, Offset};
pub use rule::{Missed, Overlap, Rule};
pub use scheduler::Scheduler;
use zone::Zone;

/// A schedule as a client or the configuration defines it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(
    json!({"cron": "30 9 * * mon-fri", "timezone": "Europe/Berlin", "message": {"data": {"kind": "report"}}}),
    json!({"every": "5m", "message": {"data": 1}, "missed": "skip"})
))]
pub struct NewSchedule {
    /// A cron pattern of five fields, or of six fields with the seconds first. A schedule has either `cron` or `every`.
    #[schema(inline)]
    pub cron: Option<CronPattern>,
    /// The time zone of the pattern; defaults to UTC.
    #[schema(inline)]
    pub timezone: Option<Zone>,
    /// The interval, counted from 1970: 1 s to 3,650 days. A schedule has either `every` or `cron`.
    #[schema(inline)]
    pub every: Option<Every>,
    /// How much later than the multiples of `every` the ticks are: less than `every`; defaults to 0.
    #[schema(inline)]
    pub offset: Option<Offset>,
    /// The message that each tick posts: the fields of a new message without `id`, `delay` and `deliver_at`.
    #[serde(deserialize_with = "message")]
    #[schema(schema_with = message_schema)]
    pub message: NewMessage,
    /// The instant before which there are no ticks; defaults to none.
    pub start_at: Option<Timestamp>,
    /// The instant after which there are no ticks; defaults to none.
    pub end_at: Option<Timestamp>,
    /// The number of posted messages after which the schedule ends: 1 to 1,000,000,000; defaults to no limit.
    #[schema(inline)]
    pub max_runs: Option<MaxRuns>,
    /// Defines what happens to ticks that no process could post in time; defaults to `one`.
    #[serde(default, deserialize_with = "json::or_default")]
    #[schema(inline, value_type = Option<Missed>)]
    pub missed: Missed,
    /// Defines what happens to a tick while the message of an earlier tick is unfinished; defaults to `allow`.
    #[serde(default, deserialize_with = "json::or_default")]
    #[schema(inline, value_type = Option<Overlap>)]
    pub overlap: Overlap,
}

/// The fields of a new message that the message of a schedule can't have.
const REFUSED_FIELDS: [&str; 3] = ["id", "delay", "deliver_at"];

/// Reads the message. The error about an unknown field lists only the fields that the message of a schedule can have.
fn message<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NewMessage, D::Error> {
    let read_message = JsonObject::deserialize(deserializer).map(|JsonObject(message)| message);
    read_message.map_err(|error: D::Error| {
        let error_text = error.to_string();
        let Some((unknown, known)) =
            error_text.rsplit_once("`, expected one of ").filter(|_| error_text.starts_with("unknown field"))
        else {
            return error;
        };
        let names = known.split('`').skip(1).step_by(2).filter(|name| !REFUSED_FIELDS.contains(name));
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        D::Error::custom(format_args!("{unknown}`, expected one of {}", names.join(", ")))
    })
}

/// Returns the schema of a new message without the fields that the message of a schedule can't have.
fn message_schema() -> Schema {
    let mut schema = NewMessage::schema();
    if let RefOr::T(Schema::Object(message)) = &mut schema {
        message.examples.clear();
        for field in REFUSED_FIELDS {
            message.properties.remove(field);
        }
    }
    match schema {
        RefOr::T(schema) => schema,
        RefOr::Ref(_) => Schema::default(),
    }
}

impl NewSchedule {
    /// Returns a field that contradicts another field or that a schedule can't have, and a text that says what to do. A slash separates
    /// the names of nested fields.
    pub fn contradiction(&self) -> Option<(&'static str, &'static str)> {
        let Self { cron, timezone, every, offset, message, start_at, end_at, .. } = self;
        let many_messages_error = "a schedule posts many messages, so they can't share an id: remove it";
        let instruction = "a schedule posts its message when it is due: remove it";
        let checks = [
            (cron.is_some() && every.is_some(), "every", "give either cron or every, not both"),
            (cron.is_none() && every.is_none(), "cron", "required: give cron or every"),
            (timezone.is_some() && cron.is_none(), "timezone", "only a cron pattern has a time zone: remove it"),
            (offset.is_some() && every.is_none(), "offset", "only an interval (every) has an offset: remove it"),
            (
                offset.zip(*every).is_some_and(|(offset, every)| *offset >= *every),
                "offset",
                "must be shorter than every",
            ),
            (start_at.zip(*end_at).is_some_and(|(start, end)| start > end), "end_at", "must not be before start_at"),
            (message.id.is_some(), "message/id", many_messages_error),
            (message.delay.is_some(), "message/delay", instruction),
            (message.deliver_at.is_some(), "message/deliver_at", instruction),
        ];
        checks.into_iter().find(|(is_wrong, ..)| *is_wrong).map(|(_, field, detail)| (field, detail))
    }

    /// Splits the definition of a schedule into its rule and its message.
    pub(crate) fn into_parts(self) -> (Rule, NewMessage) {
        let Self { cron, timezone, every, offset, message, start_at, end_at, max_runs, missed, overlap } = self;
        let timezone = cron.is_some().then(|| timezone.unwrap_or_else(Zone::utc));
        let offset = every.map(|_| offset.unwrap_or(const { Offset::of(crate::time::Millis::ZERO) }));
        (Rule { cron, timezone, every, offset, start_at, end_at, max_runs, missed, overlap }, message)
    }
}

/// A schedule as clients read it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Schedule {
    /// The schedule's name.
    #[schema(inline)]
    pub name: ScheduleName,
    /// The queue to which the schedule posts.
    #[schema(inline)]
    pub queue: QueueName,
    #[serde(flatten)]
    pub(crate) rule: Rule,
    /// The message that each tick posts.
    #[schema(schema_with = message_schema)]
    pub message: NewMessage,
    /// Whether the schedule is paused.
    pub paused: bool,
    /// Whether the configuration declared this definition of the schedule.
    pub declared: bool,
    /// The next ticks, up to five; empty if the schedule is paused or has ended.
    pub next_at: Vec<Timestamp>,
    /// The newest tick that was posted.
    #[schema(required)]
    pub last_at: Option<Timestamp>,
    /// The message of the newest tick that was posted.
    #[schema(required, inline)]
    pub last_message: Option<MessageRef>,
    /// The number of messages that ticks of this definition have posted.
    pub runs: u64,
}
