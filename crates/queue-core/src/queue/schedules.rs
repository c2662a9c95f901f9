//! The schedules of a queue: clients and the configuration create, read, pause and delete them; processes that tick load them.

use std::sync::Arc;

use deadpool_redis::redis::Value;

use crate::{
    error::{Error, Result},
    limits,
    message::{Message, MessageRef, record::EncodedMessage},
    names::ScheduleName,
    queue::{Call, Enqueued, Queue, declare::IfAbsent, enqueue::WhenFull, index},
    redis::{keys, reply, scripts},
    schedule::{
        NewSchedule, Schedule,
        rule::Rule,
        stored::{EncodedSchedule, StoredSchedule, decode_message},
    },
    time::Timestamp,
};
use tracing::warn;

/// The number of ticks that an answer shows.
const SHOWN_TICKS: usize = 5;
/// The maximum number of times that one call reads and writes a schedule, because other clients may change it at the same time.
const MAX_TRIES: usize = 30;

/// The origin of a schedule: the configuration or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefinedBy {
    /// A client of the API.
    Client,
    /// The configuration.
    Configuration,
}

/// The outcome of defining a schedule.
#[derive(Debug, Clone)]
pub enum PutSchedule {
    /// The schedule is new.
    Created(Schedule),
    /// The schedule existed: its definition was replaced, or is the same.
    Existed(Schedule),
}

/// The schedules that a call reads.
pub(crate) enum WhichSchedules<'a> {
    /// The schedules with these names.
    Named(&'a [ScheduleName]),
    /// Up to this number of schedules, in the order of their names, after this name.
    After(&'a str, usize),
}

/// The parts of each schedule that a call reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The call reads everything but the message.
    Brief,
    /// The call reads the message too.
    Full,
}

/// Schedules as one call read them.
pub(crate) struct LoadedSchedules {
    /// Redis's time in µs.
    pub(crate) now_us: u64,
    /// Whether the queue exists.
    pub(crate) queue_exists: bool,
    /// Whether more schedules follow.
    pub(crate) has_more: bool,
    /// The schedules that exist, each with the stored text of its message, which is empty unless it was read.
    pub(crate) schedules: Vec<(StoredSchedule, String)>,
}

impl Queue {
    /// The maximum number of schedules of a queue.
    pub const MAX_SCHEDULES: usize = limits::MAX_SCHEDULES;

    /// Creates a schedule, or replaces its definition; an equal definition changes nothing. Creates the queue if it does not exist.
    ///
    /// A replaced schedule counts its runs anew; it stays paused if it was paused. A tick that was posted is not posted again.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSchedule`], [`Error::TooManySchedules`], [`Error::ExclusiveQueue`], [`Error::Unavailable`],
    /// [`Error::OutOfMemory`], [`Error::TooManyBytes`], [`Error::OtherLayout`].
    pub async fn put_schedule(
        &self,
        name: &ScheduleName,
        definition: NewSchedule,
        defined_by: DefinedBy,
    ) -> Result<PutSchedule> {
        if let Some((field, problem)) = definition.contradiction() {
            return Err(Error::InvalidSchedule { field, problem });
        }
        let (rule, message) = definition.into_parts();
        for _ in 0..MAX_TRIES {
            let mut loaded_schedules =
                self.load_schedules(WhichSchedules::Named(std::slice::from_ref(name)), Extent::Full).await?;
            let now = now(&loaded_schedules);
            let known_schedule = loaded_schedules.schedules.pop();
            let is_declared = defined_by == DefinedBy::Configuration;
            let encoded_schedule = EncodedSchedule::of(name, &rule, &message, is_declared);
            if encoded_schedule.bytes > limits::MAX_BYTES {
                return Err(Error::TooManyBytes(encoded_schedule.bytes));
            }
            let is_equal = known_schedule.as_ref().is_some_and(|(known_schedule, stored)| {
                *known_schedule.rule == rule && *stored == encoded_schedule.message
            });
            if let Some((known_schedule, message)) = &known_schedule
                && is_equal
                && (known_schedule.is_declared || !is_declared)
            {
                return self.show_schedule(known_schedule, message, now).map(PutSchedule::Existed);
            }
            let tick_floor = known_schedule.as_ref().map_or(now, |(known_schedule, _)| known_schedule.floor(now));
            let next_tick = match &known_schedule {
                Some((known_schedule, _)) if is_equal => known_schedule.next.unwrap_or(now),
                _ => rule.next_after(tick_floor).ok_or_else(|| error_without_ticks(&rule))?,
            };
            let known_revision = known_schedule.as_ref().map_or("", |(known_schedule, _)| &known_schedule.revision);
            let revision = if is_equal { known_revision.to_owned() } else { format!("{:016x}", rand::random::<u64>()) };
            // The name of the queue is added before the schedule is stored, because a name without schedules is harmless.
            index::add_if_absent(&self.redis, keys::QUEUES_WITH_SCHEDULES, &self.name).await?;
            let was_stored: bool = self
                .call_declared(IfAbsent::Create, &scripts::PUT_SCHEDULE, |epoch| {
                    let EncodedSchedule { max_runs, flags, rule, message, bytes } = &encoded_schedule;
                    let call = Call::new(&scripts::PUT_SCHEDULE, &self.keys).arg(epoch).arg(name.as_str());
                    let call = call.arg(known_revision).arg(&revision).arg(max_runs).arg(flags).arg(*bytes);
                    call.arg(rule).arg(message).arg(next_tick.as_millis())
                })
                .await?;
            if was_stored {
                index::add_if_absent(&self.redis, keys::QUEUES_WITH_SCHEDULES, &self.name).await?;
                if let Some(schedule) = self.schedule(name).await? {
                    return Ok(match known_schedule {
                        Some(_) => PutSchedule::Existed(schedule),
                        None => PutSchedule::Created(schedule),
                    });
                }
            }
        }
        Err(Error::Unavailable("other clients change the schedule all the time".into()))
    }

