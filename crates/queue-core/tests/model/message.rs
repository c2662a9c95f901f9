//! A message in the model, with its run and outcome.

use std::fmt;

use crate::{schedules::PostedBy, settings::Backoff};

/// The model's name for the id of a message: n for the n-th message that was ever posted.
pub(crate) type MessageNumber = usize;
/// The model's name for the token of a lease: n for the leases of the n-th lease call.
pub(crate) type LeaseCall = usize;
/// An instant, in milliseconds since 1970.
pub(crate) type Instant = u64;

/// A message as a producer posts it.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Draft {
    pub(crate) due: Due,
    pub(crate) named: bool,
    pub(crate) own_id: Option<u8>,
    pub(crate) priority: i64,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) timeout: Option<u64>,
    pub(crate) ttl: Option<u64>,
    /// The hold key, or the key for which a consumer has held the message again.
    pub(crate) hold: Option<u8>,
    pub(crate) group: Option<u8>,
    /// The schedule that posts the message.
    pub(crate) posted_by: Option<PostedBy>,
}

impl Draft {
    /// Whether the message waits in the waiting list: it has no group, and the priority 0.
    pub(crate) fn is_plain(&self) -> bool {
        self.group.is_none() && self.priority == 0
    }
}

/// Writes only the options that differ from those of a plain message.
impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = [
            ("due", (!matches!(self.due, Due::Now)).then(|| format!("{:?}", self.due))),
            ("named", self.named.then(String::new)),
            ("own_id", self.own_id.map(|id| id.to_string())),
            ("priority", Some(self.priority).filter(|priority| *priority != 0).map(|priority| priority.to_string())),
            ("max_attempts", self.max_attempts.map(|max| max.to_string())),
            ("backoff", self.backoff.map(|backoff| format!("{backoff:?}"))),
            ("timeout", self.timeout.map(|timeout| timeout.to_string())),
            ("ttl", self.ttl.map(|ttl| ttl.to_string())),
            ("hold", self.hold.map(|key| key.to_string())),
            ("group", self.group.map(|key| key.to_string())),
        ];
        let options = options.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        write!(f, "message({})", options.collect::<Vec<_>>().join(", "))
    }
}

/// The time (ms) before which a message may not be leased.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Due {
    #[default]
    Now,
    After(u64),
    /// The due time is an instant this far after now.
    AtFuture(u64),
    /// The due time is an instant this far before now.
    AtPast(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Held,
    DelayedUntil(Instant),
    Waiting,
    ActiveUntil(Instant),
    Completed,
    Failed,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) draft: Draft,
    pub(crate) created: Instant,
    pub(crate) first_due: Instant,
    /// The instant at which the message fails unless it has started; `None` after its start, or without a ttl.
    pub(crate) expires: Option<Instant>,
    pub(crate) state: State,
    /// Whether a waiting message of a group was leased before, and so comes before the other messages of the group.
    pub(crate) is_returned: bool,
    /// The instant at which the message was promoted or signalled, and so became ready.
    pub(crate) ready: Option<Instant>,
    /// Whether the message is in back-off in an exclusive queue, from which nothing is leased until the back-off ends.
    pub(crate) blocks_queue: bool,
    pub(crate) is_to_be_cancelled: bool,
    /// The record of the message's deliveries; `None` before the first delivery.
    pub(crate) run: Option<Run>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) progress: Option<String>,
    /// The data of the signal that released the message last.
    pub(crate) signal: Option<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) lease: Lease,
    pub(crate) started: Option<Instant>,
    /// The number of failed attempts.
    pub(crate) attempts: u32,
    pub(crate) lapses: u32,
    pub(crate) deliveries: u32,
    pub(crate) consumer: Option<u8>,
    /// The last settlement that did not finish the message.
    pub(crate) settled: Option<Settled>,
    /// The last errors of failed attempts and lapses, the oldest first.
    pub(crate) errors: Vec<AttemptError>,
    /// The visibility timeout with which the lease of the run was made.
    pub(crate) visibility: Option<u64>,
    pub(crate) timeout: Option<u64>,
    /// The duration of the last extension of the lease, if longer than the visibility timeout.
    pub(crate) extension: Option<u64>,
    /// The instant at which the message is ready again after a requeue.
    pub(crate) ready: Option<Instant>,
}

impl Run {
    /// Clears the durations of a lease that is over, and sets the instant at which the message is ready again.
    pub(crate) fn set_ready_at(&mut self, ready: Option<Instant>) {
        (self.visibility, self.timeout, self.extension, self.ready) = (None, None, None, ready);
    }

    pub(crate) fn add_error(&mut self, error: AttemptError) {
        const MAX_ERRORS: usize = 5;
        self.errors.push(error);
        self.errors.drain(..self.errors.len().saturating_sub(MAX_ERRORS));
    }

    pub(crate) fn visibility(&self) -> u64 {
        self.visibility.unwrap_or(DEFAULT_VISIBILITY_TIMEOUT)
    }
}

/// The visibility timeout of a run that stores none.
pub(crate) const DEFAULT_VISIBILITY_TIMEOUT: u64 = 30_000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Lease {
    #[default]
    None,
    Live(LeaseCall),
    /// The lease lapsed, and the message has not been leased since.
    Lapsed(LeaseCall),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) action: SettlementKind,
    pub(crate) requeued_state: RequeuedState,
    pub(crate) call: LeaseCall,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequeuedState {
    Held,
    Delayed,
    Waiting,
}

/// The kinds of settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettlementKind {
    Complete,
    Fail,
    FailForGood,
    Release,
    /// The lease was undone because its handler never started.
    Undo,
}

/// The error of a failed attempt or lapse, or of a message that failed.
#[derive(Debug, Clone)]
pub(crate) struct AttemptError {
    pub(crate) attempt: u32,
    pub(crate) at: Instant,
    pub(crate) json: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) end: OutcomeKind,
    pub(crate) at: Instant,
    /// The result or the error, as JSON.
    pub(crate) json: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutcomeKind {
    Completed,
    /// An attempt failed, and no attempt is left.
    AttemptFailed,
    /// The message failed, but not by an attempt: it was cancelled, it expired, or its leases lapsed too often.
    Failed,
}

impl Message {
    pub(crate) fn is_unfinished(&self) -> bool {
        !matches!(self.state, State::Completed | State::Failed)
    }

    pub(crate) fn is_active(&self) -> bool {
        matches!(self.state, State::ActiveUntil(_))
    }

    pub(crate) fn was_delivered(&self) -> bool {
        self.run.as_ref().is_some_and(|run| run.deliveries > 0)
    }

    pub(crate) fn run_so_far(&self) -> Run {
        self.run.clone().unwrap_or_default()
    }

    /// The number of attempts that have completed or failed.
    pub(crate) fn attempts_made(&self) -> u32 {
        let ended_by_an_attempt = self.outcome.as_ref().is_some_and(|outcome| outcome.end != OutcomeKind::Failed);
        self.run_so_far().attempts + u32::from(ended_by_an_attempt)
    }
}
