//! The event log in the model, written while a client listens.

use queue_core::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    message::{Instant, Message, Number, State},
    model::Model,
    model_json::{NAME, consumer, group_key, hold_key, own_id},
    posting::name,
    schedules::schedule_name,
};

/// The time (ms) for which events are logged after the last listener.
const KEPT_FOR: u64 = 11 * 60 * 1_000;

/// The log of events.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) listened_until: Option<Instant>,
    /// The events since the log began, in the form that readers see; `None` before the first listener.
    pub(crate) events: Option<Vec<Value>>,
}

/// An event that is not logged yet.
pub(crate) struct NewEvent {
    number: Number,
    kind: &'static str,
    fields: Map<String, Value>,
}

impl NewEvent {
    pub(crate) fn new(number: Number, kind: &'static str) -> Self {
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
        let begins = self.log.events.is_none() || self.log.listened_until.is_none_or(|until| until <= now);
        if begins {
            self.log.events = Some(Vec::new());
        }
        let until = now + KEPT_FOR;
        self.log.listened_until = Some(self.log.listened_until.map_or(until, |before| before.max(until)));
        Some(begins)
    }

    pub(crate) fn log_events(&mut self, events: Vec<NewEvent>) {
        let now = self.now();
        if self.log.listened_until.is_none_or(|until| until <= now) {
            return;
        }
        let shown: Vec<Value> = events.into_iter().map(|event| self.show_event(event)).collect();
        self.log.events.get_or_insert_default().extend(shown);
    }

    fn show_event(&self, event: NewEvent) -> Value {
        let number = event.number;
        let (_, message) = self.with_purged().find(|(other, _)| *other == number).expect("the message is known");
        let id = message.draft.own_id.map_or(name(number), own_id);
        let mut shown = json!({"id": id, "at": Timestamp::from_millis(self.now()), "state": event.state()});
        if let Some(group) = message.draft.group {
            shown["group"] = json!(group_key(group));
        }
        shown.as_object_mut().unwrap().extend(event.fields);
        shown
    }

    pub(crate) fn log_for_each(&mut self, numbers: &[Number], kind: &'static str) {
        self.log_events(numbers.iter().map(|number| NewEvent::new(*number, kind)).collect());
    }

    pub(crate) fn log_enqueued(&mut self, numbers: impl Iterator<Item = Number>) {
        let enqueued = numbers.map(|number| {
            let message = &self.messages[&number];
            let is_ready = message.state == State::Waiting;
            NewEvent::new(number, "enqueued")
                .with("name", message.draft.named.then_some(NAME))
                .due(Some(message.first_due).filter(|due| *due > message.created && !is_ready))
                .with("hold", message.held_for())
                .with("schedule", message.draft.posted_by.map(|by| schedule_name(by.schedule)))
        });
        let enqueued = enqueued.collect();
        self.log_events(enqueued);
    }

    pub(crate) fn log_signalled(&mut self, numbers: &[Number]) {
        let signalled = numbers.iter().map(|number| {
            let message = &self.messages[number];
            NewEvent::new(*number, "signalled").due(message.delayed_until())
        });
        let signalled = signalled.collect();
        self.log_events(signalled);
    }

    pub(crate) fn log_started(&mut self, numbers: &[Number]) {
        let started = numbers.iter().map(|number| {
            let message = &self.messages[number];
            let name = message.draft.named.then_some(NAME);
            message.add_run(1, NewEvent::new(*number, "started").with("name", name))
        });
        let started = started.collect();
        self.log_events(started);
    }

    pub(crate) fn log_progress(&mut self, number: Number, progress: &str) {
        let event = self.messages[&number].add_run(1, NewEvent::new(number, "progress")).with_json(progress);
        self.log_events(vec![event]);
    }

    /// Logs the end of messages that have just finished.
    pub(crate) fn log_finished(&mut self, numbers: &[Number]) {
        let finished = numbers.iter().map(|number| {
            let message = &self.messages[number];
            let outcome = message.outcome.as_ref().expect("a finished message has an outcome");
            let attempts = message.attempts_made() - message.run_so_far().attempts;
            match message.state {
                State::Completed => message.add_run(attempts, NewEvent::new(*number, "completed")),
                _ => message.add_run(attempts, NewEvent::new(*number, "failed")).with_json(&outcome.json),
            }
        });
        let finished = finished.collect();
        self.log_events(finished);
    }

    /// The event of a lease that has ended while its message has not finished.
    pub(crate) fn requeue_event(&self, number: Number, kind: &'static str) -> NewEvent {
        let message = &self.messages[&number];
        let due = message.delayed_until();
        match (kind, message.run_so_far().error) {
            ("retried", Some(error)) => message.add_run(0, NewEvent::new(number, kind)).due(due).with_json(&error.json),
            _ => message.add_run(1, NewEvent::new(number, kind)).due(due).with("hold", message.held_for()),
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
    fn add_run(&self, more: u32, event: NewEvent) -> NewEvent {
        let run = self.run_so_far();
        event.with("attempt", Some(run.attempts + more)).with("consumer", run.consumer.map(consumer))
    }
}
