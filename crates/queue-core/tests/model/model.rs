//! The model of a queue, which consists of vectors and maps, and of one clock.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    events::EventLog,
    groups::Group,
    message::{Instant, LeaseCall, Message, MessageNumber, Outcome, OutcomeKind, State},
    purging::Purge,
    schedules::{Schedule, ScheduleKey},
    settings::{DECLARED_BACKOFF, DECLARED_MAX_LAPSES, Settings},
};

pub(crate) const CANCELLED_ERROR: &str = r#"{"code":"cancelled","message":"cancelled on request"}"#;

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "the flags are independent")]
pub(crate) struct Model {
    /// The time in µs since 1970.
    pub(crate) micros: u64,
    /// The highest value that `micros` ever had.
    pub(crate) latest_micros: u64,
    /// The number of messages that were ever posted.
    pub(crate) posted: usize,
    /// The number of lease calls so far.
    pub(crate) calls: usize,
    /// The lease calls of this process whose answers were lost.
    pub(crate) lost: Vec<LeaseCall>,
    /// Whether this process has declared the queue since its creation.
    pub(crate) has_declared: bool,

    pub(crate) exists: bool,
    pub(crate) settings: Settings,
    pub(crate) is_paused: bool,
    pub(crate) owner: Option<Owner>,
    /// The instants at which leases were made, while there is a rate limit.
    pub(crate) leases_made: Vec<Instant>,
    pub(crate) messages: BTreeMap<MessageNumber, Message>,
    /// The groups from which a message may be leased now, in the order of their turns. The list is empty if no unfinished message
    /// has a group.
    pub(crate) turns: VecDeque<Group>,
    /// How many of the last turns were new in the last update of the turns.
    pub(crate) new_turn_count: usize,
    /// The last message that was stored.
    pub(crate) last: Option<MessageNumber>,
    /// Ready messages of priority 0, in order. A message that leaves the middle of the list keeps its entry until the entry reaches the
    /// head. A message that becomes ready again while its entry is in the list takes its old position.
    pub(crate) waiting_list: Vec<MessageNumber>,
    /// Completed messages, in the order of completion. An erased message keeps its entry until trimming reaches the entry.
    pub(crate) completed: Vec<MessageNumber>,
    /// Own ids that stay taken although their messages are no longer kept, each with the instant until which it stays taken.
    pub(crate) taken: BTreeMap<u8, Instant>,
    /// An instant at most a second before the last lease, extension, or lease call of the owner of an exclusive queue.
    pub(crate) clock: Option<Instant>,
    /// Whether the index names the queue.
    pub(crate) is_listed: bool,
    /// Whether this process has used the queue since it last restored the queue's name in the index.
    pub(crate) was_used: bool,
    pub(crate) totals: BTreeMap<&'static str, u64>,
    pub(crate) requests: BTreeMap<u8, KeyedRequest>,
    pub(crate) sticky: BTreeMap<u8, StickySignal>,
    pub(crate) schedules: Schedules,
    /// The schedules as each process that posts ticks knows them.
    pub(crate) known_schedules: BTreeMap<u8, Schedules>,
    /// The number of definitions of schedules that were ever stored.
    pub(crate) definitions: usize,
    /// Whether the index of queues with schedules names the queue.
    pub(crate) is_listed_with_schedules: bool,
    pub(crate) awaited: BTreeMap<MessageNumber, Instant>,
    /// The current purge of waiting messages.
    pub(crate) purge: Option<Purge>,
    /// Messages that have finished in this step. At the end of a step the model decides whether its finished messages are kept.
    pub(crate) just_finished: Vec<MessageNumber>,
    pub(crate) log: EventLog,
}

pub(crate) type Schedules = BTreeMap<ScheduleKey, Schedule>;

/// The owner of an exclusive queue.
pub(crate) struct Owner {
    pub(crate) consumer: u8,
    pub(crate) until: Instant,
}

/// A request that came with an idempotency key.
pub(crate) struct KeyedRequest {
    pub(crate) until: Instant,
    pub(crate) fingerprint: u8,
    pub(crate) numbers: Vec<MessageNumber>,
}

/// A sticky signal.
pub(crate) struct StickySignal {
    pub(crate) until: Instant,
    pub(crate) data: Option<String>,
}

impl Model {
    pub(crate) fn now(&self) -> Instant {
        self.micros / 1_000
    }

