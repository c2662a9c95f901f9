//! Executes an operation on the real queue and on the model, and formats both results alike.

use deadpool_redis::redis;
use queue_core::{Error, Millis, Signal, State, Timestamp, wakeup::Subscriber};
use serde_json::{Value, json, value::RawValue};

use crate::{
    answers::show_enqueued,
    message::Draft,
    model::Model,
    model_json::{consumer_id, hold_key},
    operation::{ClockStep, MessageChoice, Operation},
    posting::new_message,
    queue_and_model::QueueAndModel,
    ticking::CURRENT_TICK_AGE_MS,
};

/// The answer to a request that would give an exclusive queue a message with a group.
pub(crate) const EXCLUSIVE_QUEUE: &str = "the queue is exclusive";

/// The answers of the real queue and of the model.
pub(crate) struct Answers {
    pub(crate) real: Value,
    pub(crate) model: Value,
    /// A description of the operation, for the history that a failed test prints.
    pub(crate) description: String,
}

pub(crate) fn raw_json(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

#[expect(clippy::needless_pass_by_value, reason = "map_err passes the error by value")]
pub(crate) fn unexpected_answer(error: Error) -> String {
    format!("the queue answers: {error}")
}

pub(crate) const NO_ANSWERS: (Value, Value) = (Value::Null, Value::Null);

impl QueueAndModel {
    pub(crate) async fn execute(&mut self, operation: &Operation) -> Result<Answers, String> {
        let mut description = format!("{operation:?}");
        let (real_answer, model_answer) = match operation {
            Operation::Post(drafts) => self.post(drafts, None).await?,
            Operation::PostOnce(key, fingerprint, drafts) => self.post(drafts, Some((*key, *fingerprint))).await?,
            Operation::Lease(request) => self.lease(request).await?,
            Operation::LeaseAndLoseAnswer(request) => Box::pin(self.lease_and_lose_answer(request)).await?,
            Operation::InterruptPurge => {
                let queue = self.queue.clone();
                // The answer is not lost if the purge takes only one step.
                let _ = Box::pin(self.run_and_lose_answer(1, queue.purge(State::Waiting))).await;
                self.model.interrupt_purge();
                NO_ANSWERS
            }
            Operation::Settle(settlements) => self.settle(settlements, &mut description).await?,
            Operation::Extend(choices, time) => self.extend(choices, *time, &mut description).await?,
            Operation::UndoLeases(choices) => self.undo_leases(choices, &mut description).await?,
            Operation::Report(choice) => self.report(*choice, &mut description).await?,
            Operation::ChangeMessage(what, choice) => self.change_message(what, *choice, &mut description).await?,
            Operation::ChangeSchedule(key, change) => {
                Box::pin(self.change_schedule(*key, change, &mut description)).await?
            }
            Operation::Tick(tick) => Box::pin(self.tick(tick)).await?,
            Operation::WaitFor(choice, time) => Box::pin(self.wait_for(*choice, *time, &mut description)).await?,
            Operation::Crash(number) => {
                self.known_leases.retain(|known| known.consumer != *number);
                NO_ANSWERS
            }
            Operation::Restart => {
                self.restart();
                NO_ANSWERS
            }
            Operation::MoveClock(step) => {
                let micros_before = self.model.micros;
                self.model.move_clock(*step);
                description =
                    format!("MoveClock({} µs)", self.model.micros.cast_signed() - micros_before.cast_signed());
                NO_ANSWERS
            }
            other => self.change_the_queue(other).await.map_err(unexpected_answer)?,
        };
        self.model.update_turns();
        Ok(Answers { real: self.translate_json(&real_answer), model: model_answer, description })
    }

    async fn change_the_queue(&mut self, operation: &Operation) -> Result<(Value, Value), queue_core::Error> {
        let queue = self.queue.clone();
        let answers = match operation {
            Operation::ReturnLostLeases => {
                queue.return_lost_leases().await?;
                self.model.return_lost_leases();
                NO_ANSWERS
            }
            Operation::RetryFailed => {
                let retry_answer = match queue.retry_failed().await {
                    Err(Error::ExclusiveQueue) => json!(EXCLUSIVE_QUEUE),
                    retry_answer => json!(retry_answer?),
                };
                (retry_answer, self.model.retry_failed())
            }
            Operation::Purge(state) => {
                let purged_count = queue.purge(state.parse::<State>().unwrap()).await?;
                (json!(purged_count), json!(self.model.purge(state)))
            }
            Operation::Pause => {
                let queue_existed = false_if_absent(queue.pause().await)?;
                self.model.pause(true);
                (json!(queue_existed), json!(self.model.exists))
            }
            Operation::Resume => {
                let queue_existed = false_if_absent(queue.resume().await)?;
                self.model.pause(false);
                (json!(queue_existed), json!(self.model.exists))
            }
            Operation::Configure(change) => {
                let settings = match queue.configure(&change.as_patch()).await {
                    Err(Error::InvalidSetting(invalid)) => json!({"conflict": invalid.setting}),
                    settings => json!(settings?),
                };
                (settings, self.model.configure(change))
            }
            Operation::Signal(key, has_data, sticky_for) => self.signal(*key, *has_data, *sticky_for).await?,
            Operation::Maintain if !self.model.exists => {
                (json!(false_if_absent(queue.maintain().await.map(drop))?), json!(false))
            }
            Operation::Maintain => {
                let pause = queue.maintain().await?;
                let timer = self.idle_consumers_timer().filter(|timer| *timer > self.model.now());
                let next_call = self.model.maintain().into_iter().chain(timer).min();
                let expected_pause = next_call.map(|instant| self.model.micros_until(instant));
                (json!(pause.map(|pause| pause.as_micros())), json!(expected_pause))
            }
            Operation::Listen => {
                let newest_event = queue.listen().await?;
                let is_new_log = self.model.listen();
                if is_new_log == Some(true) {
                    self.log_begins_at = newest_event;
                }
                (json!(newest_event.is_some()), json!(is_new_log.is_some()))
            }
            Operation::EndOwnership(number) => {
                queue.end_ownership(&consumer_id(*number).parse().unwrap()).await?;
                self.model.end_ownership(*number);
                NO_ANSWERS
            }
            Operation::Delete => {
                let answers = (json!(queue.delete().await?), json!(self.model.delete()));
                // When many messages are posted at one instant, their ids run ahead of the clock, but the ids of a new queue start from
                // the clock. Therefore the clock advances after a deletion beyond all ids of the deleted queue.
                self.model.micros = self.model.micros.max(self.model.latest_micros) + 10_000;
                answers
            }
            Operation::LoseName => {
                for index in ["drover:queues", "drover:schedules"] {
                    redis::cmd("ZREM").arg(index).arg("q").exec(&mut self.raw).unwrap();
                }
                (self.model.is_listed, self.model.is_listed_with_schedules) = (false, false);
                NO_ANSWERS
            }
            Operation::RestoreUsedNames => {
                self.queues.restore_used_names().await?;
                self.model.restore_used_name();
                NO_ANSWERS
            }
            Operation::RestoreAllNames => {
                self.queues.restore_all_names().await?;
                self.model.is_listed |= self.model.exists;
                self.model.is_listed_with_schedules |= !self.model.schedules.is_empty();
                NO_ANSWERS
            }
            other => unreachable!("`execute` handles {other:?}"),
        };
        Ok(answers)
    }

    async fn signal(
        &mut self,
        key: u8,
        has_data: bool,
        sticky_for: Option<u64>,
    ) -> Result<(Value, Value), queue_core::Error> {
        let key_text = hold_key(key).parse().unwrap();
        let data = has_data.then(|| format!("[\"signal at\", {}]", self.model.micros));
        // A signal without data that is not sticky first deletes the sticky signal, so that the test deletes sticky signals, too.
        let is_plain = !has_data && sticky_for.is_none();
        let was_forgotten = is_plain && self.queue.forget_signal(&key_text).await?;
        let signal = Signal {
            data: data.as_deref().map(raw_json),
            sticky_for: sticky_for.map(|time| Millis::new(time).try_into().unwrap()),
        };
        let signalled = self.queue.signal(&key_text, &signal).await?;
        let sticky_until = signalled.sticky_until.map(Timestamp::as_millis);
        let now = self.model.now();
        let removed_signal = if is_plain { self.model.sticky.remove(&key) } else { None };
        let was_sticky = removed_signal.is_some_and(|signal| signal.until > now);
        let model_released_count = self.model.signal(key, data.as_ref(), sticky_for);
        let model_sticky_until = sticky_for.map(|time| now + time);
        Ok((
            json!([was_forgotten, signalled.released, sticky_until]),
            json!([was_sticky, model_released_count, model_sticky_until]),
        ))
    }

    async fn wait_for(
        &mut self,
        choice: MessageChoice,
        time: u64,
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let (id, number) = self.choose_message(choice);
        *description = format!("WaitFor({number:?}, {time})");
        let Some(number) = number.filter(|number| self.model.is_unfinished(*number)) else { return Ok(NO_ANSWERS) };
        let subscriber = Subscriber::new(self.redis());
        let queue = self.queue.clone();
        // The call runs two scripts: the first script reads the message, the second script records the wait.
        Box::pin(self.run_and_lose_answer(2, queue.read_when_finished(&id, Millis::new(time), &subscriber))).await?;
        self.model.wait_for(number, time);
        Ok(NO_ANSWERS)
    }

    async fn post(&mut self, drafts: &[Draft], once: Option<(u8, u8)>) -> Result<(Value, Value), String> {
        let (first_number, now) = (self.model.posted, self.model.now());
        // A duplicate gets no number, so the model determines the number of each draft.
        let numbers = self.model.numbers_for(drafts);
        let messages = drafts.iter().zip(numbers).map(|(draft, number)| new_message(draft, number, now)).collect();
        let answer = match once {
            None => self.queue.enqueue(messages).await,
            Some((key, fingerprint)) => {
                let key = format!("request-{key}").parse().unwrap();
                self.queue.enqueue_once(messages, &key, &format!("fp{fingerprint}")).await
            }
        };
        let model_answer = self.model.post(drafts, once);
        self.learn_ids(self.model.posted - first_number)?;
        let real_answer = match answer {
            Ok(enqueued) => enqueued.iter().map(show_enqueued).collect(),
            Err(Error::QueueFull(max_length)) => json!({"the queue is full": max_length}),
            Err(Error::ExclusiveQueue) => json!(EXCLUSIVE_QUEUE),
            Err(Error::KeyReused) => json!("the key was used for another request"),
            Err(other) => return Err(unexpected_answer(other)),
        };
        Ok((real_answer, model_answer))
    }
}

/// Converts the result of a change to `true`, or to `false` if the queue does not exist.
fn false_if_absent(done: Result<(), queue_core::Error>) -> Result<bool, queue_core::Error> {
    match done {
        Ok(()) => Ok(true),
        Err(Error::NoSuchQueue) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Model {
    fn move_clock(&mut self, step: ClockStep) {
        let window_end = self.settings.rate_limit.and_then(|limit| Some(self.leases_made.first()? + limit.duration));
        let tick_instants = self.schedules.values().filter_map(|schedule| schedule.next);
        let tick_instants = tick_instants.flat_map(|tick| [tick, tick + CURRENT_TICK_AGE_MS]);
        let owner_timeout_end = self.owner.as_ref().map(|owner| owner.until);
        let instants = self.next_instant().into_iter().chain(window_end).chain(owner_timeout_end).chain(tick_instants);
        let next_instant = instants.filter(|instant| *instant > self.now()).min();
        let micros_to_next = next_instant.map_or(1_000, |next_instant| self.micros_until(next_instant));
        self.latest_micros = self.latest_micros.max(self.micros);
        match step {
            ClockStep::Micros(micros) => self.micros += micros,
            // The clock steps back only if the queue has a last id, which makes later ids higher. Without a last id, a queue that
            // is created again would issue the ids of the deleted queue again.
            ClockStep::Back(micros) => self.micros -= if self.last.is_some() { micros } else { 0 },
            ClockStep::ToNext => self.micros += micros_to_next,
            ClockStep::AlmostToNext => self.micros += micros_to_next - 1,
        }
    }

    pub(crate) fn micros_until(&self, instant: u64) -> u64 {
        (instant * 1_000).saturating_sub(self.micros)
    }

    /// The number that each draft gets if it is stored.
    fn numbers_for(&self, drafts: &[Draft]) -> Vec<usize> {
        let mut seen_own_ids = vec![];
        let mut next_number = self.posted;
        let mut number_of = |draft: &Draft| {
            let number = next_number;
            let is_known = |id| self.find_by_own_id(id).or_else(|| self.number_if_taken(id)).is_some();
            let is_duplicate = draft.own_id.is_some_and(|id| is_known(id) || seen_own_ids.contains(&id));
            seen_own_ids.extend(draft.own_id);
            next_number += usize::from(!is_duplicate);
            number
        };
        drafts.iter().map(&mut number_of).collect()
    }
}
