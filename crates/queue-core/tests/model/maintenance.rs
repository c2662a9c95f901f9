//! Maintenance in the model: due messages, lapsed leases, expiry and trimming, which lease calls and maintenance calls run.

use queue_core::Queue;

use crate::{
    events::NewEvent,
    leasing::earlier_instant,
    message::{
        AttemptError, Instant, Lease, Message, MessageNumber, OutcomeKind, RequeuedState, Settled, SettlementKind,
        State,
    },
    model::{CANCELLED_ERROR, Model},
    settings::Keep,
};

const EXPIRED_ERROR: &str = r#"{"code":"expired","message":"not started within its ttl"}"#;

/// Messages that join the waiting list at the end of a step.
#[derive(Default)]
pub(crate) struct Requeues {
    head: Vec<MessageNumber>,
    tail: Vec<MessageNumber>,
    pub(crate) events: Vec<NewEvent>,
}

/// The time that a message pauses after its lease.
#[derive(Clone, Copy)]
pub(crate) enum Pause {
    /// The pause has a duration (ms), which may be 0.
    For(u64),
    /// The message is held for this key.
    UntilSignal(u8),
}

impl Model {
    /// Recovers lapsed leases, and moves expired and due messages, as each lease call and each maintenance call does.
    pub(crate) fn do_due_work(&mut self) {
        self.repair_after_a_clock_step();
        let requeues = self.recover_lapsed_leases();
        self.expire();
        self.promote_due();
        self.requeue(requeues);
        self.update_turns();
    }

    pub(crate) fn maintain(&mut self) -> Option<Instant> {
        self.do_due_work();
        self.trim_finished();
        self.clean_up();
        self.next_instant().into_iter().chain(self.next_clean_up()).min()
    }

    /// Shortens leases and the owner's timeout that end later than their durations allow.
    fn repair_after_a_clock_step(&mut self) {
        let now = self.now();
        if self.clock.is_none_or(|clock| clock <= now) {
            return;
        }
        self.clock = Some(now);
        for (deadline, number) in self.active() {
            let timeout = self.timeout_of_run(number);
            let message = self.message(number);
            let run = message.run.as_mut().expect("an active message has a run");
            let run_start = run.started.unwrap_or(now).min(now);
            let wanted_deadline = now + run.visibility().max(run.extension.unwrap_or(0));
            let latest_end = earlier_instant(
                wanted_deadline,
                timeout.map(|timeout| run_start + timeout + Queue::RUN_TIMEOUT_GRACE.get()),
            );
            if deadline > latest_end || run.started != Some(run_start) {
                run.started = Some(run_start);
                message.state = State::ActiveUntil(latest_end.min(deadline));
            }
        }
        let latest_end = now + self.settings.visibility_timeout;
        if let Some(owner) = &mut self.owner {
            owner.until = owner.until.min(latest_end);
        }
    }

    /// Trims finished messages, and removes keys, windows and waits that have expired, as a lease call that finds no message does.
    pub(crate) fn clean_up(&mut self) {
        self.trim_completed(1_000);
        self.trim_failed(1_000);
        let now = self.now();
        self.requests.retain(|_, request| request.until > now);
        self.sticky.retain(|_, signal| signal.until > now);
        self.taken.retain(|_, until| *until > now);
        self.awaited.retain(|_, until| *until > now);
        // Entries of removed messages that have reached the head of the waiting list are dropped.
        let removed_count =
            self.waiting_list.iter().position(|number| self.is_waiting(*number)).unwrap_or(self.waiting_list.len());
        self.waiting_list.drain(..removed_count);
        self.forget_purged();
    }

