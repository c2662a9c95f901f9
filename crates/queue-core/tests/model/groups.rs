//! Groups in the model: the order of a group's messages, and the turns in which groups are served. The model computes how many
//! messages count as active in a group from the states of the messages.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    leasing::TakenMessages,
    message::{Message, MessageNumber, State},
    model::Model,
};

/// The key of a group; `None` stands for the messages without a group.
pub(crate) type Group = Option<u8>;

impl Model {
    /// The number of unfinished messages with a group.
    pub(crate) fn unfinished_grouped_count(&self) -> usize {
        self.messages.values().filter(|message| message.draft.group.is_some() && message.is_unfinished()).count()
    }

    pub(crate) fn groups(&self) -> BTreeSet<u8> {
        self.messages.values().filter_map(|message| message.draft.group).collect()
    }

    /// Returns the ready messages of a group in the order in which they are leased: returned messages first, then by priority, then
    /// by id.
    pub(crate) fn ready_in_group(&self, group: u8) -> Vec<MessageNumber> {
        self.numbers_sorted_by(|message| {
            let is_ready = message.state == State::Waiting && message.draft.group == Some(group);
            is_ready.then_some((!message.is_returned, message.draft.priority))
        })
    }

    /// Returns the first ready message of each group, in the order of the messages' ids.
    pub(crate) fn group_heads(&self) -> Vec<MessageNumber> {
        let mut heads: Vec<MessageNumber> =
            self.groups().into_iter().filter_map(|group| self.ready_in_group(group).first().copied()).collect();
        heads.sort_unstable();
        heads
    }

    /// Returns the ready messages of all groups, without the first ready message of each group.
    pub(crate) fn group_rest(&self) -> Vec<MessageNumber> {
        self.groups().into_iter().flat_map(|group| self.ready_in_group(group).into_iter().skip(1)).collect()
    }

    /// How many messages of the group are active, in back-off, or released with a pause or a hold key.
    pub(crate) fn places_taken(&self, group: u8) -> usize {
        let holds_place = |message: &&Message| message.draft.group == Some(group) && message.holds_place();
        self.messages.values().filter(holds_place).count()
    }

    fn has_turn(&self, group: Group) -> bool {
        match group {
            None => {
                self.messages.values().any(|message| message.state == State::Waiting && message.draft.group.is_none())
            }
            Some(key) => {
                let limit = self.settings.group_concurrency.unwrap_or(usize::MAX);
                !self.ready_in_group(key).is_empty() && self.places_taken(key) < limit
            }
        }
    }

    /// Updates the turns of groups. New turns come after all other turns: first the turn of the messages without a group, then the
    /// turns of groups, in the order of their keys. The groups of one post may have another order, which `compare_turns` adopts.
    pub(crate) fn update_turns(&mut self) {
        self.note_changed_groups();
        if self.unfinished_grouped_count() == 0 {
            self.turns.clear();
            self.new_turn_count = 0;
            return;
        }
        let turns_before = std::mem::take(&mut self.turns);
        let mut turns: VecDeque<Group> = turns_before.into_iter().filter(|group| self.has_turn(*group)).collect();
        let new_turns = self.groups().into_iter().map(Some);
        let new_turns: Vec<Group> =
            std::iter::once(None).chain(new_turns).filter(|key| !turns.contains(key) && self.has_turn(*key)).collect();
        self.new_turn_count = new_turns.len();
        turns.extend(new_turns);
        self.turns = turns;
    }

    /// Takes one message per turn. A group from which another message may be leased gets another turn after all other groups.
    pub(crate) fn take_by_turns(&mut self, taken_messages: &mut TakenMessages) {
        while !taken_messages.is_full
            && let Some(group) = self.turns.front().copied()
        {
            let taken_before = taken_messages.taken.len();
            match group {
                None => {
                    self.take_plain(taken_messages, taken_before + 1);
                    if taken_messages.taken.len() > taken_before && self.turns.len() == 1 {
                        self.take_plain(taken_messages, taken_messages.max);
                    }
                }
                Some(key) => {
                    let ready_numbers = self.ready_in_group(key);
                    let first_ready = ready_numbers.into_iter().find(|number| !taken_messages.taken.contains(number));
                    first_ready.map(|first_ready| taken_messages.take_if_possible(self, first_ready));
                }
            }
            if taken_messages.taken.len() == taken_before {
                return; // The message did not fit into the answer, so its group keeps its turn.
            }
            self.turns.pop_front();
            if self.has_turn_after(group, &taken_messages.taken) {
                self.turns.push_back(group);
            }
        }
    }

    /// Whether a group has a turn after these messages were leased.
    fn has_turn_after(&self, group: Group, taken: &[MessageNumber]) -> bool {
        let stays_ready = |(number, message): (&MessageNumber, &Message)| {
            message.state == State::Waiting && message.draft.group == group && !taken.contains(number)
        };
        let taken_of_group = taken.iter().filter(|number| self.messages[number].draft.group == group).count();
        let limit = self.settings.group_concurrency.unwrap_or(usize::MAX);
        let is_place_free = group.is_none_or(|key| self.places_taken(key) + taken_of_group < limit);
        is_place_free && self.messages.iter().any(stays_ready)
    }
}

impl Message {
    pub(crate) fn holds_place(&self) -> bool {
        self.is_active() || (matches!(self.state, State::Held | State::DelayedUntil(_)) && self.was_delivered())
    }
}
