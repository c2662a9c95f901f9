//! Operations on schedules: their random choice, and their execution on the real queue and on the model.

use proptest::{option, prelude::*, sample::select};
use queue_core::{DefinedBy, Error, PutSchedule, Timestamp, schedule::NewSchedule};
use serde_json::{Value, json};

use crate::{
    answers::show_message,
    message::{Draft, Due, Instant},
    operation::random_new_message,
    queue_and_model::QueueAndModel,
    run_operation::{NO_ANSWERS, unexpected_answer},
    schedules::{Definition, Missed, Origin, Overlap, Schedule, ScheduleKey, schedule_name},
    ticking::{ScheduleKnowledge, Tick},
};

/// A change of one schedule, or a use of it.
#[derive(Debug, Clone)]
pub(crate) enum ScheduleChange {
    Put(Box<NewDefinition>, Origin),
    /// The definition that a schedule has is put again.
    PutAgain(Origin),
    Pause,
    Resume,
    Delete,
    /// The message of the schedule is posted now.
    Run,
}

/// A definition whose instants are relative to the instant at which it is put.
#[derive(Debug, Clone)]
pub(crate) struct NewDefinition {
    definition: Definition,
    starts_in: Option<u64>,
    /// The time (ms) from the start of the schedule, or from now if there is no start, to the end of the schedule.
    ends_in: Option<u64>,
}

impl NewDefinition {
    fn at(&self, now: Instant) -> Definition {
        let start_at = self.starts_in.map(|pause| now + pause);
        let end_at = self.ends_in.map(|pause| start_at.unwrap_or(now) + pause);
        Definition { start_at, end_at, ..self.definition.clone() }
    }
}

/// A random change, and the schedule that it changes.
pub(crate) fn random_schedule_change() -> impl Strategy<Value = (ScheduleKey, ScheduleChange)> {
    let origin = || prop_oneof![3 => Just(Origin::Client), 1 => Just(Origin::Configuration)];
    let change = prop_oneof![
        6 => (random_definition(), origin()).prop_map(|(definition, origin)| ScheduleChange::Put(Box::new(definition), origin)),
        2 => origin().prop_map(ScheduleChange::PutAgain),
        2 => Just(ScheduleChange::Pause),
        3 => Just(ScheduleChange::Resume),
        1 => Just(ScheduleChange::Delete),
        2 => Just(ScheduleChange::Run),
    ];
    (0..3_u8, change)
}

fn random_definition() -> impl Strategy<Value = NewDefinition> {
    let rule = (select(vec![1_000, 1_000, 2_000, 5_000]), select(vec![0, 0, 300]), option::weighted(0.4, 1..5_u64));
    let instants = (
        option::weighted(0.2, select(vec![0, 1_500, 12_000])),
        option::weighted(0.3, select(vec![0, 500, 2_000, 5_000, 60_000])),
    );
    let missed = select(vec![Missed::Skip, Missed::One, Missed::All]);
    let overlap = select(vec![Overlap::Allow, Overlap::Skip]);
    let message = random_new_message().prop_map(|draft| Draft { due: Due::Now, own_id: None, ..draft });
    (rule, instants, missed, overlap, message, 0..3_usize).prop_map(
        |((every, offset, max_runs), (starts_in, ends_in), missed, overlap, message, data)| {
            let (start_at, end_at) = (None, None);
            let definition = Definition { every, offset, start_at, end_at, max_runs, missed, overlap, message, data };
            NewDefinition { definition, starts_in, ends_in }
        },
    )
}

pub(crate) fn random_tick() -> impl Strategy<Value = Tick> {
    let knowledge = prop_oneof![2 => Just(ScheduleKnowledge::Fresh), 1 => Just(ScheduleKnowledge::Old)];
    let ahead = prop_oneof![6 => Just(0), 1 => select(vec![1, 1_000, 12_000]), 1 => select(vec![-1, -1_000, -12_000])];
    (0..2_u8, knowledge, ahead, 1..6_usize).prop_map(|(process, knowledge, ahead, max_posts)| Tick {
        process,
        knowledge,
        ahead,
        max_posts,
    })
}

impl QueueAndModel {
    /// Chooses the schedule to change: any for a put, an existing one for other changes, one that is not paused for a pause, and a
    /// paused one for a resume. If no schedule can be changed in this way, chooses the schedule with the number `key`.
    fn choose_schedule(&self, key: ScheduleKey, change: &ScheduleChange) -> ScheduleKey {
        let can_change = |schedule: &&Schedule| match change {
            ScheduleChange::Put(..) => false,
            ScheduleChange::Pause => !schedule.is_paused,
            ScheduleChange::Resume => schedule.is_paused,
            _ => true,
        };
        let suitable_keys =
            self.model.schedules.iter().filter(|(_, schedule)| can_change(schedule)).map(|(key, _)| *key);
        let suitable_keys: Vec<ScheduleKey> = suitable_keys.collect();
        suitable_keys.get(usize::from(key) % suitable_keys.len().max(1)).copied().unwrap_or(key)
    }