    /// Declares the queue, as a process does before it first enqueues, leases, signals or configures. Declared settings win over
    /// settings changed at run time.
    pub(crate) fn declare(&mut self) {
        if !self.exists || !self.has_declared {
            // Only the creation of a queue adds its name to the index at once.
            self.is_listed |= !self.exists;
            self.exists = true;
            self.has_declared = true;
            self.settings.backoff = DECLARED_BACKOFF;
            self.settings.max_lapses = DECLARED_MAX_LAPSES;
        }
        self.was_used = true;
    }

    /// Does the same as [`declare`](Self::declare) for an operation that creates no queue. Returns whether the queue exists.
    pub(crate) fn declare_if_it_exists(&mut self) -> bool {
        if self.exists {
            let is_listed = self.is_listed;
            self.declare();
            self.is_listed = is_listed;
        }
        self.exists
    }

    /// Adds the name of the queue to the index if this process has used the queue.
    pub(crate) fn restore_used_name(&mut self) {
        self.is_listed |= self.exists && self.was_used;
        self.was_used = false;
    }

    /// Stores the current time, if the stored time is at least a second old.
    pub(crate) fn store_clock(&mut self) {
        if self.clock.is_none_or(|clock| self.now() >= clock + 1_000) {
            self.clock = Some(self.now());
        }
    }

    pub(crate) fn message(&mut self, number: MessageNumber) -> &mut Message {
        self.messages.get_mut(&number).expect("the message is known")
    }

    /// The messages for which `key` returns a value, in the order of the values, then of posting.
    pub(crate) fn messages_sorted_by<K: Ord>(&self, key: impl Fn(&Message) -> Option<K>) -> Vec<(K, MessageNumber)> {
        let mut found_messages: Vec<_> =
            self.messages.iter().filter_map(|(number, message)| Some((key(message)?, *number))).collect();
        found_messages.sort();
        found_messages
    }

    pub(crate) fn numbers_sorted_by<K: Ord>(&self, key: impl Fn(&Message) -> Option<K>) -> Vec<MessageNumber> {
        self.messages_sorted_by(key).into_iter().map(|(_, number)| number).collect()
    }

    pub(crate) fn delayed(&self) -> Vec<(Instant, MessageNumber)> {
        self.messages_sorted_by(|message| match message.state {
            State::DelayedUntil(due) => Some(due),
            _ => None,
        })
    }

    pub(crate) fn active(&self) -> Vec<(Instant, MessageNumber)> {
        self.messages_sorted_by(|message| match message.state {
            State::ActiveUntil(deadline) => Some(deadline),
            _ => None,
        })
    }

    pub(crate) fn failed(&self) -> Vec<(Instant, MessageNumber)> {
        self.messages_sorted_by(|message| match message.state {
            State::Failed => message.outcome.as_ref().map(|outcome| outcome.at),
            _ => None,
        })
    }

    pub(crate) fn held(&self) -> Vec<(u8, MessageNumber)> {
        self.messages_sorted_by(|message| message.draft.hold.filter(|_| message.state == State::Held))
    }

    pub(crate) fn prioritized(&self) -> Vec<(i64, MessageNumber)> {
        self.messages_sorted_by(|message| {
            let is_ready_without_group = message.state == State::Waiting && message.draft.group.is_none();
            Some(message.draft.priority).filter(|priority| *priority != 0 && is_ready_without_group)
        })
    }

    pub(crate) fn expiring(&self) -> Vec<(Instant, MessageNumber)> {
        let mut expiring_messages: Vec<_> =
            self.with_purged().filter_map(|(number, message)| Some((message.expires?, number))).collect();
        expiring_messages.sort_unstable();
        expiring_messages
    }

    /// Whether the message waits, has priority 0 and has no group, so that its entry in the waiting list counts.
    pub(crate) fn is_waiting(&self, number: MessageNumber) -> bool {
        let is_in_list = |message: &Message| message.state == State::Waiting && message.draft.is_plain();
        self.messages.get(&number).is_some_and(is_in_list)
    }

    pub(crate) fn is_unfinished(&self, number: MessageNumber) -> bool {
        self.messages.get(&number).is_some_and(Message::is_unfinished)
    }

    pub(crate) fn is_kept(&self, number: MessageNumber) -> bool {
        self.messages.contains_key(&number)
    }

    pub(crate) fn find_by_own_id(&self, own_id: u8) -> Option<MessageNumber> {
        self.messages.iter().find(|(_, message)| message.draft.own_id == Some(own_id)).map(|(number, _)| *number)
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.totals.entry(what).or_default() += 1;
    }