    /// Ends leases that have lapsed.
    pub(crate) fn recover_lapsed_leases(&mut self) -> Requeues {
        let mut requeues = Requeues::default();
        let now = self.now();
        for (deadline, number) in self.active().into_iter().filter(|(deadline, _)| *deadline <= now) {
            let timeout = self.timeout_of_run(number);
            let max_lapses = self.settings.max_lapses;
            let message = self.message(number);
            let is_to_be_cancelled = message.is_to_be_cancelled;
            let run = message.run.as_mut().expect("an active message has a run");
            let run_end = timeout.map(|timeout| run.started.unwrap_or(0) + timeout);
            if is_to_be_cancelled {
                run.lease = Lease::None; // The lease ended without a settlement.
                self.count("cancelled");
                self.finish(number, OutcomeKind::Failed, CANCELLED_ERROR.into());
            } else if run_end.is_some_and(|end| deadline >= end) {
                let error_text = format!("the run took longer than {} ms", timeout.unwrap_or(0));
                self.fail_attempt(number, error_json("timed_out", &error_text), None, &mut requeues);
            } else {
                run.lapses += 1;
                let lapses = run.lapses;
                if let Lease::Live(call) = run.lease {
                    run.lease = if lapses < max_lapses { Lease::Lapsed(call) } else { Lease::None };
                }
                if lapses < max_lapses {
                    run.set_ready_at(Some(deadline));
                    let json = error_json("lease_lapsed", "the lease lapsed");
                    run.add_error(AttemptError { attempt: run.attempts, at: now, json });
                }
                self.count("lapsed");
                if lapses < max_lapses {
                    self.return_to_waiting_list(number, true, &mut requeues);
                    requeues.events.push(self.requeue_event(number, "lapsed"));
                } else {
                    let error_text = format!("the lease lapsed {lapses} times without an answer");
                    self.finish(number, OutcomeKind::Failed, error_json("lease_lapsed", &error_text));
                }
            }
        }
        requeues
    }

    /// Fails an attempt. The message is retried after its back-off, or after `pause`, while it has attempts left.
    pub(crate) fn fail_attempt(
        &mut self,
        number: MessageNumber,
        json: String,
        pause: Option<u64>,
        requeues: &mut Requeues,
    ) -> State {
        let (at, queue) = (self.now(), self.settings.clone());
        let message = self.message(number);
        let run = message.run.as_mut().expect("an active message has a run");
        let attempt = run.attempts + 1;
        if attempt >= message.draft.max_attempts.unwrap_or(queue.max_attempts) {
            self.finish(number, OutcomeKind::AttemptFailed, json);
            return State::Failed;
        }
        let pause = pause.unwrap_or_else(|| message.draft.backoff.unwrap_or(queue.backoff).pause_after(attempt));
        run.attempts = attempt;
        run.add_error(AttemptError { attempt, at, json });
        self.count("retried");
        self.end_lease(number, SettlementKind::Fail, Pause::For(pause), requeues)
    }

    /// Ends a settled lease whose message has not finished.
    pub(crate) fn end_lease(
        &mut self,
        number: MessageNumber,
        action: SettlementKind,
        pause: Pause,
        requeues: &mut Requeues,
    ) -> State {
        let now = self.now();
        let (requeued_state, ready_at) = match pause {
            Pause::UntilSignal(_) => (RequeuedState::Held, None),
            Pause::For(0) => (RequeuedState::Waiting, Some(now)),
            Pause::For(pause) => (RequeuedState::Delayed, Some(now + pause)),
        };
        let is_exclusive = self.settings.exclusive.is_some();
        let message = self.message(number);
        let run = message.run.as_mut().expect("an active message has a run");
        if let Lease::Live(call) = run.lease {
            run.settled = Some(Settled { action, requeued_state, call });
        }
        run.lease = Lease::None;
        run.set_ready_at(ready_at);
        match pause {
            Pause::UntilSignal(key) => {
                message.state = State::Held;
                message.draft.hold = Some(key);
            }
            Pause::For(0) => self.return_to_waiting_list(number, action == SettlementKind::Release, requeues),
            Pause::For(pause) => {
                message.state = State::DelayedUntil(now + pause);
                message.blocks_queue = is_exclusive;
            }
        }
        requeues
            .events
            .push(self.requeue_event(number, if action == SettlementKind::Fail { "retried" } else { "released" }));
        self.message(number).state
    }

    pub(crate) fn return_to_waiting_list(&mut self, number: MessageNumber, at_the_head: bool, requeues: &mut Requeues) {
        self.message(number).state = State::Waiting;
        // In an exclusive queue no message overtakes a requeued message.
        let joins_head = at_the_head || self.settings.exclusive.is_some();
        if joins_head { requeues.head.push(number) } else { requeues.tail.push(number) }
    }

    /// A released message may expire again if none of its attempts has failed and none of its leases has lapsed.
    pub(crate) fn may_expire_again(&mut self, number: MessageNumber) {
        let message = self.message(number);
        let run = message.run_so_far();
        if run.attempts == 0 && run.lapses == 0 {
            message.expires = message.draft.ttl.map(|ttl| message.created + ttl);
        }
    }

    /// Puts requeued messages into the waiting list: at its head in the order of posting, and at its tail in the order in which they
    /// were requeued.
    pub(crate) fn requeue(&mut self, requeues: Requeues) {
        self.log_events(requeues.events);
        self.requeue_at_head(requeues.head);
        self.return_at_tail(&requeues.tail);
    }

