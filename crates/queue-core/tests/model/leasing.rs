//! Lease calls in the model: which messages a consumer gets.

use std::collections::BTreeSet;

use queue_core::Queue;
use serde_json::{Value, json};

use crate::{
    maintenance::Requeues,
    message::{Instant, Lease, LeaseCall, MessageNumber, OutcomeKind, RequeuedState, Settled, SettlementKind, State},
    model::{CANCELLED_ERROR, Model, Owner},
    settling::Token,
};

/// A lease request of a consumer.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) consumer: u8,
    pub(crate) max: usize,
    pub(crate) visibility_timeout: Option<u64>,
    /// Whether the consumer remains the owner of an exclusive queue only while it has leases.
    pub(crate) without_owner_timeout: bool,
}

/// The messages that a lease call has taken so far.
pub(crate) struct TakenMessages {
    pub(crate) taken: Vec<MessageNumber>,
    pub(crate) max: usize,
    pub(crate) is_full: bool,
}

impl TakenMessages {
    fn can_take_more(&self, limit: usize) -> bool {
        !self.is_full && self.taken.len() < limit
    }

    /// Takes a message, and returns whether the message was taken. A message that fails if its next lease lapses is taken alone.
    pub(crate) fn take_if_possible(&mut self, model: &Model, number: MessageNumber) -> bool {
        let must_be_leased_alone = model.must_be_leased_alone(number);
        let is_accepted = !self.is_full && (self.taken.is_empty() || !must_be_leased_alone);
        self.taken.extend(is_accepted.then_some(number));
        self.is_full = self.is_full || must_be_leased_alone || self.taken.len() >= self.max;
        is_accepted
    }
}

/// The result of a lease call.
pub(crate) struct Leased {
    pub(crate) taken: Vec<MessageNumber>,
    pub(crate) answer: Value,
    /// Whether the answer names the time of the next lease call, as it does unless more messages are ready.
    pub(crate) has_next_call: bool,
    /// The next instant at which the model knows a reason for another lease call.
    pub(crate) next_call: Option<Instant>,
}

impl Model {
    /// Leases messages; `None` if the queue does not exist.
    pub(crate) fn lease(&mut self, request: &Request) -> Option<Leased> {
        self.return_lost_leases();
        if !self.declare_if_it_exists() {
            return None;
        }
        let (call, now) = (self.calls, self.now());
        self.calls += 1;
        let failed_before = self.total("failed");
        let had_groups = self.unfinished_grouped_count() > 0;
        self.do_due_work();
        let visibility_timeout = request.visibility_timeout.unwrap_or(self.settings.visibility_timeout);

        let mut max = if self.is_paused { 0 } else { request.max };
        let mut allowed_again_at = None;
        if let Some(parallel) = self.settings.exclusive {
            let owner_timeout = if request.without_owner_timeout { 0 } else { visibility_timeout };
            let (allowed, until) = self.leases_for_owner(request.consumer, owner_timeout, parallel);
            max = max.min(allowed);
            allowed_again_at = until;
        }
        if max > 0 {
            let (allowed, until) = self.leases_within_limit();
            max = max.min(allowed);
            allowed_again_at = until;
        }

        let taken_numbers = self.take(max);
        let must_be_leased_alone = taken_numbers.first().is_some_and(|first| self.must_be_leased_alone(*first));
        self.trim_finished();
        if taken_numbers.is_empty() {
            self.clean_up();
        } else if self.total("failed") > failed_before {
            self.trim_failed(200);
        }

        let mut deliveries = vec![];
        for number in &taken_numbers {
            let (timeout, ready) = (self.timeout_of(*number), self.ready_since(*number));
            let queue_timeout = self.settings.timeout;
            let deadline = earlier_instant(
                now + visibility_timeout,
                timeout.map(|timeout| now + timeout + Queue::RUN_TIMEOUT_GRACE.get()),
            );
            let message = self.message(*number);
            message.state = State::ActiveUntil(deadline);
            message.expires = None;
            let mut run = message.run_so_far();
            run.lease = Lease::Live(call);
            run.started = Some(now);
            run.consumer = Some(request.consumer);
            run.deliveries += 1;
            (run.visibility, run.timeout) = (Some(visibility_timeout), queue_timeout);
            message.run = Some(run);
            let mut shown_message = self.message_json(*number);
            shown_message["progress"] = Value::Null; // A delivery has no progress.
            deliveries.push(json!({"message": shown_message, "until": deadline, "timeout": timeout, "ready": ready}));
        }
        self.log_started(&taken_numbers);
        self.update_turns();
        if !taken_numbers.is_empty() {
            self.store_clock();
        }
        if self.settings.rate_limit.is_some() {
            self.leases_made.extend(taken_numbers.iter().map(|_| now));
        }
        let is_at_owner_limit = self.settings.exclusive.is_some() && taken_numbers.len() >= max;
        let more_is_ready =
            allowed_again_at.is_none() && !self.is_paused && !is_at_owner_limit && self.anything_is_ready();
        // For clean-up of the queue, the answer names a time of the next lease call that is at least one second away.
        let next_clean_up =
            self.next_clean_up().filter(|_| taken_numbers.is_empty()).map(|instant| instant.max(now + 1_000));
        let known_instants: Vec<Instant> =
            self.next_instant().into_iter().chain(allowed_again_at).chain(next_clean_up).collect();
        let permits_leasing_ahead = !self.is_paused
            && !had_groups
            && self.settings.max_lapses > 1
            && (self.settings.exclusive.is_none()
                && self.settings.rate_limit.is_none()
                && self.settings.timeout.is_none());
        Some(Leased {
            answer: json!({
                "deliveries": deliveries, "visibility_timeout": visibility_timeout, "more": more_is_ready,
                "alone": must_be_leased_alone,
                "ahead": permits_leasing_ahead,
            }),
            has_next_call: !more_is_ready,
            next_call: known_instants.into_iter().min(),
            taken: taken_numbers,
        })
    }