    pub(crate) fn total(&self, what: &'static str) -> u64 {
        self.totals.get(what).copied().unwrap_or(0)
    }

    /// Makes messages ready at the tail of the waiting list. A message with a group or a priority other than 0 gets no entry in that
    /// list, and a message that still has an entry keeps it. A message that was delayed or held although
    /// it was leased before returns to its group.
    pub(crate) fn add_at_tail(&mut self, numbers: &[MessageNumber]) {
        self.note_returned(numbers);
        for number in numbers {
            let message = self.message(*number);
            message.is_returned =
                matches!(message.state, State::Held | State::DelayedUntil(_)) && message.was_delivered();
            message.state = State::Waiting;
            if message.draft.is_plain() && !self.waiting_list.contains(number) {
                self.waiting_list.push(*number);
            }
        }
    }

    /// Like [`add_at_tail`](Self::add_at_tail), for messages whose leases have just ended.
    pub(crate) fn return_at_tail(&mut self, numbers: &[MessageNumber]) {
        self.add_at_tail(numbers);
        for number in numbers {
            self.message(*number).is_returned = true;
        }
    }

    /// Makes messages ready at the head of the waiting list, in this order. All messages that join at the head were leased before.
    pub(crate) fn add_at_head(&mut self, numbers: &[MessageNumber]) {
        self.note_returned(numbers);
        for number in numbers.iter().rev() {
            let message = self.message(*number);
            message.state = State::Waiting;
            message.is_returned = true;
            if message.draft.is_plain() {
                self.waiting_list.insert(0, *number);
            }
        }
    }

    pub(crate) fn finish(&mut self, number: MessageNumber, end: OutcomeKind, json: String) {
        let at = self.now();
        let message = self.message(number);
        message.state = if end == OutcomeKind::Completed { State::Completed } else { State::Failed };
        message.outcome = Some(Outcome { end, at, json });
        message.expires = None;
        message.blocks_queue = false;
        message.is_to_be_cancelled = false;
        self.awaited.remove(&number);
        self.count(if end == OutcomeKind::Completed { "completed" } else { "failed" });
        self.just_finished.push(number);
    }

    /// Ends a step of the model: keeps the messages that have finished in the step, or forgets them if the retention count is 0.
    pub(crate) fn trim_finished(&mut self) {
        let finished_numbers = std::mem::take(&mut self.just_finished);
        self.log_finished(&finished_numbers);
        self.keep_own_ids_taken(&finished_numbers);
        for number in finished_numbers {
            let is_completed = self.message(number).state == State::Completed;
            let retention = if is_completed { self.settings.completed } else { self.settings.failed };
            if retention.count == 0 {
                self.forget(number);
            } else if is_completed {
                self.completed.push(number);
            }
        }
    }

    /// When messages finish, their own ids stay taken for `id_window`, even if the messages are forgotten earlier.
    fn keep_own_ids_taken(&mut self, numbers: &[MessageNumber]) {
        let taken_until = self.now() + self.settings.id_window;
        if self.settings.id_window > 0 {
            let own_ids = numbers.iter().filter_map(|number| self.messages[number].draft.own_id);
            self.taken.extend(own_ids.map(|own_id| (own_id, taken_until)));
        }
    }

    /// Forgets a message, and frees its own id at once.
    pub(crate) fn forget_for_good(&mut self, number: MessageNumber) {
        if let Some(own_id) = self.messages.get(&number).and_then(|message| message.draft.own_id) {
            self.taken.remove(&own_id);
        }
        self.forget(number);
    }

    pub(crate) fn forget(&mut self, number: MessageNumber) {
        self.messages.remove(&number);
        self.awaited.remove(&number);
    }

    pub(crate) fn delete(&mut self) -> bool {
        let existed = self.exists;
        let deleted_model = std::mem::take(self);
        // The deletion of a queue does not change the clock, the knowledge of the processes, the numbers given so far, and the index of
        // queues with schedules.
        let Self { micros, latest_micros, posted, calls, lost, has_declared, was_used, .. } = deleted_model;
        let Self { known_schedules, definitions, is_listed_with_schedules, .. } = deleted_model;
        *self = Self { micros, latest_micros, posted, calls, lost, has_declared, was_used, ..Self::default() };
        (self.known_schedules, self.definitions) = (known_schedules, definitions);
        self.is_listed_with_schedules = is_listed_with_schedules;
        existed
    }
}