    /// Creates the schedules that the configuration declares for the queue, or replaces their definitions. A schedule that can't be
    /// created is logged.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OutOfMemory`], [`Error::OtherLayout`].
    pub(crate) async fn declare_schedules(&self) -> Result<()> {
        for (name, definition) in &self.declared.schedules {
            match self.put_schedule(name, definition.clone(), DefinedBy::Configuration).await {
                Ok(_) => {}
                Err(
                    error @ (Error::InvalidSchedule { .. }
                    | Error::TooManySchedules
                    | Error::TooManyBytes(_)
                    | Error::ExclusiveQueue),
                ) => {
                    warn!(queue = %self.name, schedule = %name, %error, "a declared schedule is not created");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the configuration declares the schedule.
    pub(crate) fn declares_schedule(&self, name: &ScheduleName) -> bool {
        self.declared.schedules.iter().any(|(declared, _)| declared == name)
    }

    /// Reads a schedule; `None` if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn schedule(&self, name: &ScheduleName) -> Result<Option<Schedule>> {
        let mut loaded_schedules =
            self.load_schedules(WhichSchedules::Named(std::slice::from_ref(name)), Extent::Full).await?;
        let now = now(&loaded_schedules);
        loaded_schedules.schedules.pop().map(|(stored, message)| self.show_schedule(&stored, &message, now)).transpose()
    }

    /// The schedules that come after a name, in the order of their names, up to `limit` and 4 MiB, and whether more follow. `None` if
    /// the queue does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn schedules(&self, after: Option<&ScheduleName>, limit: usize) -> Result<Option<(Vec<Schedule>, bool)>> {
        let after = after.map_or("", ScheduleName::as_str);
        let loaded_schedules = self
            .load_schedules(WhichSchedules::After(after, limit.clamp(1, limits::MAX_SCHEDULES)), Extent::Full)
            .await?;
        if !loaded_schedules.queue_exists {
            return Ok(None);
        }
        let now = now(&loaded_schedules);
        let shown_schedules =
            loaded_schedules.schedules.iter().map(|(stored, message)| self.show_schedule(stored, message, now));
        Ok(Some((shown_schedules.collect::<Result<_>>()?, loaded_schedules.has_more)))
    }

    /// Pauses a schedule: it has no ticks until it is resumed. Returns whether the schedule exists.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn pause_schedule(&self, name: &ScheduleName) -> Result<bool> {
        self.change_schedule(name, "pause", None).await.map(|changed| changed.is_some())
    }

    /// Ends the pause of a schedule. The ticks of the pause are not posted. Returns whether the schedule exists.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn resume_schedule(&self, name: &ScheduleName) -> Result<bool> {
        for _ in 0..MAX_TRIES {
            let mut loaded_schedules =
                self.load_schedules(WhichSchedules::Named(std::slice::from_ref(name)), Extent::Brief).await?;
            let now = now(&loaded_schedules);
            let Some((stored, _)) = loaded_schedules.schedules.pop() else { return Ok(false) };
            let next_tick = if stored.has_ended() { None } else { stored.rule.next_after(stored.floor(now)) };
            match self.change_schedule(name, "resume", Some((&stored.revision, next_tick))).await? {
                Some(true) => return Ok(true),
                Some(false) => {}
                None => return Ok(false),
            }
        }
        Err(Error::Unavailable("other clients change the schedule all the time".into()))
    }

