//! Purges: what waits is taken aside at once, and forgotten in steps that others may make.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    changing::word,
    message::{Message, Number},
    model::Model,
};

/// A purge of what waited that is under way.
pub(crate) struct Purge {
    /// The last message that there was when it began.
    pub(crate) cut: Number,
    /// The waiting list as it was, and of the others those with a priority. Messages that were removed from its middle stand here too.
    pub(crate) line: Vec<Number>,
    pub(crate) prioritized: Vec<Number>,
    /// They are hidden from every call, and must still be removed.
    pub(crate) messages: BTreeMap<Number, Message>,
    /// Posted before it began, and ready again since.
    pub(crate) returned: BTreeSet<Number>,
}

impl Model {
    /// Forgets all messages of one state. Answers how many.
    pub(crate) fn purge(&mut self, state: &str) -> usize {
        if state == "waiting" {
            while self.purge.is_some() {
                self.forget_purged();
            }
            let purged = self.begin_purge();
            while self.purge.is_some() {
                self.forget_purged();
            }
            return purged;
        }
        if state == "active" {
            return 0;
        }
        let all = self.numbers_in(state);
        self.tell_of(&all, "erased");
        if state == "completed" {
            self.pop_completed(self.completed.len());
        }
        for number in &all {
            self.forget_for_good(*number);
        }
        all.len()
    }

    /// The first step of a purge of waiting messages, which is then interrupted.
    pub(crate) fn purge_in_vain(&mut self) {
        if self.purge.is_some() {
            self.forget_purged();
        } else {
            self.begin_purge();
            self.forget_purged();
        }
    }

    /// In the order of the state.
    fn numbers_in(&self, state: &str) -> Vec<Number> {
        fn numbers<K>(sorted: Vec<(K, Number)>) -> Vec<Number> {
            sorted.into_iter().map(|(_, number)| number).collect()
        }
        match state {
            "held" => numbers(self.held()),
            "delayed" => numbers(self.delayed()),
            "completed" => self.completed.iter().copied().filter(|number| self.is_kept(*number)).collect(),
            _ => numbers(self.failed()),
        }
    }

    fn begin_purge(&mut self) -> usize {
        let prioritized: Vec<Number> = self.prioritized().into_iter().map(|(_, number)| number).collect();
        let line = std::mem::take(&mut self.line);
        if line.is_empty() && prioritized.is_empty() {
            return 0;
        }
        let waiting = self.numbers_by(|message| (word(message.state) == "waiting").then_some(()));
        let gone = waiting.iter().map(|number| (*number, self.messages.remove(number).expect("it waits")));
        let messages = gone.collect();
        let cut = self.last.expect("something was posted");
        self.purge = Some(Purge { cut, line, prioritized, messages, returned: BTreeSet::new() });
        waiting.len()
    }

    /// A step: first those with a priority, then the rest.
    pub(crate) fn forget_purged(&mut self) {
        let Some(purge) = &mut self.purge else { return };
        let some = if purge.prioritized.is_empty() { &mut purge.line } else { &mut purge.prioritized };
        let some: Vec<Number> =
            std::mem::take(some).into_iter().filter(|number| purge.messages.contains_key(number)).collect();
        self.tell_of(&some, "erased");
        let purge = self.purge.as_mut().expect("it is under way");
        for number in some {
            let own_id = purge.messages.remove(&number).and_then(|message| message.draft.own_id);
            let is_of_another =
                |id: &u8| self.messages.values().any(|message| message.draft.own_id.as_ref() == Some(id));
            if let Some(own_id) = own_id.filter(|id| !is_of_another(id)) {
                self.taken.remove(&own_id);
            }
            self.awaited.remove(&number);
        }
        if purge.prioritized.is_empty() && purge.line.is_empty() {
            self.purge = None;
        }
    }

    /// Messages that become ready.
    pub(crate) fn note_returned(&mut self, numbers: &[Number]) {
        if let Some(purge) = &mut self.purge {
            purge.returned.extend(numbers.iter().filter(|number| **number <= purge.cut));
        }
    }

    /// Those that are known and those that are purged and not yet forgotten.
    pub(crate) fn with_purged(&self) -> impl Iterator<Item = (Number, &Message)> {
        let purged = self.purge.iter().flat_map(|purge| &purge.messages);
        purged.chain(&self.messages).map(|(number, message)| (*number, message))
    }
}