    /// Puts requeued messages at the head of the waiting list. In an exclusive queue the function also sorts these messages and
    /// those that were requeued before by the order of posting, and drops entries of messages that have left the waiting list.
    pub(crate) fn requeue_at_head(&mut self, mut numbers: Vec<MessageNumber>) {
        if numbers.is_empty() {
            return;
        }
        if self.settings.exclusive.is_some() {
            let was_requeued = |number: &MessageNumber| {
                let run = self.messages.get(number).map(Message::run_so_far).unwrap_or_default();
                !self.is_waiting(*number) || run.settled.is_some() || matches!(run.lease, Lease::Lapsed(_))
            };
            let requeued_count =
                self.waiting_list.iter().position(|number| !was_requeued(number)).unwrap_or(self.waiting_list.len());
            let requeued_before: Vec<MessageNumber> = self.waiting_list.drain(..requeued_count).collect();
            numbers.extend(requeued_before.into_iter().filter(|number| self.is_waiting(*number)));
        }
        numbers.sort_unstable();
        self.add_at_head(&numbers);
    }

    fn expire(&mut self) {
        let now = self.now();
        for (_, number) in self.expiring().into_iter().filter(|(instant, _)| *instant <= now) {
            if let Some(purged) = self.purge.as_mut().and_then(|purge| purge.messages.get_mut(&number)) {
                purged.expires = None;
                continue;
            }
            self.count("expired");
            self.finish(number, OutcomeKind::Failed, EXPIRED_ERROR.into());
        }
    }

    /// Makes due messages ready: those that blocked an exclusive queue at the head of the waiting list, in the order of posting;
    /// the rest at the tail, by due time.
    fn promote_due(&mut self) {
        let now = self.now();
        let due_numbers =
            self.delayed().into_iter().filter(|(due_numbers, _)| *due_numbers <= now).map(|(_, number)| number);
        let due_numbers: Vec<MessageNumber> = due_numbers.collect();
        self.log_for_each(&due_numbers, "promoted");
        let (head, tail): (Vec<_>, Vec<_>) =
            due_numbers.into_iter().partition(|number| self.messages[number].blocks_queue);
        self.add_at_tail(&tail);
        for number in &head {
            self.message(*number).blocks_queue = false;
        }
        self.requeue_at_head(head);
    }

    /// The timeout of a run: the message's own, otherwise the queue's when the run began.
    pub(crate) fn timeout_of_run(&self, number: MessageNumber) -> Option<u64> {
        let message = &self.messages[&number];
        message.draft.timeout.or(message.run.as_ref().and_then(|run| run.timeout))
    }

    pub(crate) fn timeout_of(&self, number: MessageNumber) -> Option<u64> {
        self.messages[&number].draft.timeout.or(self.settings.timeout)
    }

    /// Forgets at most `limit` messages from the front of `completed`. While `completed` has ids of erased messages, messages are
    /// checked one by one; otherwise the function checks whether `limit` messages may go together, then half as many, and so on,
    /// as the script does.
    pub(crate) fn trim_completed(&mut self, limit: usize) {
        let (keep, now) = (self.settings.completed, self.now());
        let mut trim_count = limit.min(self.completed.len());
        let mut erased_count = self.completed.iter().filter(|number| !self.is_kept(**number)).count();
        let excess_count = self.completed.len().saturating_sub(erased_count + keep.count);
        let nth_may_be_trimmed = |model: &Self, nth: usize| match model.finished_at(model.completed[nth - 1]) {
            Some(at) => may_be_trimmed(at, now, keep, nth <= excess_count),
            None => nth == 1,
        };
        // A message that finished before the clock stepped back is forgotten together with messages that finished after it.
        let mut trimmed_with_later = 0;
        if self
            .completed
            .first()
            .and_then(|first_number| self.finished_at(*first_number))
            .is_some_and(|first_number| first_number > now)
        {
            trimmed_with_later = self.completed.len();
            while trimmed_with_later > 0 && !nth_may_be_trimmed(self, trimmed_with_later) {
                trimmed_with_later /= 2;
            }
        }
        if erased_count > 0 {
            for nth in 1..=trim_count {
                let first_number = self.completed[0];
                let excess_count = (self.completed.len() - erased_count).saturating_sub(keep.count);
                match self.finished_at(first_number) {
                    Some(at) if nth > trimmed_with_later && !may_be_trimmed(at, now, keep, excess_count >= 1) => return,
                    Some(_) => {}
                    None => erased_count -= 1,
                }
                self.trim_first_completed(1);
            }
            return;
        }
        if trimmed_with_later > 0 {
            self.trim_first_completed(trim_count.min(trimmed_with_later));
            return;
        }
        while trim_count > 0 {
            if nth_may_be_trimmed(self, trim_count) {
                self.trim_first_completed(trim_count);
                return;
            }
            trim_count /= 2;
        }
    }

