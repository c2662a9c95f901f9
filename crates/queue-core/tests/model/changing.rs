//! Operations on one message (cancel, erase, promote, retry, patch): their random choice, and their execution on the real queue and
//! on the model.

use std::iter::once;

use proptest::{option, prelude::*, sample::select};
use queue_core::{Changed, Error, MessagePatch, MessageRef, Millis};
use serde_json::{Value, json};

use crate::{
    answers::show_changed,
    message::{Lease, MessageNumber, OutcomeKind, State},
    model::{CANCELLED_ERROR, Model},
    model_json::{MESSAGE_NAME, STATES},
    operation::MessageChoice,
    queue_and_model::QueueAndModel,
    run_operation::{EXCLUSIVE_QUEUE, unexpected_answer},
    settings::{Change, Settings},
};

/// A change of one message.
#[derive(Debug, Clone)]
pub(crate) enum MessageChange {
    Cancel,
    Erase,
    Promote,
    Retry,
    Patch(Patch),
}

/// A patch of a message that was never leased.
#[derive(Debug, Clone)]
pub(crate) struct Patch {
    named: Option<bool>,
    priority: Option<i64>,
    delay: Option<u64>,
}

fn random_patch() -> impl Strategy<Value = Patch> {
    let (named, priority) = (option::weighted(0.3, any::<bool>()), option::weighted(0.5, -1..2_i64));
    let delay = option::weighted(0.5, select(vec![0, 0, 100, 500, 2_000]));
    (named, priority, delay).prop_map(|(named, priority, delay)| Patch { named, priority, delay })
}

/// A random operation, and the state that its message should have; `None` for any state.
pub(crate) fn random_message_change() -> impl Strategy<Value = (MessageChange, Option<&'static str>)> {
    let any_state = || select(STATES.to_vec());
    let change_and_state = prop_oneof![
        3 => any_state().prop_map(|state| (MessageChange::Cancel, state)),
        2 => Just((MessageChange::Cancel, "active")),
        2 => any_state().prop_map(|state| (MessageChange::Erase, state)),
        2 => Just((MessageChange::Erase, "completed")),
        2 => Just((MessageChange::Promote, "delayed")),
        3 => Just((MessageChange::Retry, "failed")),
        5 => (random_patch(), select(vec!["held", "delayed", "waiting", "waiting"])).prop_map(|(patch, state)| (MessageChange::Patch(patch), state)),
    ];
    (change_and_state, prop::bool::weighted(0.8))
        .prop_map(|((change, state), is_of_state)| (change, is_of_state.then_some(state)))
}

/// Returns the name that a state has in answers.
pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Held => "held",
        State::DelayedUntil(_) => "delayed",
        State::Waiting => "waiting",
        State::ActiveUntil(_) => "active",
        State::Completed => "completed",
        State::Failed => "failed",
    }
}

fn refused_json(state: State) -> Value {
    json!({"refused": state_name(state)})
}

impl QueueAndModel {
    pub(crate) async fn change_message(
        &mut self,
        change: &MessageChange,
        choice: MessageChoice,
        description: &mut String,
    ) -> Result<(Value, Value), String> {
        let (id, number) = self.choose_message(choice);
        *description = format!("{change:?}({number:?})");
        let (real_answer, model_answer) = match change {
            MessageChange::Cancel => (self.queue.cancel(&id).await, self.model.cancel(number)),
            MessageChange::Erase => (self.queue.erase(&id).await, self.model.erase(number)),
            MessageChange::Promote => (self.queue.promote(&id).await, self.model.promote(number)),
            MessageChange::Retry => (self.queue.retry(&id).await, self.model.retry(number)),
            MessageChange::Patch(patch) => (self.patch(&id, patch).await, self.model.patch(number, patch)),
        };
        let real_answer = match real_answer {
            Err(Error::ExclusiveQueue) => json!(EXCLUSIVE_QUEUE),
            real_answer => show_changed(real_answer.map_err(unexpected_answer)?),
        };
        Ok((real_answer, model_answer))
    }

    async fn patch(&self, id: &MessageRef, patch: &Patch) -> Result<Changed, queue_core::Error> {
        let patch = MessagePatch {
            name: patch.named.map(|named| named.then(|| MESSAGE_NAME.parse().unwrap())),
            priority: patch.priority.map(|priority| Some(priority.try_into().unwrap())),
            delay: patch.delay.map(|delay| Some(Millis::new(delay).try_into().unwrap())),
            ..MessagePatch::default()
        };
        self.queue.patch(id, &patch).await.map(|changed| changed.unwrap())
    }
}

impl Model {
    fn state_of(&self, number: Option<MessageNumber>) -> Option<(MessageNumber, State)> {
        let number = number?;
        Some((number, self.messages.get(&number)?.state))
    }

    pub(crate) fn cancel(&mut self, number: Option<MessageNumber>) -> Value {
        let Some((number, state)) = self.state_of(number) else { return json!("unknown") };
        match state {
            State::ActiveUntil(_) => {
                self.message(number).is_to_be_cancelled = true;
                json!("requested")
            }
            State::Completed | State::Failed => refused_json(state),
            State::Held | State::DelayedUntil(_) | State::Waiting => {
                self.count("cancelled");
                self.finish(number, OutcomeKind::Failed, CANCELLED_ERROR.into());
                self.trim_finished();
                json!("done")
            }
        }
    }

    pub(crate) fn erase(&mut self, number: Option<MessageNumber>) -> Value {
        match self.state_of(number) {
            None => json!("unknown"),
            Some((_, state @ State::ActiveUntil(_))) => refused_json(state),
            Some((number, _)) => {
                self.log_for_each(&[number], "erased");
                self.forget_for_good(number);
                json!("done")
            }
        }
    }