    /// The instant at which a message became ready.
    pub(crate) fn ready_since(&self, number: MessageNumber) -> Instant {
        let message = &self.messages[&number];
        message.run.as_ref().and_then(|run| run.ready).or(message.ready).unwrap_or(message.first_due)
    }

    /// Returns the number of messages that a consumer may lease from an exclusive queue, and the end of the owner's timeout if
    /// another consumer is the owner.
    fn leases_for_owner(&mut self, consumer: u8, keep_for: u64, parallel: usize) -> (usize, Option<Instant>) {
        let (now, active) = (self.now(), self.active().len());
        let is_owner = self.owner.as_ref().is_some_and(|owner| owner.consumer == consumer);
        let owner_until = self.owner.as_ref().map(|owner| owner.until).filter(|until| *until > now);
        if !is_owner && (active > 0 || owner_until.is_some()) {
            return (0, owner_until);
        }
        self.owner = Some(Owner { consumer, until: now + keep_for });
        self.store_clock();
        let is_blocked = self.messages.values().any(|message| message.blocks_queue);
        (if is_blocked { 0 } else { parallel.saturating_sub(active) }, None)
    }

    /// Returns the number of leases that the rate limit permits now, and if that is 0, the instant at which the next lease is
    /// permitted.
    fn leases_within_limit(&mut self) -> (usize, Option<Instant>) {
        let Some(limit) = self.settings.rate_limit else { return (usize::MAX, None) };
        let now = self.now();
        // If Redis's clock has stepped back, a lease with a later instant than now counts as made now.
        self.leases_made.iter_mut().for_each(|made| *made = now.min(*made));
        self.leases_made.retain(|made| made + limit.duration > now);
        let leases_left = limit.max.saturating_sub(self.leases_made.len());
        (leases_left, self.leases_made.first().map(|made| made + limit.duration).filter(|_| leases_left == 0))
    }

    /// Whether the next lapse of a message would fail the message.
    fn must_be_leased_alone(&self, number: MessageNumber) -> bool {
        let lapse_count = self.messages[&number].run_so_far().lapses;
        lapse_count > 0 && lapse_count + 1 >= self.settings.max_lapses
    }

