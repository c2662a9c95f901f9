//! The schedules of a queue: clients and the configuration create, read, pause and delete them.

use std::sync::Arc;

use crate::{
    error::{Error, Result},
    limits,
    message::{Message, MessageRef, record::EncodedMessage},
    names::{QueueName, ScheduleName},
    queue::{
        Call, Enqueued, Queue,
        declare::IfAbsent,
        enqueue::WhenFull,
        index,
        load_schedules::{LoadedSchedules, ScheduleParts, WhichSchedules},
    },
    redis::{keys, scripts},
    schedule::{
        NewSchedule, Schedule,
        rule::Rule,
        stored::{EncodedSchedule, KnownRules, StoredSchedule, are_messages_equal, decode_message},
    },
    time::Timestamp,
};
use tracing::warn;

/// The number of next ticks that an answer about a schedule shows.
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

impl Queue {
    /// The maximum number of schedules of a queue.
    pub const MAX_SCHEDULES: usize = limits::MAX_SCHEDULES;

    /// Creates a schedule, or replaces its definition; an equal definition changes nothing, even if the JSON of its data has another form.
    /// Creates the queue if it does not exist.
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
        let encoded_schedule = EncodedSchedule::of(name, &rule, &message, defined_by == DefinedBy::Configuration);
        if encoded_schedule.bytes > limits::MAX_BYTES {
            return Err(Error::TooManyBytes(encoded_schedule.bytes));
        }
        let definition = Arc::new(Definition { rule, encoded_schedule, defined_by });
        for _ in 0..MAX_TRIES {
            let fetched_schedules = self.fetch_schedule(name, ScheduleParts::Full).await?;
            let (definition, queue) = (Arc::clone(&definition), self.name.clone());
            let (definition, step) = self
                .calculations
                .run(move || {
                    let step = definition.compare_with_stored(&queue, fetched_schedules.decode(&KnownRules::new()));
                    (definition, step)
                })
                .await?;
            let (known_revision, revision, next_tick) = match step? {
                PutStep::Nothing(schedule) => return Ok(PutSchedule::Existed(*schedule)),
                PutStep::Store { known_revision, revision, next_tick } => (known_revision, revision, next_tick),
            };
            // The name of the queue is added before the schedule is stored, because a name without schedules is harmless.
            index::add_if_absent(&self.redis, keys::QUEUES_WITH_SCHEDULES, &self.name).await?;
            let was_stored: bool = self
                .call_declared(IfAbsent::Create, &scripts::PUT_SCHEDULE, |epoch| {
                    let EncodedSchedule { max_runs, flags, rule, message, bytes } = &definition.encoded_schedule;
                    let call = Call::new(&scripts::PUT_SCHEDULE, &self.keys).arg(epoch).arg(name.as_str());
                    let call = call
                        .arg(known_revision.as_deref().unwrap_or_default())
                        .arg(&revision)
                        .arg(max_runs)
                        .arg(flags)
                        .arg(*bytes);
                    call.arg(rule).arg(message).arg(next_tick.as_millis())
                })
                .await?;
            if was_stored {
                index::add_if_absent(&self.redis, keys::QUEUES_WITH_SCHEDULES, &self.name).await?;
                if let Some(schedule) = self.schedule(name).await? {
                    return Ok(match known_revision {
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
        let fetched_schedules = self.fetch_schedule(name, ScheduleParts::Full).await?;
        let queue = self.name.clone();
        let show = move || {
            let loaded_schedules = fetched_schedules.decode(&KnownRules::new());
            let now = loaded_schedules.now();
            let single_schedule = loaded_schedules.into_single()?;
            single_schedule.map(|(stored, message)| show_schedule(&queue, &stored, &message, now)).transpose()
        };
        self.calculations.run(show).await?
    }

    /// The schedules that come after a name, in the order of their names, up to `limit` and 4 MiB, and whether more follow. `None` if
    /// the queue does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn schedules(&self, after: Option<&ScheduleName>, limit: usize) -> Result<Option<(Vec<Schedule>, bool)>> {
        let which_schedules = WhichSchedules::After(after.map_or("", ScheduleName::as_str), limit);
        let fetched_schedules = self.fetch_schedules(which_schedules, ScheduleParts::Full).await?;
        let queue = self.name.clone();
        let show = move || {
            let loaded_schedules = fetched_schedules.decode(&KnownRules::new());
            if !loaded_schedules.queue_exists {
                return Ok(None);
            }
            let (now, has_more) = (loaded_schedules.now(), loaded_schedules.has_more);
            let shown_schedules = loaded_schedules.schedules.into_iter().map(|schedule| {
                let (stored, message) = schedule?;
                show_schedule(&queue, &stored, &message, now)
            });
            Ok(Some((shown_schedules.collect::<Result<_>>()?, has_more)))
        };
        self.calculations.run(show).await?
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
            let fetched_schedules = self.fetch_schedule(name, ScheduleParts::Brief).await?;
            let find_next_tick = move || {
                let loaded_schedules = fetched_schedules.decode(&KnownRules::new());
                let now = loaded_schedules.now();
                let Some((stored, _)) = loaded_schedules.into_single()? else { return Ok::<_, Error>(None) };
                let next_tick =
                    if stored.has_ended() { None } else { stored.rule.next_after(stored.next_tick_bound(now)) };
                Ok(Some((stored.revision, next_tick)))
            };
            let Some((revision, next_tick)) = self.calculations.run(find_next_tick).await?? else { return Ok(false) };
            match self.change_schedule(name, "resume", Some((&revision, next_tick))).await? {
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

    /// Posts the message of a schedule now, even if the schedule is paused or has ended. A message that is posted by `run_schedule`
    /// does not count as a run of the schedule, and the ticks of the schedule stay as they are. Returns `None` if the schedule does
    /// not exist.
    ///
    /// If Redis does not answer, the message may be stored or not, and is not sent to Redis again.
    ///
    /// # Errors
    ///
    /// The errors of [`enqueue`](Self::enqueue).
    pub async fn run_schedule(&self, name: &ScheduleName) -> Result<Option<Message>> {
        let which_schedules = WhichSchedules::Named(std::slice::from_ref(name));
        let loaded_schedules = self.load_schedules(which_schedules, ScheduleParts::Full).await?;
        let now = loaded_schedules.now();
        let Some((_, text)) = loaded_schedules.into_single()? else { return Ok(None) };
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
}

/// A definition of a schedule, in the form in which it is stored.
struct Definition {
    rule: Rule,
    encoded_schedule: EncodedSchedule,
    defined_by: DefinedBy,
}

/// The next step of a call that defines a schedule.
enum PutStep {
    /// The definition is equal to the stored definition, so nothing is to be stored.
    Nothing(Box<Schedule>),
    /// The definition is to be stored.
    Store {
        /// The revision of the stored definition; `None` if the schedule does not exist.
        known_revision: Option<String>,
        /// The revision of the definition that is to be stored.
        revision: String,
        /// The first tick of the definition.
        next_tick: Timestamp,
    },
}

impl Definition {
    /// Compares the definition with the stored definition.
    fn compare_with_stored(&self, queue: &QueueName, loaded: LoadedSchedules) -> Result<PutStep> {
        let now = loaded.now();
        let Some((known_schedule, message)) = loaded.into_single()? else {
            return Ok(PutStep::Store {
                known_revision: None,
                revision: new_revision(),
                next_tick: self.next_tick_after(now)?,
            });
        };
        if *known_schedule.rule != self.rule || !are_messages_equal(&message, &self.encoded_schedule.message) {
            let next_tick = self.next_tick_after(known_schedule.next_tick_bound(now))?;
            let known_revision = Some(known_schedule.revision);
            return Ok(PutStep::Store { known_revision, revision: new_revision(), next_tick });
        }
        if known_schedule.is_declared || self.defined_by == DefinedBy::Client {
            let schedule = show_schedule(queue, &known_schedule, &message, now)?;
            return Ok(PutStep::Nothing(Box::new(schedule)));
        }
        // The stored definition keeps its revision, because only its flags change.
        let next_tick = known_schedule.next.unwrap_or(now);
        let (known_revision, revision) = (Some(known_schedule.revision.clone()), known_schedule.revision);
        Ok(PutStep::Store { known_revision, revision, next_tick })
    }

    fn next_tick_after(&self, after: Timestamp) -> Result<Timestamp> {
        self.rule.next_after(after).ok_or_else(|| error_without_ticks(&self.rule))
    }
}

fn new_revision() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// Returns a schedule as clients read it.
fn show_schedule(queue: &QueueName, stored: &StoredSchedule, message: &str, now: Timestamp) -> Result<Schedule> {
    let message = decode_message(message)
        .ok_or_else(|| Error::unexpected(format_args!("malformed message of schedule {}", stored.name)))?;
    Ok(Schedule {
        name: stored.name.clone(),
        queue: queue.clone(),
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

/// Returns the next ticks of a schedule that an answer shows. A stored next tick that is later than now is the first of these ticks,
/// because the schedule has no earlier tick.
fn next_ticks(stored: &StoredSchedule, now: Timestamp) -> Vec<Timestamp> {
    let Some(next) = stored.next else { return Vec::new() };
    let runs_left = stored.rule.max_runs.map_or(u64::MAX, |max| max.unsigned_abs().saturating_sub(stored.runs));
    let tick_count = SHOWN_TICKS.min(usize::try_from(runs_left).unwrap_or(SHOWN_TICKS));
    let just_before_next = Timestamp::from_millis(next.as_millis().saturating_sub(1));
    stored.rule.ticks_after(just_before_next.max(now), tick_count)
}

/// The error for a rule that never has a tick.
fn error_without_ticks(rule: &Rule) -> Error {
    match rule.end_at {
        Some(_) => Error::InvalidSchedule {
            field: "end_at",
            problem: "there is no tick from now, or from start_at, until end_at: give a later end_at",
        },
        None => {
            Error::InvalidSchedule { field: "start_at", problem: "there is no tick from start_at to the year 2200" }
        }
    }
}
