//! The event log in the model, written while a client listens.

use queue_core::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    message::{Instant, Message, Number, State},
    model::Model,
    posting::name,
    showing::{NAME, consumer, hold_key, own_id},
};

/// The time for which events are logged after the last listener.
const KEPT_FOR: u64 = 11 * 60 * 1_000;

/// The log of events.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) listened_until: Option<Instant>,
    /// The events since the log began, in the form that readers see; `None` before the first listener.
    pub(crate) events: Option<Vec<Value>>,
}

/// The details of one event.
pub(crate) struct Happened {
    number: Number,
    word: &'static str,
    fields: Map<String, Value>,
}

impl Happened {
    pub(crate) fn new(number: Number, word: &'static str) -> Self {
        Self { number, word, fields: Map::new() }
    }

    fn with(mut self, field: &str, value: Option<impl Serialize>) -> Self {
        self.fields.extend(value.map(|value| (field.to_owned(), json!(value))));
        self
    }

    fn due(self, due: Option<Instant>) -> Self {
        self.with("due_at", due.map(Timestamp::from_millis))
    }

    fn because(self, json: &str) -> Self {
        let field = if self.word == "progress" { "progress" } else { "error" };
        self.with(field, Some(serde_json::from_str::<Value>(json).unwrap()))
    }

    /// The state that the message is in from then on.
    fn state(&self) -> Option<&'static str> {
        let is_delayed = self.fields.contains_key("due_at");
        match self.word {
            "enqueued" if self.fields.contains_key("hold") => Some("held"),
            "enqueued" | "signalled" | "retried" | "released" if is_delayed => Some("delayed"),
            "started" | "progress" => Some("active"),
            "completed" | "failed" => Some(self.word),
            "erased" => None,
            _ => Some("waiting"),
        }
    }
}

impl Model {
    /// Somebody listens. Answers whether the log begins with that, if there is such a queue.
    pub(crate) fn listen(&mut self) -> Option<bool> {
        if !self.exists {
            return None;
        }
        let now = self.now();
        // A log has a gap after a time without listeners.
        let begins = self.log.events.is_none() || self.log.listened_until.is_none_or(|until| until <= now);
        if begins {
            self.log.events = Some(Vec::new());
        }
        let until = now + KEPT_FOR;
        self.log.listened_until = Some(self.log.listened_until.map_or(until, |before| before.max(until)));
        Some(begins)
    }

    pub(crate) fn tell(&mut self, all: Vec<Happened>) {
        let now = self.now();
        if self.log.listened_until.is_none_or(|until| until <= now) {
            return;
        }
        let shown: Vec<Value> = all.into_iter().map(|happened| self.show_event(happened)).collect();
        self.log.events.get_or_insert_default().extend(shown);
    }

    fn show_event(&self, happened: Happened) -> Value {
        let number = happened.number;
        let (_, message) = self.with_purged().find(|(other, _)| *other == number).expect("the message is known");
        let id = message.draft.own_id.map_or(name(number), own_id);
        let mut shown = json!({"id": id, "at": Timestamp::from_millis(self.now()), "state": happened.state()});
        shown.as_object_mut().unwrap().extend(happened.fields);
        shown
    }

    pub(crate) fn tell_of(&mut self, numbers: &[Number], word: &'static str) {
        self.tell(numbers.iter().map(|number| Happened::new(*number, word)).collect());
    }

    pub(crate) fn tell_enqueued(&mut self, numbers: impl Iterator<Item = Number>) {
        let enqueued = numbers.map(|number| {
            let message = &self.messages[&number];
            let hold = message.draft.hold.filter(|_| message.state == State::Held);
            let is_ready = message.state == State::Waiting;
            Happened::new(number, "enqueued")
                .with("name", message.draft.named.then_some(NAME))
                .due(Some(message.first_due).filter(|due| *due > message.created && !is_ready))
                .with("hold", hold.map(hold_key))
        });
        let enqueued = enqueued.collect();
        self.tell(enqueued);
    }

    pub(crate) fn tell_signalled(&mut self, numbers: &[Number]) {
        let signalled = numbers.iter().map(|number| {
            let message = &self.messages[number];
            Happened::new(*number, "signalled").due(message.delayed_until())
        });
        let signalled = signalled.collect();
        self.tell(signalled);
    }

    pub(crate) fn tell_started(&mut self, numbers: &[Number]) {
        let started = numbers.iter().map(|number| {
            let message = &self.messages[number];
            let name = message.draft.named.then_some(NAME);
            message.about_the_run(1, Happened::new(*number, "started").with("name", name))
        });
        let started = started.collect();
        self.tell(started);
    }

    pub(crate) fn tell_progress(&mut self, number: Number, progress: &str) {
        let happened = self.messages[&number].about_the_run(1, Happened::new(number, "progress")).because(progress);
        self.tell(vec![happened]);
    }

    /// Of what has just finished.
    pub(crate) fn tell_finished(&mut self, numbers: &[Number]) {
        let finished = numbers.iter().map(|number| {
            let message = &self.messages[number];
            let outcome = message.outcome.as_ref().expect("what has finished has an outcome");
            let attempts = message.attempts_made() - message.run_so_far().attempts;
            match message.state {
                State::Completed => message.about_the_run(attempts, Happened::new(*number, "completed")),
                _ => message.about_the_run(attempts, Happened::new(*number, "failed")).because(&outcome.json),
            }
        });
        let finished = finished.collect();
        self.tell(finished);
    }

    /// A lease is over, but its message has not finished.
    pub(crate) fn requeue_event(&self, number: Number, word: &'static str) -> Happened {
        let message = &self.messages[&number];
        let back = message.delayed_until();
        match (word, message.run_so_far().error) {
            ("retried", Some(error)) => {
                message.about_the_run(0, Happened::new(number, word)).due(back).because(&error.json)
            }
            _ => message.about_the_run(1, Happened::new(number, word)).due(back),
        }
    }
}

impl Message {
    /// The time at which it becomes ready, if it is delayed.
    fn delayed_until(&self) -> Option<Instant> {
        match self.state {
            State::DelayedUntil(due) => Some(due),
            _ => None,
        }
    }

    /// The attempt is the last one that failed, or so many after it.
    fn about_the_run(&self, more: u32, happened: Happened) -> Happened {
        let run = self.run_so_far();
        happened.with("attempt", Some(run.attempts + more)).with("consumer", run.consumer.map(consumer))
    }
}
