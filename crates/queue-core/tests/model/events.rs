//! What is written down of what happens, while somebody listens.

use serde_json::{Value, json};

use crate::{
    message::{Instant, Message, Number, State},
    model::Model,
    posting::name,
    showing::{NAME, consumer, hold_key, own_id},
};

/// How long it is written down after somebody listened.
const KEPT_FOR: u64 = 11 * 60 * 1_000;
/// An entry has no more events.
const IN_AN_ENTRY: usize = 100;
/// What an entry counts beside its texts.
const ENTRY_BYTES: usize = 64;

/// The log of events.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) listened_until: Option<Instant>,
    /// How much it ever had.
    pub(crate) bytes: Option<usize>,
    /// None when nobody ever listened.
    pub(crate) entries: Vec<String>,
    /// The id of the last event.
    newest: String,
}

/// What there is to say of one event.
pub(crate) struct Happened {
    number: Number,
    word: &'static str,
    fields: String,
    json: Option<String>,
}

impl Happened {
    pub(crate) fn new(number: Number, word: &'static str) -> Self {
        Self { number, word, fields: String::new(), json: None }
    }

    fn with(mut self, letter: char, value: Option<impl ToString>) -> Self {
        self.fields.extend(value.map(|value| format!("\t{letter}{}", value.to_string())));
        self
    }

    fn because(self, json: &str) -> Self {
        Self { json: Some(json.to_owned()), ..self }
    }
}

impl Model {
    /// Somebody listens. Answers the id of the newest event, if there is such a queue.
    pub(crate) fn listen(&mut self) -> Value {
        if !self.exists {
            return Value::Null;
        }
        let now = self.now();
        if self.log.listened_until.is_none_or(|until| until <= now) {
            // It has a gap.
            self.log.entries.clear();
        }
        if self.log.entries.is_empty() {
            let place = self.next_place(0);
            self.log.entries.push(format!("{place} listening "));
            self.log.newest = format!("{place}-0");
        }
        let until = now + KEPT_FOR;
        self.log.listened_until = Some(self.log.listened_until.map_or(until, |before| before.max(until)));
        json!(self.log.newest)
    }

    fn next_place(&mut self, bytes: usize) -> String {
        let before = self.log.bytes.unwrap_or(1);
        self.log.bytes = Some(before + bytes + ENTRY_BYTES);
        format!("{before}-{}", self.now())
    }

    pub(crate) fn tell(&mut self, all: Vec<Happened>) {
        let now = self.now();
        if self.log.listened_until.is_none_or(|until| until <= now) {
            return;
        }
        let texts: Vec<(usize, String)> = all.into_iter().map(|happened| self.text_of(happened)).collect();
        for some in texts.chunks(IN_AN_ENTRY) {
            let place = self.next_place(some.iter().map(|(bytes, _)| bytes).sum());
            let texts: Vec<&str> = some.iter().map(|(_, text)| text.as_str()).collect();
            self.log.entries.push(format!("{place} {}", texts.join(" ")));
            self.log.newest = format!("{place}-{}", some.len());
        }
    }

    /// What is written of it, and how much that is: a real id has fourteen digits.
    fn text_of(&self, happened: Happened) -> (usize, String) {
        let Happened { number, word, fields, json } = happened;
        let (_, message) = self.with_purged().find(|(other, _)| *other == number).expect("the message is known");
        let own_id = message.draft.own_id.map_or(String::new(), |id| format!("\ti{}", own_id(id)));
        let json = json.map_or(String::new(), |json| format!("\n{json}"));
        let rest = format!("{own_id}{fields}{json}");
        (word.len() + 14 + rest.len(), format!("{word} {}{rest}", name(number)))
    }

    pub(crate) fn tell_of(&mut self, numbers: &[Number], word: &'static str) {
        self.tell(numbers.iter().map(|number| Happened::new(*number, word)).collect());
    }

    pub(crate) fn tell_enqueued(&mut self, numbers: impl Iterator<Item = Number>) {
        let enqueued = numbers.map(|number| {
            let message = &self.messages[&number];
            let hold = message.draft.hold.filter(|_| message.state == State::Held);
            Happened::new(number, "enqueued")
                .with('n', message.draft.named.then_some(NAME))
                .with('d', Some(message.first_due).filter(|due| *due > message.created))
                .with('k', hold.map(hold_key))
        });
        let enqueued = enqueued.collect();
        self.tell(enqueued);
    }

    pub(crate) fn tell_signalled(&mut self, numbers: &[Number]) {
        let signalled = numbers.iter().map(|number| {
            let message = &self.messages[number];
            Happened::new(*number, "signalled").with('d', message.comes_back())
        });
        let signalled = signalled.collect();
        self.tell(signalled);
    }

    pub(crate) fn tell_started(&mut self, numbers: &[Number]) {
        let started = numbers.iter().map(|number| {
            let message = &self.messages[number];
            let name = message.draft.named.then_some(NAME);
            message.about_the_run(1, Happened::new(*number, "started").with('n', name))
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
    pub(crate) fn comeback(&self, number: Number, word: &'static str) -> Happened {
        let message = &self.messages[&number];
        let back = message.comes_back();
        match (word, message.run_so_far().error) {
            ("retried", Some(error)) => {
                message.about_the_run(0, Happened::new(number, word)).with('d', back).because(&error.json)
            }
            _ => message.about_the_run(1, Happened::new(number, word)).with('d', back),
        }
    }
}

impl Message {
    /// When, if it is delayed.
    fn comes_back(&self) -> Option<Instant> {
        match self.state {
            State::DelayedUntil(due) => Some(due),
            _ => None,
        }
    }

    /// The attempt is the last one that failed, or so many after it.
    fn about_the_run(&self, more: u32, happened: Happened) -> Happened {
        let run = self.run_so_far();
        happened.with('a', Some(run.attempts + more)).with('c', run.consumer.map(consumer))
    }
}
