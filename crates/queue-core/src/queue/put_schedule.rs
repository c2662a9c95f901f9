//! Defines schedules: clients and the configuration create schedules and replace their definitions.

use std::sync::Arc;

use tracing::warn;

use crate::{
    error::{Error, Result},
    limits,
    names::{QueueName, ScheduleName},
    queue::{
        Call, Queue,
        declare::IfAbsent,
        index,
        load_schedules::{LoadedSchedules, ScheduleParts},
        schedules::{MAX_TRIES, show_schedule},
    },
    redis::{keys, scripts},
    schedule::{
        NewSchedule, Schedule,
        rule::Rule,
        stored::{EncodedSchedule, ParsedRules, are_messages_equal},
    },
    time::Timestamp,
};

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
            let (definition, needed_write) = self
                .calculations
                .run(move || {
                    let needed_write =
                        definition.compare_with_stored(&queue, fetched_schedules.decode(&ParsedRules::new()));
                    (definition, needed_write)
                })
                .await?;
            let (known_revision, revision, next_tick) = match needed_write? {
                NeededWrite::Nothing(schedule) => return Ok(PutSchedule::Existed(*schedule)),
                NeededWrite::Store { known_revision, revision, next_tick } => (known_revision, revision, next_tick),
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
}

/// A definition of a schedule, in the form in which it is stored.
struct Definition {
    rule: Rule,
    encoded_schedule: EncodedSchedule,
    defined_by: DefinedBy,
}

/// The write to Redis, if any, by which a schedule gets its new definition.
enum NeededWrite {
    /// The definition is equal to the stored definition, so nothing is to be stored.
    Nothing(Box<Schedule>),
    /// The definition is to be stored.
    Store {
        /// The revision of the stored definition; `None` if the schedule does not exist.
        known_revision: Option<String>,
        /// The revision of the definition that is to be stored.
        revision: String,
        /// The next tick of the schedule under the definition that is to be stored.
        next_tick: Timestamp,
    },
}

impl Definition {
    /// Compares the definition with the stored definition.
    fn compare_with_stored(&self, queue: &QueueName, loaded: LoadedSchedules) -> Result<NeededWrite> {
        let now = loaded.now();
        let Some((known_schedule, message)) = loaded.into_single_schedule()? else {
            return Ok(NeededWrite::Store {
                known_revision: None,
                revision: new_revision(),
                next_tick: self.next_tick_after(now)?,
            });
        };
        if *known_schedule.rule != self.rule || !are_messages_equal(&message, &self.encoded_schedule.message) {
            let next_tick = self.next_tick_after(known_schedule.next_tick_bound(now))?;
            let known_revision = Some(known_schedule.revision);
            return Ok(NeededWrite::Store { known_revision, revision: new_revision(), next_tick });
        }
        if known_schedule.is_declared || self.defined_by == DefinedBy::Client {
            let schedule = show_schedule(queue, &known_schedule, &message, now)?;
            return Ok(NeededWrite::Nothing(Box::new(schedule)));
        }
        // The stored definition keeps its revision, because only the flag is added which says that the configuration declares the
        // schedule.
        let next_tick = known_schedule.next.unwrap_or(now);
        let (known_revision, revision) = (Some(known_schedule.revision.clone()), known_schedule.revision);
        Ok(NeededWrite::Store { known_revision, revision, next_tick })
    }

    fn next_tick_after(&self, after: Timestamp) -> Result<Timestamp> {
        self.rule.next_after(after).ok_or_else(|| error_for_rule_without_ticks(&self.rule))
    }
}

fn new_revision() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// The error for a rule that never has a tick.
fn error_for_rule_without_ticks(rule: &Rule) -> Error {
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
