//! The event log in the model, written while a client listens.

use queue_core::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    message::{Instant, Message, MessageNumber, State},
    model::Model,
    model_json::{MESSAGE_NAME, consumer_id, group_key, hold_key, own_id},
    posting::shown_id,
    schedules::schedule_name,
};

/// The time (ms) for which events are logged after the last listener.
const LOG_KEPT_FOR_MS: u64 = 11 * 60 * 1_000;

/// The log of events.
#[derive(Default)]
pub(crate) struct EventLog {
    pub(crate) listened_until: Option<Instant>,
    /// The events since the log began, in the form that readers see; `None` before the first listener.
    pub(crate) events: Option<Vec<Value>>,
}

/// An event that is not logged yet.
pub(crate) struct NewEvent {
    number: MessageNumber,
    kind: &'static str,
    fields: Map<String, Value>,
}

impl NewEvent {
    pub(crate) fn new(number: MessageNumber, kind: &'static str) -> Self {
        Self { number, kind, fields: Map::new() }
    }

    fn with(mut self, field: &str, value: Option<impl Serialize>) -> Self {
        self.fields.extend(value.map(|value| (field.to_owned(), json!(value))));
        self
    }

    fn due(self, due: Option<Instant>) -> Self {
        self.with("due_at", due.map(Timestamp::from_millis))
    }

    fn with_json(self, json: &str) -> Self {
        let field = if self.kind == "progress" { "progress" } else { "error" };
        self.with(field, Some(serde_json::from_str::<Value>(json).unwrap()))
    }

    /// The state of the message after the event.
    fn state(&self) -> Option<&'static str> {
        let is_delayed = self.fields.contains_key("due_at");
        match self.kind {
            "enqueued" | "released" if self.fields.contains_key("hold") => Some("held"),
            "enqueued" | "signalled" | "retried" | "released" if is_delayed => Some("delayed"),
            "started" | "progress" => Some("active"),
            "completed" | "failed" => Some(self.kind),
            "erased" => None,
            _ => Some("waiting"),
        }
    }
}

impl Model {
    /// Records that a client listens. Returns whether a new log begins; `None` if the queue does not exist.
    pub(crate) fn listen(&mut self) -> Option<bool> {
        if !self.exists {
            return None;
        }
        let now = self.now();
        // After a time without listeners the log has a gap, so a new log begins.
        let is_new_log =
            self.log.events.is_none() || self.log.listened_until.is_none_or(|listened_until| listened_until <= now);
        if is_new_log {
            self.log.events = Some(Vec::new());
        }
        let listened_until = now + LOG_KEPT_FOR_MS;
        self.log.listened_until =
            Some(self.log.listened_until.map_or(listened_until, |before| before.max(listened_until)));
        Some(is_new_log)
    }

    pub(crate) fn log_events(&mut self, events: Vec<NewEvent>) {
        let now = self.now();
        if self.log.listened_until.is_none_or(|until| until <= now) {
            return;
        }
        let shown_events: Vec<Value> = events.into_iter().map(|event| self.event_json(event)).collect();
        self.log.events.get_or_insert_default().extend(shown_events);
    }

    fn event_json(&self, event: NewEvent) -> Value {
        let number = event.number;
        let (_, message) = self.with_purged().find(|(other, _)| *other == number).expect("the message is known");
        let id = message.draft.own_id.map_or(shown_id(number), own_id);
        let mut shown_event = json!({"id": id, "at": Timestamp::from_millis(self.now()), "state": event.state()});
        if let Some(group) = message.draft.group {
            shown_event["group"] = json!(group_key(group));
        }
        shown_event.as_object_mut().unwrap().extend(event.fields);
        shown_event
    }

    pub(crate) fn log_for_each(&mut self, numbers: &[MessageNumber], kind: &'static str) {
        self.log_events(numbers.iter().map(|number| NewEvent::new(*number, kind)).collect());
    }

    pub(crate) fn log_enqueued(&mut self, numbers: impl Iterator<Item = MessageNumber>) {
        let enqueued_events = numbers.map(|number| {
            let message = &self.messages[&number];
            let is_ready = message.state == State::Waiting;
            NewEvent::new(number, "enqueued")
                .with("name", message.draft.named.then_some(MESSAGE_NAME))
                .due(Some(message.first_due).filter(|due| *due > message.created && !is_ready))
                .with("hold", message.held_for())
                .with("schedule", message.draft.posted_by.map(|by| schedule_name(by.schedule)))
        });
        let enqueued_events = enqueued_events.collect();
        self.log_events(enqueued_events);
    }

    pub(crate) fn log_signalled(&mut self, numbers: &[MessageNumber]) {
        let signalled_events = numbers.iter().map(|number| {
            let message = &self.messages[number];
            NewEvent::new(*number, "signalled").due(message.delayed_until())
        });
        let signalled_events = signalled_events.collect();
        self.log_events(signalled_events);
    }

    pub(crate) fn log_started(&mut self, numbers: &[MessageNumber]) {
        let started_events = numbers.iter().map(|number| {
            let message = &self.messages[number];
            let name = message.draft.named.then_some(MESSAGE_NAME);
            message.with_run(1, NewEvent::new(*number, "started").with("name", name))
        });
        let started_events = started_events.collect();
        self.log_events(started_events);
    }

    pub(crate) fn log_progress(&mut self, number: MessageNumber, progress: &str) {
        let event = self.messages[&number].with_run(1, NewEvent::new(number, "progress")).with_json(progress);
        self.log_events(vec![event]);
    }

    /// Logs the end of messages that have just finished.
    pub(crate) fn log_finished(&mut self, numbers: &[MessageNumber]) {
        let finished_events = numbers.iter().map(|number| {
            let message = &self.messages[number];
            let outcome = message.outcome.as_ref().expect("a finished message has an outcome");
            let attempts = message.attempts_made() - message.run_so_far().attempts;
            match message.state {
                State::Completed => message.with_run(attempts, NewEvent::new(*number, "completed")),
                _ => message.with_run(attempts, NewEvent::new(*number, "failed")).with_json(&outcome.json),
            }
        });
        let finished_events = finished_events.collect();
        self.log_events(finished_events);
    }

    /// The event of a lease that has ended while its message has not finished.
    pub(crate) fn requeue_event(&self, number: MessageNumber, kind: &'static str) -> NewEvent {
        let message = &self.messages[&number];
        let due_time = message.delayed_until();
        match (kind, message.run_so_far().errors.pop()) {
            ("retried", Some(error)) => {
                message.with_run(0, NewEvent::new(number, kind)).due(due_time).with_json(&error.json)
            }
            _ => message.with_run(1, NewEvent::new(number, kind)).due(due_time).with("hold", message.held_for()),
        }
    }
}

impl Message {
    /// The instant at which a delayed message becomes ready.
    fn delayed_until(&self) -> Option<Instant> {
        match self.state {
            State::DelayedUntil(due) => Some(due),
            _ => None,
        }
    }

    /// The key for which the message is held.
    fn held_for(&self) -> Option<String> {
        self.draft.hold.filter(|_| self.state == State::Held).map(hold_key)
    }

    /// Adds to an event the consumer and the attempt, which is the number of failed attempts plus `more`.
    fn with_run(&self, more: u32, event: NewEvent) -> NewEvent {
        let run = self.run_so_far();
        event.with("attempt", Some(run.attempts + more)).with("consumer", run.consumer.map(consumer_id))
    }
}