    /// Makes a delayed message ready. A message that blocked an exclusive queue goes to the head of the waiting list.
    pub(crate) fn promote(&mut self, number: Option<MessageNumber>) -> Value {
        match self.state_of(number) {
            None => json!("unknown"),
            Some((number, State::DelayedUntil(_))) => {
                self.log_for_each(&[number], "promoted");
                let now = self.now();
                let message = self.message(number);
                if let Some(run) = &mut message.run {
                    run.ready = Some(now);
                } else {
                    message.ready = Some(now);
                }
                if std::mem::take(&mut self.message(number).blocks_queue) {
                    self.requeue_at_head(vec![number]);
                } else {
                    self.add_at_tail(&[number]);
                }
                json!("done")
            }
            Some((_, state)) => refused_json(state),
        }
    }

    pub(crate) fn retry(&mut self, number: Option<MessageNumber>) -> Value {
        match self.state_of(number) {
            None => json!("unknown"),
            Some((number, State::Failed)) if self.refuses_retry_of(&[number]) => json!(EXCLUSIVE_QUEUE),
            Some((number, State::Failed)) => {
                self.log_for_each(&[number], "retried");
                self.retry_one(number);
                json!("done")
            }
            Some((_, state)) => refused_json(state),
        }
    }

    /// Applies a patch to a message that was never leased.
    fn patch(&mut self, number: Option<MessageNumber>, patch: &Patch) -> Value {
        let Some((number, state)) = self.state_of(number) else { return json!("unknown") };
        let now = self.now();
        let message = self.message(number);
        if message.was_delivered() || !matches!(state, State::Held | State::DelayedUntil(_) | State::Waiting) {
            return refused_json(state);
        }
        message.draft.named = patch.named.unwrap_or(message.draft.named);
        let priority = patch.priority.unwrap_or(message.draft.priority);
        let mut joins_waiting_list = state == State::Waiting && priority != message.draft.priority;
        message.draft.priority = priority;
        let later_due_time = patch.delay.filter(|delay| *delay > 0).map(|delay| (now + delay).max(message.created + 1));
        // A waiting message is due already, so a delay of 0 does not change its due time.
        if later_due_time.is_some() || (patch.delay.is_some() && state != State::Waiting) {
            message.first_due = later_due_time.unwrap_or(now.max(message.created));
            message.ready = None;
            if let Some(run) = &mut message.run {
                run.ready = None;
            }
            if state != State::Held {
                joins_waiting_list = later_due_time.is_none();
                message.state = later_due_time.map_or(State::Waiting, State::DelayedUntil);
            }
        }
        self.log_enqueued(once(number));
        if joins_waiting_list {
            self.add_at_tail(&[number]);
        }
        json!("done")
    }

    /// Whether the queue is exclusive and one of these messages has a group.
    fn refuses_retry_of(&self, numbers: &[MessageNumber]) -> bool {
        self.settings.exclusive.is_some() && numbers.iter().any(|number| self.messages[number].draft.group.is_some())
    }

    pub(crate) fn retry_failed(&mut self) -> Value {
        let failed_messages = self.failed();
        let numbers: Vec<MessageNumber> = failed_messages.iter().map(|(_, number)| *number).collect();
        if self.refuses_retry_of(&numbers) {
            return json!(EXCLUSIVE_QUEUE);
        }
        self.log_for_each(&numbers, "retried");
        for number in numbers {
            self.retry_one(number);
        }
        json!(failed_messages.len())
    }

    /// Makes a failed message ready as if it were new, except that it keeps its deliveries and its last errors, and has no ttl.
    fn retry_one(&mut self, number: MessageNumber) {
        let now = self.now();
        let message = self.message(number);
        let attempt = message.attempts_made();
        let mut run = message.run_so_far();
        let outcome = message.outcome.take().expect("a failed message has an outcome");
        run.add_error(crate::message::AttemptError { attempt, at: outcome.at, json: outcome.json });
        (run.lease, run.started, run.consumer, run.settled) = (Lease::None, None, None, None);
        (run.attempts, run.lapses) = (0, 0);
        run.set_ready_at(Some(now));
        message.run = Some(run);
        message.draft.ttl = None;
        self.add_at_tail(&[number]);
    }

    pub(crate) fn configure(&mut self, change: &Change) -> Value {
        let mut changed_settings = self.settings.clone();
        changed_settings.change(change);
        self.declare();
        let has_groups = self.unfinished_grouped_count() > 0 || self.has_schedule_with_group();
        if changed_settings.exclusive.is_some() && self.settings.exclusive.is_none() && has_groups {
            return json!({"conflict": "exclusive"});
        }
        let settings_before = self.settings.clone();
        self.settings.change(change);
        self.apply_changed_settings(&settings_before);
        self.settings.as_json()
    }

    fn apply_changed_settings(&mut self, settings_before: &Settings) {
        if self.settings.exclusive.is_some() != settings_before.exclusive.is_some() {
            self.owner = None;
            self.messages.values_mut().for_each(|message| message.blocks_queue = false);
        }
        if self.settings.rate_limit.is_none() {
            self.leases_made.clear();
        }
    }

    pub(crate) fn pause(&mut self, is_paused: bool) {
        if self.declare_if_it_exists() {
            self.is_paused = is_paused;
        }
    }

    pub(crate) fn end_ownership(&mut self, consumer: u8) {
        self.owner.take_if(|owner| owner.consumer == consumer);
    }
}