    fn take(&mut self, max: usize) -> Vec<MessageNumber> {
        let mut taken_messages = TakenMessages { taken: vec![], max, is_full: max == 0 };
        if self.unfinished_grouped_count() > 0 {
            self.take_by_turns(&mut taken_messages);
        } else {
            self.take_plain(&mut taken_messages, max);
        }
        taken_messages.taken
    }

    /// Takes messages without a group until `limit` are taken: first messages of negative priorities, then of priority 0, then of
    /// positive priorities.
    pub(crate) fn take_plain(&mut self, taken_messages: &mut TakenMessages, limit: usize) {
        let prioritized: Vec<_> =
            self.prioritized().into_iter().filter(|(_, number)| !taken_messages.taken.contains(number)).collect();
        let (before, after): (Vec<_>, Vec<_>) = prioritized.into_iter().partition(|(priority, _)| *priority < 0);
        for (_, number) in before {
            if taken_messages.can_take_more(limit) {
                taken_messages.take_if_possible(self, number);
            }
        }
        if taken_messages.can_take_more(limit) {
            // This loop over the waiting list drops the entries of messages that do not wait any more, also directly
            // behind the last message that is leased.
            while let Some(first) = self.waiting_list.first().copied() {
                if self.is_waiting(first)
                    && !(taken_messages.can_take_more(limit) && taken_messages.take_if_possible(self, first))
                {
                    break;
                }
                self.waiting_list.remove(0);
            }
        }
        for (_, number) in after {
            if taken_messages.can_take_more(limit) {
                taken_messages.take_if_possible(self, number);
            }
        }
    }

    pub(crate) fn anything_is_ready(&self) -> bool {
        if self.unfinished_grouped_count() > 0 {
            return !self.turns.is_empty();
        }
        self.messages.values().any(|message| message.state == State::Waiting)
    }

    /// Undoes the lease calls whose answers were lost.
    pub(crate) fn return_lost_leases(&mut self) {
        for call in std::mem::take(&mut self.lost) {
            let is_of_call = |lease: Lease| lease == Lease::Live(call);
            let numbers_of_call = self.numbers_sorted_by(|message| {
                (message.is_active() && message.run.as_ref().is_some_and(|run| is_of_call(run.lease))).then_some(())
            });
            self.undo_leases_of_call(call, numbers_of_call);
        }
    }

    /// Undoes these leases, and returns the number of those that were live.
    pub(crate) fn undo_leases(&mut self, tokens: &[Token]) -> usize {
        let tokens: BTreeSet<Token> = tokens.iter().copied().collect();
        let mut calls: Vec<LeaseCall> = vec![];
        for token in &tokens {
            calls.extend(Some(token.call).filter(|call| !calls.contains(call)));
        }
        let mut undone_count = 0;
        // The call that leased the first message is undone last, so that its messages come first.
        for call in calls.into_iter().rev() {
            let live_leases = tokens.iter().filter(|token| token.call == call && self.is_leased_by(**token));
            let live_leases: Vec<MessageNumber> = live_leases.map(|token| token.number).collect();
            undone_count += live_leases.len();
            self.undo_leases_of_call(call, live_leases);
        }
        undone_count
    }

    fn undo_leases_of_call(&mut self, call: LeaseCall, numbers: impl IntoIterator<Item = MessageNumber>) {
        let mut requeues = Requeues::default();
        for number in numbers {
            let message = self.message(number);
            let run = message.run.as_mut().expect("an active message has a run");
            run.settled = Some(Settled { action: SettlementKind::Undo, requeued_state: RequeuedState::Waiting, call });
            run.lease = Lease::None;
            run.started = None;
            run.consumer = None;
            run.deliveries -= 1;
            run.set_ready_at(run.ready);
            if message.is_to_be_cancelled {
                self.count("cancelled");
                self.finish(number, OutcomeKind::Failed, CANCELLED_ERROR.into());
            } else {
                self.may_expire_again(number);
                self.return_to_waiting_list(number, true, &mut requeues);
                requeues.events.push(self.requeue_event(number, "released"));
            }
        }
        self.requeue(requeues);
        self.trim_finished();
        self.update_turns();
    }
}

pub(crate) fn earlier_instant(instant: Instant, other: Option<Instant>) -> Instant {
    other.map_or(instant, |other| instant.min(other))
}
