//! Operations with a lease in the model: settling, extending, reporting progress.

use queue_core::Queue;
use serde_json::{Value, json};

use crate::{
    leasing::earlier_instant,
    maintenance::{Pause, Requeues},
    message::{Lease, LeaseCall, MessageNumber, OutcomeKind, RequeuedState, SettlementKind, State},
    model::{CANCELLED_ERROR, Model},
};

/// How a consumer ends a lease.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LeaseAction {
    Complete,
    Fail,
    FailWithPause(u64),
    FailForGood,
    Release,
    ReleaseWithPause(u64),
    /// The message is released, and held for this key.
    Hold(u8),
}

impl LeaseAction {
    fn settlement_kind(self) -> SettlementKind {
        match self {
            Self::Complete => SettlementKind::Complete,
            Self::Fail | Self::FailWithPause(_) => SettlementKind::Fail,
            Self::FailForGood => SettlementKind::FailForGood,
            Self::Release | Self::ReleaseWithPause(_) | Self::Hold(_) => SettlementKind::Release,
        }
    }
}

/// The lease of one message by one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    pub(crate) number: MessageNumber,
    pub(crate) call: LeaseCall,
}

pub(crate) fn result_of(call: LeaseCall) -> String {
    format!(r#"{{ "by": {call} }}"#)
}

pub(crate) fn error_of(call: LeaseCall) -> String {
    format!(r#"{{"code":"boom","message":"lease {call}"}}"#)
}

impl Model {
    pub(crate) fn settle(&mut self, settlements: &[(Token, LeaseAction)]) -> Vec<Value> {
        let (completed_before, failed_before) = (self.total("completed"), self.total("failed"));
        // Before a call handles settlements, lapsed leases are recovered. Every call therefore gives the same answer to
        // a settlement of a lapsed lease.
        let requeues = self.recover_lapsed_leases();
        self.requeue(requeues);
        self.trim_finished();
        self.update_turns();

        let mut requeues = Requeues::default();
        let mut answers: Vec<(Token, SettlementKind, Value)> = vec![];
        for (token, action) in settlements {
            let earlier_answer =
                answers.iter().rfind(|(other, kind, _)| other == token && *kind == action.settlement_kind());
            let answer = match earlier_answer {
                Some((_, _, answer)) if !self.is_leased_by(*token) => answer.clone(),
                _ => self.settle_one(*token, *action, &mut requeues),
            };
            answers.push((*token, action.settlement_kind(), answer));
        }
        self.requeue(requeues);
        self.trim_finished();

        // A call that finishes messages also trims the finished messages.
        let completed_count = self.total("completed") - completed_before;
        let failed_count = self.total("failed") - failed_before;
        self.trim_completed(usize::try_from(2 * completed_count).expect("the count is small"));
        self.trim_failed(usize::try_from(failed_count).expect("the count is small"));
        answers.into_iter().map(|(_, _, answer)| answer).collect()
    }

    fn settle_one(&mut self, token: Token, action: LeaseAction, requeues: &mut Requeues) -> Value {
        let Token { number, call } = token;
        if self.lapsed_without_new_lease(token) && action.settlement_kind() == SettlementKind::Complete {
            // The message was not leased again since its lease lapsed, so the completion counts.
            self.message(number).run.as_mut().expect("the message has a run").lease = Lease::Live(call);
            self.finish(number, OutcomeKind::Completed, result_of(call));
            return json!("completed");
        }
        if !self.is_leased_by(token) {
            return self.answer_of_ended_lease(token, action.settlement_kind());
        }
        let is_to_be_cancelled = self.message(number).is_to_be_cancelled;
        let state = match action {
            LeaseAction::Complete => {
                self.finish(number, OutcomeKind::Completed, result_of(call));
                State::Completed
            }
            _ if is_to_be_cancelled => {
                self.count("cancelled");
                let end = if action.settlement_kind() == SettlementKind::Release {
                    OutcomeKind::Failed
                } else {
                    OutcomeKind::AttemptFailed
                };
                self.finish(number, end, CANCELLED_ERROR.into());
                State::Failed
            }
            LeaseAction::Fail => self.fail_attempt(number, error_of(call), None, requeues),
            LeaseAction::FailWithPause(pause) => self.fail_attempt(number, error_of(call), Some(pause), requeues),
            LeaseAction::FailForGood => {
                self.finish(number, OutcomeKind::AttemptFailed, error_of(call));
                State::Failed
            }
            LeaseAction::Release => self.release(number, 0, requeues),
            LeaseAction::ReleaseWithPause(pause) => self.release(number, pause, requeues),
            LeaseAction::Hold(key) => self.release_as_held(number, key, requeues),
        };
        match state {
            State::Completed => json!("completed"),
            State::Failed => json!("failed"),
            State::DelayedUntil(_) => json!("delayed"),
            State::Held => json!("held"),
            _ => json!("waiting"),
        }
    }

    fn release(&mut self, number: MessageNumber, pause: u64, requeues: &mut Requeues) -> State {
        self.may_expire_again(number);
        self.end_lease(number, SettlementKind::Release, Pause::For(pause), requeues)
    }

    /// Releases a message that is held for a key, or that the sticky signal of the key releases at once.
    fn release_as_held(&mut self, number: MessageNumber, key: u8, requeues: &mut Requeues) -> State {
        let now = self.now();
        let sticky_data = self.sticky.get(&key).filter(|signal| signal.until > now).map(|signal| signal.data.clone());
        let is_held = sticky_data.is_none();
        self.message(number).signal = sticky_data.flatten();
        self.may_expire_again(number);
        let pause = if is_held { Pause::UntilSignal(key) } else { Pause::For(0) };
        self.end_lease(number, SettlementKind::Release, pause, requeues)
    }

    /// Answers a settlement of a lease that is over. A repeated settlement gets the answer of the first settlement; any other
    /// settlement gets the answer that the lease is over.
    fn answer_of_ended_lease(&self, token: Token, action: SettlementKind) -> Value {
        let lease_is_over = json!("gone");
        let Some(message) = self.messages.get(&token.number) else { return lease_is_over };
        let Some(run) = &message.run else { return lease_is_over };
        let Some(outcome) = &message.outcome else {
            return match run.settled {
                Some(settled) if settled.call == token.call && settled.action == action => match settled.requeued_state
                {
                    RequeuedState::Held => json!("held"),
                    RequeuedState::Delayed => json!("delayed"),
                    RequeuedState::Waiting => json!("waiting"),
                },
                _ => lease_is_over,
            };
        };
        match (outcome.end, action) {
            _ if run.lease != Lease::Live(token.call) => lease_is_over,
            (OutcomeKind::Completed, SettlementKind::Complete) => json!("completed"),
            (
                OutcomeKind::AttemptFailed | OutcomeKind::Failed,
                SettlementKind::Fail | SettlementKind::FailForGood | SettlementKind::Release,
            ) => json!("failed"),
            _ => lease_is_over,
        }
    }

    /// Whether the lease is live, or has lapsed and is not recovered yet.
    pub(crate) fn is_leased_by(&self, token: Token) -> bool {
        self.messages.get(&token.number).is_some_and(|message| {
            message.is_active() && message.run.as_ref().is_some_and(|run| run.lease == Lease::Live(token.call))
        })
    }

    fn lapsed_without_new_lease(&self, token: Token) -> bool {
        self.messages.get(&token.number).is_some_and(|message| {
            message.is_unfinished() && message.run.as_ref().is_some_and(|run| run.lease == Lease::Lapsed(token.call))
        })
    }

    fn is_live(&self, token: Token) -> bool {
        let now = self.now();
        self.is_leased_by(token)
            && matches!(self.messages[&token.number].state, State::ActiveUntil(deadline) if deadline > now)
    }

    pub(crate) fn extend(&mut self, tokens: &[Token], visibility_timeout: Option<u64>) -> Vec<Value> {
        let now = self.now();
        let live_flags: Vec<bool> = tokens.iter().map(|token| self.is_live(*token)).collect();
        if live_flags.contains(&true) {
            self.store_clock();
        }
        let mut extend = |(token, is_live): (&Token, bool)| {
            if !is_live {
                return json!("gone");
            }
            let timeout = self.timeout_of_run(token.number);
            let message = self.message(token.number);
            let run = message.run.as_mut().expect("an active message has a run");
            run.extension = visibility_timeout.filter(|wanted_deadline| *wanted_deadline > run.visibility());
            let run_start = run.started.expect("the run has started").min(now);
            run.started = Some(run_start);
            let wanted_deadline = now + visibility_timeout.unwrap_or(run.visibility());
            let deadline = earlier_instant(
                wanted_deadline,
                timeout.map(|timeout| run_start + timeout + Queue::RUN_TIMEOUT_GRACE.get()),
            );
            message.state = State::ActiveUntil(deadline);
            json!({"until": deadline, "cancel": message.is_to_be_cancelled})
        };
        tokens.iter().zip(live_flags).map(&mut extend).collect()
    }

    pub(crate) fn report(&mut self, token: Token, progress: &str) -> bool {
        let is_live = self.is_live(token);
        if is_live {
            self.message(token.number).progress = Some(progress.to_owned());
            self.log_progress(token.number, progress);
        }
        is_live
    }
}