    /// Deletes a schedule; its messages stay. Returns whether the schedule existed.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn delete_schedule(&self, name: &ScheduleName) -> Result<bool> {
        self.change_schedule(name, "delete", None).await.map(|changed| changed.is_some())
    }

    /// Changes a schedule. Returns `None` if the schedule does not exist, and false if it has changed since the caller read it.
    async fn change_schedule(
        &self,
        name: &ScheduleName,
        change: &str,
        resume: Option<(&str, Option<Timestamp>)>,
    ) -> Result<Option<bool>> {
        let mut call = Call::new(&scripts::CHANGE_SCHEDULE, &self.keys).arg(name.as_str()).arg(change);
        if let Some((revision, next)) = resume {
            call = call.arg(revision).arg(next.map(|next| next.as_millis().to_string()).unwrap_or_default());
        }
        self.call(&scripts::CHANGE_SCHEDULE, call).await
    }

    /// Posts the message of a schedule now, even if the schedule is paused or has ended. The message does not count as a run of
    /// the schedule, and the ticks stay as they are. Returns `None` if the schedule does not exist.
    ///
    /// The call is not sent again when Redis did not answer; then the message may be stored or not.
    ///
    /// # Errors
    ///
    /// The errors of [`enqueue`](Self::enqueue).
    pub async fn run_schedule(&self, name: &ScheduleName) -> Result<Option<Message>> {
        let mut loaded_schedules =
            self.load_schedules(WhichSchedules::Named(std::slice::from_ref(name)), Extent::Full).await?;
        let now = now(&loaded_schedules);
        let Some((_, text)) = loaded_schedules.schedules.pop() else { return Ok(None) };
        let message = decode_message(&text).ok_or_else(|| Error::unexpected("malformed message of a schedule"))?;
        let encoded_message = EncodedMessage::of(&message).posted_by(name).scheduled_at(now);
        let answers = self.send(&[encoded_message], WhenFull::RefuseAll, None).await?;
        let answer = answers.first().ok_or_else(|| Error::unexpected("no answer"))?;
        match self.decode_outcome(message, answer)? {
            Enqueued::Created(mut message) => {
                (message.schedule, message.scheduled_at) = (Some(name.clone()), Some(now));
                Ok(Some(message))
            }
            other => Err(Error::unexpected(other)),
        }
    }

    fn show_schedule(&self, stored: &StoredSchedule, message: &str, now: Timestamp) -> Result<Schedule> {
        let message = decode_message(message)
            .ok_or_else(|| Error::unexpected(format_args!("malformed message of schedule {}", stored.name)))?;
        Ok(Schedule {
            name: stored.name.clone(),
            queue: self.name.clone(),
            message,
            paused: stored.is_paused,
            declared: stored.is_declared,
            next_at: next_ticks(stored, now),
            last_at: stored.last_at,
            last_message: stored.last_id.clone().map(MessageRef::Id),
            runs: stored.runs,
            rule: Rule::clone(&stored.rule),
        })
    }

    pub(super) async fn load_schedules(&self, which: WhichSchedules<'_>, extent: Extent) -> Result<LoadedSchedules> {
        self.load_known_schedules(which, extent, |_, _| None).await
    }

    /// Checks the stored parts of a schedule, and returns the problem; `None` if there is no problem.
    pub(super) async fn problem_of_schedule(&self, name: &str) -> Result<Option<String>> {
        let call = Call::new(&scripts::SCHEDULES, &self.keys).arg("full").arg("names").arg(name);
        let mut answer: Vec<Value> = self.call(&scripts::SCHEDULES, call).await?;
        let parts = answer.split_off(answer.len().min(3));
        let (_, state, next, message): (String, String, String, String) = reply::decode(Value::Array(parts))?;
        if state.is_empty() {
            let is_gone = next.is_empty() && message.is_empty();
            return Ok((!is_gone).then(|| "a tick or a message, but no state".into()));
        }
        let Ok(stored) = StoredSchedule::decode(name, &state, &next, |_, _| None) else {
            return Ok(Some("its state can't be read".into()));
        };
        if decode_message(&message).is_none() {
            return Ok(Some("its message is missing or can't be read".into()));
        }
        // A schedule with `end_at` may have ended, because it has no tick after that instant.
        let may_have_ended = stored.has_ended() || stored.rule.end_at.is_some();
        Ok(match stored.next {
            Some(_) if stored.is_paused => Some("paused, but with a next tick".into()),
            None if !stored.is_paused && !may_have_ended => {
                Some("neither paused nor ended, but without a next tick".into())
            }
            _ => None,
        })
    }

    /// Reads schedules. `known` gives the rules that the caller knows, by name and revision, so that they are not parsed again.
    pub(crate) async fn load_known_schedules(
        &self,
        which: WhichSchedules<'_>,
        extent: Extent,
        known: impl Fn(&str, &str) -> Option<Arc<Rule>>,
    ) -> Result<LoadedSchedules> {
        let extent_text = if extent == Extent::Full { "full" } else { "brief" };
        let mut call = Call::new(&scripts::SCHEDULES, &self.keys).arg(extent_text);
        match which {
            WhichSchedules::Named(names) => {
                call.push("names");
                for name in names {
                    call.push(name.as_str());
                }
            }
            WhichSchedules::After(name, limit) => call = call.arg("after").arg(name).arg(limit),
        }
        let mut answer: Vec<Value> = self.call(&scripts::SCHEDULES, call).await?;
        let found_values = answer.split_off(answer.len().min(3));
        let (now_us, queue_exists, has_more): (u64, bool, bool) = reply::decode(Value::Array(answer))?;
        let texts: Vec<String> = reply::decode(Value::Array(found_values))?;
        let mut schedules = Vec::with_capacity(texts.len() / 4);
        for four in texts.chunks_exact(4) {
            let [name, state, next, message] = four else { continue };
            if !state.is_empty() {
                schedules.push((StoredSchedule::decode(name, state, next, &known)?, message.clone()));
            }
        }
        Ok(LoadedSchedules { now_us, queue_exists, has_more, schedules })
    }
}

pub(super) fn now(loaded: &LoadedSchedules) -> Timestamp {
    Timestamp::from_millis(loaded.now_us / 1_000)
}

/// The next ticks that an answer shows. If the stored tick is later than now, it is the first of them, because the schedule has
/// no earlier tick.
fn next_ticks(stored: &StoredSchedule, now: Timestamp) -> Vec<Timestamp> {
    let Some(next) = stored.next else { return Vec::new() };
    let runs_left = stored.rule.max_runs.map_or(u64::MAX, |max| max.unsigned_abs().saturating_sub(stored.runs));
    let count = SHOWN_TICKS.min(usize::try_from(runs_left).unwrap_or(SHOWN_TICKS));
    let just_before = Timestamp::from_millis(next.as_millis().saturating_sub(1));
    stored.rule.ticks_after(just_before.max(now), count)
}

/// The error for a rule that never has a tick.
fn error_without_ticks(rule: &Rule) -> Error {
    match rule.end_at {
        Some(_) => Error::InvalidSchedule {
            field: "end_at",
            problem: "there is no tick from now, or from start_at, until then: give a later instant",
        },
        None => Error::InvalidSchedule { field: "start_at", problem: "there is no tick after it before the year 2200" },
    }
}
