//! Schedules in the model: their definitions, and the operations of clients on them.

use std::iter::successors;

use queue_core::Timestamp;
use serde_json::{Value, json};

use crate::{
    message::{Draft, Instant, MessageNumber},
    model::Model,
    posting::{new_message, shown_id},
};

/// A schedule, by the number that stands for its name.
pub(crate) type ScheduleKey = u8;

/// The number of next ticks that an answer about a schedule shows.
const SHOWN_TICKS: usize = 5;

/// A definition of a schedule whose ticks are multiples of an interval.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    pub(crate) every: u64,
    pub(crate) offset: u64,
    pub(crate) start_at: Option<Instant>,
    pub(crate) end_at: Option<Instant>,
    pub(crate) max_runs: Option<u64>,
    pub(crate) missed: Missed,
    pub(crate) overlap: Overlap,
    pub(crate) message: Draft,
    /// The data of the message.
    pub(crate) data: usize,
}

/// The treatment of missed ticks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Missed {
    Skip,
    One,
    All,
}

/// The treatment of a tick while the message of an earlier tick is unfinished.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Overlap {
    Allow,
    Skip,
}

/// The author of the definition of a schedule: a client or a configuration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Origin {
    Client,
    Configuration,
}

#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    pub(crate) definition: Definition,
    pub(crate) origin: Origin,
    /// The n-th definition that was stored: the model's name for a revision.
    pub(crate) revision: usize,
    /// How many messages the ticks of this definition have posted.
    pub(crate) runs: u64,
    /// The newest tick that was posted, and its message.
    pub(crate) last: Option<(Instant, MessageNumber)>,
    pub(crate) is_paused: bool,
    /// The next tick, unless the schedule is paused or has ended.
    pub(crate) next: Option<Instant>,
}

/// The schedule and the tick that posted a message, and the data that the schedule gave it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PostedBy {
    pub(crate) schedule: ScheduleKey,
    pub(crate) at: Instant,
    pub(crate) data: usize,
}

pub(crate) fn schedule_name(key: ScheduleKey) -> String {
    format!("schedule-{key}")
}

/// Returns the name by which answers of the model show a revision of a schedule.
pub(crate) fn revision_name(revision: usize) -> String {
    format!("definition-{revision}")
}

impl Definition {
    /// The first tick after an instant.
    pub(crate) fn next_after(&self, after: Instant) -> Option<Instant> {
        let earliest_tick = self.start_at.unwrap_or(0).max(after + 1);
        let tick = earliest_tick.saturating_sub(self.offset).div_ceil(self.every) * self.every + self.offset;
        self.end_at.is_none_or(|end| tick <= end).then_some(tick)
    }

    /// The definition as a client sends it, and as answers show it.
    pub(crate) fn as_json(&self) -> Value {
        json!({
            "every": self.every,
            "offset": self.offset,
            "start_at": self.start_at.map(Timestamp::from_millis),
            "end_at": self.end_at.map(Timestamp::from_millis),
            "max_runs": self.max_runs,
            "missed": match self.missed {
                Missed::Skip => "skip",
                Missed::One => "one",
                Missed::All => "all",
            },
            "overlap": match self.overlap {
                Overlap::Allow => "allow",
                Overlap::Skip => "skip",
            },
            "message": new_message(&self.message, self.data, 0),
        })
    }
}