    pub(crate) async fn change_schedule(
        &mut self,
        key: ScheduleKey,
        change: &ScheduleChange,
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let key = self.choose_schedule(key, change);
        *description = format!("{change:?}({})", schedule_name(key));
        let (queue, name) = (self.queue.clone(), schedule_name(key).parse().unwrap());
        let answers = match change {
            ScheduleChange::Put(definition, origin) => {
                let definition = definition.at(self.model.now());
                self.put_schedule(key, &definition, *origin).await?
            }
            ScheduleChange::PutAgain(origin) => match self.model.schedules.get(&key) {
                Some(schedule) => {
                    let definition = schedule.definition.clone();
                    self.put_schedule(key, &definition, *origin).await?
                }
                None => NO_ANSWERS,
            },
            ScheduleChange::Pause => {
                let existed = queue.pause_schedule(&name).await.map_err(unexpected_answer)?;
                (json!(existed), json!(self.model.pause_schedule(key)))
            }
            ScheduleChange::Resume => {
                let existed = queue.resume_schedule(&name).await.map_err(unexpected_answer)?;
                (json!(existed), json!(self.model.resume_schedule(key)))
            }
            ScheduleChange::Delete => {
                let existed = queue.delete_schedule(&name).await.map_err(unexpected_answer)?;
                (json!(existed), json!(self.model.schedules.remove(&key).is_some()))
            }
            ScheduleChange::Run => {
                let first_number = self.model.posted;
                let run = queue.run_schedule(&name).await;
                let model_answer = self.model.run_schedule(key);
                self.learn_ids(self.model.posted - first_number)?;
                let real_answer = match run {
                    Ok(posted) => posted.map_or(Value::Null, |message| json!([{"created": show_message(&message)}])),
                    Err(Error::QueueFull(max_length)) => json!({"the queue is full": max_length}),
                    Err(other) => return Err(unexpected_answer(other)),
                };
                (real_answer, model_answer)
            }
        };
        Ok(answers)
    }

    async fn put_schedule(
        &mut self,
        key: ScheduleKey,
        definition: &Definition,
        origin: Origin,
    ) -> Result<(Value, Value), String> {
        let name = schedule_name(key);
        let new_schedule: NewSchedule = serde_json::from_value(definition.as_json()).unwrap();
        let defined_by = match origin {
            Origin::Client => DefinedBy::Client,
            Origin::Configuration => DefinedBy::Configuration,
        };
        let real_answer = match self.queue.put_schedule(&name.parse().unwrap(), new_schedule, defined_by).await {
            Ok(PutSchedule::Created(schedule)) => json!({"created": schedule}),
            Ok(PutSchedule::Existed(schedule)) => json!({"existed": schedule}),
            Err(Error::ExclusiveQueue) => json!(crate::run_operation::EXCLUSIVE_QUEUE),
            Err(Error::InvalidSchedule { field, .. }) => json!({"invalid": field}),
            Err(other) => return Err(unexpected_answer(other)),
        };
        let definitions_before = self.model.definitions;
        let model_answer = self.model.put_schedule(key, definition, origin);
        if self.model.definitions > definitions_before {
            let known_schedules = self.queue.read_schedules_to_tick().await.map_err(unexpected_answer)?;
            self.learn_revision(&known_schedules, &name, self.model.definitions);
        }
        Ok((real_answer, model_answer))
    }

    pub(crate) async fn tick(&mut self, tick: &Tick) -> Result<(Value, Value), String> {
        if tick.knowledge == ScheduleKnowledge::Fresh {
            let known_schedules = self.queue.read_schedules_to_tick().await.map_err(unexpected_answer)?;
            self.known_schedules.insert(tick.process, known_schedules);
            self.model.read_schedules(tick.process);
        }
        let Some(known_schedules) = self.known_schedules.get(&tick.process) else { return Ok(NO_ANSWERS) };
        let now = Timestamp::from_millis(self.model.now_of_process(tick.ahead));
        let outcomes =
            self.queue.tick_known_schedules(known_schedules, now, tick.max_posts).await.map_err(unexpected_answer)?;
        let real_outcomes = outcomes.iter().map(|(schedule, ticked)| {
            json!({
                "schedule": schedule,
                "posted": ticked.posted,
                "left_out": ticked.left_out,
                "revision": ticked.revision,
                "next": ticked.next.map(Timestamp::as_millis),
            })
        });
        let real_outcomes = real_outcomes.collect();
        let first_number = self.model.posted;
        let model_outcomes = self.model.tick(tick);
        self.learn_ids(self.model.posted - first_number)?;
        Ok((real_outcomes, model_outcomes))
    }
}
