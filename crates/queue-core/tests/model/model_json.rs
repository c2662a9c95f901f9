//! The JSON in which the model shows messages and the status, to compare them with the real queue's.

use serde_json::{Map, Value, json};

use crate::{
    changing::state_name,
    message::{AttemptError, MessageNumber, Outcome, OutcomeKind, State},
    model::Model,
    posting::shown_id,
    schedules::schedule_name,
};

pub(crate) const STATES: [&str; 6] = ["held", "delayed", "waiting", "active", "completed", "failed"];
const TOTALS: [&str; 8] = ["enqueued", "completed", "failed", "retried", "lapsed", "expired", "cancelled", "scheduled"];

pub(crate) fn own_id(own_id: u8) -> String {
    format!("order {own_id}")
}

pub(crate) fn hold_key(key: u8) -> String {
    format!("key {key}")
}

pub(crate) fn group_key(key: u8) -> String {
    format!("group {key}")
}

pub(crate) fn consumer_id(consumer: u8) -> String {
    format!("consumer-{consumer}")
}

pub(crate) const MESSAGE_NAME: &str = "welcome";

impl Model {
    pub(crate) fn message_json(&self, number: MessageNumber) -> Value {
        let message = &self.messages[&number];
        let run = message.run_so_far();
        let due = match message.state {
            State::DelayedUntil(due) => due,
            _ => message.first_due,
        };
        let (outcome, posted_by) = (message.outcome.as_ref(), message.draft.posted_by);
        let (is_completed, is_held) = (message.state == State::Completed, message.state == State::Held);
        let mut errors = run.errors;
        if let Some(Outcome { end: OutcomeKind::AttemptFailed | OutcomeKind::Failed, at, json }) = outcome {
            errors.push(AttemptError { attempt: message.attempts_made(), at: *at, json: json.clone() });
        }
        let all_errors =
            errors.iter().map(|error| json!({"attempt": error.attempt, "at": error.at, "json": error.json}));
        json!({
            "id": message.draft.own_id.map_or(shown_id(number), own_id),
            "name": message.draft.named.then_some(MESSAGE_NAME),
            "group": message.draft.group.map(group_key),
            "state": state_name(message.state),
            "data": posted_by.map_or(number, |by| by.data).to_string(),
            "priority": message.draft.priority,
            "delay": message.first_due - message.created,
            "max_attempts": message.draft.max_attempts.unwrap_or(self.settings.max_attempts),
            "attempts_made": message.attempts_made(),
            "deliveries": run.deliveries,
            "lapses": run.lapses,
            "created": message.created,
            "due": due,
            "started": run.started,
            "finished": outcome.map(|outcome| outcome.at),
            "expires": message.draft.ttl.map(|ttl| message.created + ttl),
            "hold": message.draft.hold.filter(|_| is_held).map(hold_key),
            "signal": message.signal,
            "consumer": run.consumer.map(consumer_id),
            "progress": message.progress,
            "result": outcome.filter(|_| is_completed).map(|outcome| &outcome.json),
            "has_error": !is_completed && !errors.is_empty(),
            "errors": all_errors.collect::<Vec<_>>(),
            "schedule": posted_by.map(|by| schedule_name(by.schedule)),
            "scheduled": posted_by.map(|by| by.at),
        })
    }

    pub(crate) fn message_json_if_kept(&self, number: Option<MessageNumber>) -> Value {
        number.filter(|number| self.is_kept(*number)).map_or(Value::Null, |number| self.message_json(number))
    }

    pub(crate) fn status(&self) -> Value {
        if !self.exists {
            return Value::Null;
        }
        let counts: Map<String, Value> =
            STATES.iter().map(|state| ((*state).to_owned(), json!(self.list(state).len()))).collect();
        let total_counts: Map<String, Value> =
            TOTALS.iter().map(|total| ((*total).to_owned(), json!(self.total(total)))).collect();
        json!({
            "paused": self.is_paused,
            "counts": counts,
            "oldest_waiting_age": self.oldest_waiting_age(),
            "settings": self.settings.as_json(),
            "totals": total_counts,
            "schedules": self.schedules.len(),
        })
    }

    /// Returns the age of the oldest of a few messages: the head of the waiting list, the first message with a priority, and of
    /// the first messages of all groups the one with the lowest id.
    fn oldest_waiting_age(&self) -> Option<u64> {
        let first_waiting = self.waiting_list.iter().find(|number| self.is_waiting(**number)).copied();
        let first_prioritized = self.prioritized().first().map(|(_, number)| *number);
        let first_of_groups = self.group_heads().first().copied();
        let oldest_candidates = first_waiting.into_iter().chain(first_prioritized).chain(first_of_groups);
        let ready_instants = oldest_candidates.map(|number| self.ready_since(number));
        ready_instants.min().map(|ready_instants| self.now().saturating_sub(ready_instants))
    }

    /// The messages of one state, in the order in which they are listed.
    pub(crate) fn list(&self, state: &str) -> Vec<MessageNumber> {
        fn numbers<K>(sorted: Vec<(K, MessageNumber)>) -> Vec<MessageNumber> {
            sorted.into_iter().map(|(_, number)| number).collect()
        }
        match state {
            "held" => numbers(self.held()),
            "delayed" => numbers(self.delayed()),
            "active" => numbers(self.active()),
            "completed" => self.completed.iter().rev().copied().filter(|number| self.is_kept(*number)).collect(),
            "failed" => numbers(self.failed()).into_iter().rev().collect(),
            _ => {
                let (before, after): (Vec<_>, Vec<_>) =
                    self.prioritized().into_iter().partition(|(priority, _)| *priority < 0);
                let waiting_numbers = self.waiting_list.iter().copied().filter(|number| self.is_waiting(*number));
                let without_group = numbers(before).into_iter().chain(waiting_numbers).chain(numbers(after));
                without_group.chain(self.group_heads()).chain(self.group_rest()).collect()
            }
        }
    }
}
