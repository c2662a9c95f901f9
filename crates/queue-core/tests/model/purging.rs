//! Purges: a purge moves all waiting messages aside at once, and forgets them in steps. Any process may run a step.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    changing::state_name,
    message::{Message, MessageNumber, State},
    model::Model,
};

/// An unfinished purge of waiting messages.
pub(crate) struct Purge {
    /// The last message that was posted before the purge began.
    pub(crate) cut: MessageNumber,
    /// The waiting list when the purge began. A message that was removed from the middle of the waiting list still has
    /// an entry in it.
    pub(crate) waiting_list: Vec<MessageNumber>,
    pub(crate) prioritized: Vec<MessageNumber>,
    /// The first ready message of each group when the purge began; the other ready messages of groups are in `group_rest`.
    pub(crate) group_heads: Vec<MessageNumber>,
    pub(crate) group_rest: Vec<MessageNumber>,
    /// The groups that had messages in work (active, in back-off or released with a pause) when the purge began and have not changed
    /// since; each with the messages that were in work and its ready messages. A step of the purge clears the map `groups_in_work`.
    groups_in_work: BTreeMap<u8, Vec<MessageNumber>>,
    /// The purged messages that are not forgotten yet. No call shows a purged message.
    pub(crate) messages: BTreeMap<MessageNumber, Message>,
    /// The messages that were posted before the purge began and have become ready since.
    pub(crate) returned: BTreeSet<MessageNumber>,
}

impl Model {
    /// Forgets all messages of one state, and returns their number.
    pub(crate) fn purge(&mut self, state: &str) -> usize {
        if state == "waiting" {
            while self.purge.is_some() {
                self.forget_purged();
            }
            let purged_count = self.begin_purge();
            while self.purge.is_some() {
                self.forget_purged();
            }
            return purged_count;
        }
        if state == "active" {
            return 0;
        }
        let numbers = self.numbers_in_state(state);
        self.log_for_each(&numbers, "erased");
        if state == "completed" {
            self.pop_completed(self.completed.len());
        }
        for number in &numbers {
            self.forget_for_good(*number);
        }
        numbers.len()
    }

    /// Does the first step of a purge of waiting messages, which is then interrupted; or one step of the unfinished purge.
    pub(crate) fn interrupt_purge(&mut self) {
        if self.purge.is_some() {
            self.forget_purged();
        } else {
            self.begin_purge();
            self.forget_purged();
        }
    }

    /// The messages of a state, in the order in which a purge forgets them.
    fn numbers_in_state(&self, state: &str) -> Vec<MessageNumber> {
        fn numbers<K>(sorted: Vec<(K, MessageNumber)>) -> Vec<MessageNumber> {
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
        let prioritized: Vec<MessageNumber> = self.prioritized().into_iter().map(|(_, number)| number).collect();
        let waiting_list = std::mem::take(&mut self.waiting_list);
        let (group_heads, mut group_rest) = (self.group_heads(), self.group_rest());
        group_rest.sort_unstable();
        if waiting_list.is_empty() && prioritized.is_empty() && group_heads.is_empty() {
            return 0;
        }
        let waiting_numbers = self.numbers_sorted_by(|message| (state_name(message.state) == "waiting").then_some(()));
        let purged_messages =
            waiting_numbers.iter().map(|number| (*number, self.messages.remove(number).expect("the message waits")));
        let messages = purged_messages.collect();
        let cut = self.last.expect("at least one message was posted");
        self.purge = Some(Purge {
            cut,
            waiting_list,
            prioritized,
            group_heads,
            group_rest,
            groups_in_work: self.groups_in_work(),
            messages,
            returned: BTreeSet::new(),
        });
        waiting_numbers.len()
    }

    /// Does a step of the purge, which forgets first the messages with a priority, then the other messages without a group, then
    /// the messages of groups.
    pub(crate) fn forget_purged(&mut self) {
        let Some(purge) = &mut self.purge else { return };
        let entries_without_group =
            [&mut purge.prioritized, &mut purge.waiting_list].into_iter().find(|entries| !entries.is_empty());
        let entries = match entries_without_group {
            Some(entries) => entries,
            None if purge.group_heads.is_empty() && purge.groups_in_work.is_empty() => &mut purge.group_rest,
            None => {
                purge.groups_in_work.clear();
                &mut purge.group_heads
            }
        };
        let numbers: Vec<MessageNumber> =
            std::mem::take(entries).into_iter().filter(|number| purge.messages.contains_key(number)).collect();
        self.log_for_each(&numbers, "erased");
        let purge = self.purge.as_mut().expect("the purge is unfinished");
        for number in numbers {
            let own_id = purge.messages.remove(&number).and_then(|message| message.draft.own_id);
            let is_used_again =
                |id: &u8| self.messages.values().any(|message| message.draft.own_id.as_ref() == Some(id));
            if let Some(own_id) = own_id.filter(|id| !is_used_again(id)) {
                self.taken.remove(&own_id);
            }
            self.awaited.remove(&number);
        }
        let purged_lists = [&purge.prioritized, &purge.waiting_list, &purge.group_heads, &purge.group_rest];
        if purged_lists.into_iter().all(Vec::is_empty) && purge.groups_in_work.is_empty() {
            self.purge = None;
        }
    }

    /// Returns, for each group with messages in work (active, in back-off or released with a pause or a hold key), these messages
    /// and the group's ready messages.
    fn groups_in_work(&self) -> BTreeMap<u8, Vec<MessageNumber>> {
        let groups = self.groups().into_iter().filter(|group| self.places_taken(*group) > 0);
        let is_held_or_ready = |message: &Message| message.holds_place() || message.state == State::Waiting;
        let members_of = |group| {
            self.numbers_sorted_by(|message| {
                (message.draft.group == Some(group) && is_held_or_ready(message)).then_some(())
            })
        };
        groups.map(|group| (group, members_of(group))).collect()
    }

    /// Removes from the unfinished purge the groups that have changed since it began.
    pub(crate) fn note_changed_groups(&mut self) {
        if self.purge.is_none() {
            return;
        }
        let current_places = self.groups_in_work();
        if let Some(purge) = &mut self.purge {
            purge.groups_in_work.retain(|group, members| current_places.get(group) == Some(members));
        }
    }

    /// Records messages that become ready during a purge although they were posted before it.
    pub(crate) fn note_returned(&mut self, numbers: &[MessageNumber]) {
        if let Some(purge) = &mut self.purge {
            purge.returned.extend(numbers.iter().filter(|number| **number <= purge.cut));
        }
    }

    /// The messages of the queue, and the messages of the purge that are not yet forgotten.
    pub(crate) fn with_purged(&self) -> impl Iterator<Item = (MessageNumber, &Message)> {
        let purged_messages = self.purge.iter().flat_map(|purge| &purge.messages);
        purged_messages.chain(&self.messages).map(|(number, message)| (*number, message))
    }
}