    fn trim_first_completed(&mut self, count: usize) {
        for number in self.completed.drain(..count).collect::<Vec<_>>() {
            self.forget(number);
        }
    }

    pub(crate) fn pop_completed(&mut self, count: usize) {
        for number in self.completed.drain(..count).collect::<Vec<_>>() {
            self.forget_for_good(number);
        }
    }

    /// Forgets at most `limit` failed messages: those older than `age`, or those beyond `count`, whichever are more.
    pub(crate) fn trim_failed(&mut self, limit: usize) {
        let (keep, now) = (self.settings.failed, self.now());
        let failed_messages = self.failed();
        let older_than = |age: u64| failed_messages.iter().filter(move |(at, _)| *at + age <= now);
        let excess_count = failed_messages.len().saturating_sub(keep.count).min(limit);
        let mut trimmed_numbers: Vec<MessageNumber> =
            older_than(keep.age).take(limit).map(|(_, number)| *number).collect();
        if excess_count > trimmed_numbers.len() {
            // A message may have failed later than now, if Redis's clock has stepped back since.
            let failed_in_future = failed_messages.iter().filter(|(at, _)| *at > now);
            trimmed_numbers = older_than(keep.min_age)
                .chain(failed_in_future)
                .take(excess_count)
                .map(|(_, number)| *number)
                .collect();
        }
        for number in trimmed_numbers {
            self.forget(number);
        }
    }

    fn finished_at(&self, number: MessageNumber) -> Option<Instant> {
        self.messages.get(&number).and_then(|message| Some(message.outcome.as_ref()?.at))
    }

    /// The instant of the next work that a consumer may wait for: a due time, a deadline or an expiry.
    pub(crate) fn next_instant(&self) -> Option<Instant> {
        let waiting_entries = [self.delayed(), self.active(), self.expiring()];
        let next_purge_step = self.purge.as_ref().map(|_| self.now() + 1_000);
        waiting_entries.iter().flatten().map(|(instant, _)| *instant).chain(next_purge_step).min()
    }

    /// The instant of the next clean-up, which no client waits for.
    pub(crate) fn next_clean_up(&self) -> Option<Instant> {
        if self.purge.is_some() {
            return Some(self.now());
        }
        let mut clean_up_instants = vec![];
        if let Some(first) = self.completed.first() {
            let kept_count = self.completed.iter().filter(|number| self.is_kept(**number)).count();
            let first_finished_at = self.finished_at(*first).unwrap_or(self.now());
            clean_up_instants.push(first_is_trimmed_at(
                first_finished_at,
                self.now(),
                kept_count,
                self.settings.completed,
            ));
        }
        let failed_messages = self.failed();
        if let Some((first_finished_at, _)) = failed_messages.first() {
            clean_up_instants.push(first_is_trimmed_at(
                *first_finished_at,
                self.now(),
                failed_messages.len(),
                self.settings.failed,
            ));
        }
        clean_up_instants.extend(self.requests.values().map(|request| request.until));
        clean_up_instants.extend(self.sticky.values().map(|signal| signal.until));
        clean_up_instants.extend(self.awaited.values());
        clean_up_instants.extend(self.taken.values());
        clean_up_instants.into_iter().min()
    }
}

/// Whether a message that finished at this instant may be trimmed. A message with an instant later than now finished before a
/// step back of the clock; it may be trimmed when there are too many messages.
fn may_be_trimmed(finished_at: Instant, now: Instant, keep: Keep, are_too_many: bool) -> bool {
    finished_at + keep.age <= now || (are_too_many && (finished_at + keep.min_age <= now || finished_at > now))
}

fn first_is_trimmed_at(finished_at: Instant, now: Instant, kept: usize, keep: Keep) -> Instant {
    match kept > keep.count {
        false => finished_at.min(now) + keep.age,
        true if finished_at > now => now,
        true => finished_at + keep.min_age,
    }
}

fn error_json(code: &str, message: &str) -> String {
    format!(r#"{{"code":"{code}","message":"{message}"}}"#)
}