impl Model {
    pub(crate) fn put_schedule(&mut self, key: ScheduleKey, definition: &Definition, origin: Origin) -> Value {
        let known_schedule = self.schedules.get(&key).cloned();
        let equal_schedule = known_schedule.as_ref().filter(|known_schedule| known_schedule.definition == *definition);
        if equal_schedule.is_some_and(|known_schedule| {
            known_schedule.origin == origin || known_schedule.origin == Origin::Configuration
        }) {
            return json!({"existed": self.schedule_json(key)});
        }
        let tick_bound =
            known_schedule.as_ref().map_or(self.now(), |known_schedule| self.next_tick_bound(known_schedule));
        let next_tick = definition.next_after(tick_bound);
        if equal_schedule.is_none() && next_tick.is_none() {
            return json!({"invalid": if definition.end_at.is_some() { "end_at" } else { "start_at" }});
        }
        // The queue's name is added to the index before the schedule is stored, so the index has the name even if the schedule is
        // refused.
        self.is_listed_with_schedules = true;
        self.declare();
        if self.settings.exclusive.is_some() && definition.message.group.is_some() {
            return json!(crate::run_operation::EXCLUSIVE_QUEUE);
        }
        let schedule = match (known_schedule.clone(), equal_schedule) {
            (Some(known_schedule), Some(_)) => Schedule { origin, ..known_schedule },
            (known_schedule, _) => {
                self.definitions += 1;
                let is_paused = known_schedule.as_ref().is_some_and(|known_schedule| known_schedule.is_paused);
                Schedule {
                    definition: definition.clone(),
                    origin,
                    revision: self.definitions,
                    runs: 0,
                    last: known_schedule.and_then(|known_schedule| known_schedule.last),
                    is_paused,
                    next: next_tick.filter(|_| !is_paused),
                }
            }
        };
        self.schedules.insert(key, schedule);
        let shown_schedule = self.schedule_json(key);
        if known_schedule.is_some() { json!({"existed": shown_schedule}) } else { json!({"created": shown_schedule}) }
    }

    pub(crate) fn pause_schedule(&mut self, key: ScheduleKey) -> bool {
        let Some(schedule) = self.schedules.get_mut(&key) else { return false };
        (schedule.is_paused, schedule.next) = (true, None);
        true
    }

    pub(crate) fn resume_schedule(&mut self, key: ScheduleKey) -> bool {
        let Some(schedule) = self.schedules.get(&key) else { return false };
        if schedule.is_paused {
            let next_tick = schedule.definition.next_after(self.next_tick_bound(schedule));
            let next_tick = next_tick.filter(|_| !schedule.has_ended());
            let schedule = self.schedules.get_mut(&key).expect("the schedule exists");
            (schedule.is_paused, schedule.next) = (false, next_tick);
        }
        true
    }

    /// Posts the message of a schedule now.
    pub(crate) fn run_schedule(&mut self, key: ScheduleKey) -> Value {
        let Some(Schedule { definition, .. }) = self.schedules.get(&key) else { return Value::Null };
        let posted_by = PostedBy { schedule: key, at: self.now(), data: definition.data };
        let draft = Draft { posted_by: Some(posted_by), ..definition.message.clone() };
        self.post(&[draft], None)
    }

    /// The instant after which the next tick must be. An instant that was posted is never posted again.
    fn next_tick_bound(&self, schedule: &Schedule) -> Instant {
        schedule.last.map_or(self.now(), |(at, _)| at.max(self.now()))
    }

    /// Whether a schedule of the queue has a message with a group, so that the queue can't become exclusive.
    pub(crate) fn has_schedule_with_group(&self) -> bool {
        self.schedules.values().any(|schedule| schedule.definition.message.group.is_some())
    }

    pub(crate) fn schedules_json(&self) -> Value {
        let shown_schedules = self.schedules.keys().map(|key| self.schedule_json(*key));
        if self.exists { shown_schedules.collect() } else { Value::Null }
    }

    fn schedule_json(&self, key: ScheduleKey) -> Value {
        let Schedule { definition, origin, runs, last, is_paused, next, .. } = &self.schedules[&key];
        let first_tick = next.and_then(|next| definition.next_after(self.now().max(next - 1)));
        let runs_left = definition.max_runs.map_or(u64::MAX, |max| max - runs);
        let next_ticks =
            successors(first_tick, |tick| definition.next_after(*tick)).take(SHOWN_TICKS).zip(0..runs_left);
        let mut shown_schedule = json!({
            "name": schedule_name(key),
            "queue": "q",
            "cron": null,
            "timezone": null,
            "paused": is_paused,
            "declared": *origin == Origin::Configuration,
            "next_at": next_ticks.map(|(tick, _)| Timestamp::from_millis(tick)).collect::<Vec<_>>(),
            "last_at": last.map(|(at, _)| Timestamp::from_millis(at)),
            "last_message": last.map(|(_, number)| shown_id(number)),
            "runs": runs,
        });
        let definition = definition.as_json().as_object().cloned().expect("it is an object");
        shown_schedule.as_object_mut().expect("it is an object").extend(definition);
        shown_schedule
    }
}

impl Schedule {
    pub(crate) fn has_ended(&self) -> bool {
        self.definition.max_runs.is_some_and(|max| self.runs >= max)
    }
}
