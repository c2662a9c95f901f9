//! The lease calls of a queue whose reply was lost. The leases that a lost call may have made are searched for twice.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::message::token::Secret;

/// The maximum number of lost lease calls that are remembered; the leases of further lost calls lapse.
const MAX_LOST_CALLS: usize = 100;

/// Lease calls whose reply was lost. The leases that lost calls may have made must be undone.
#[derive(Default)]
pub(super) struct LostCalls(Mutex<Vec<LostCall>>);

impl LostCalls {
    /// Begins a lease call, and returns its guard. When the guard of a lease call is dropped, the call is remembered as lost,
    /// unless it was marked as answered.
    pub(super) fn begin_call(&self) -> LeaseCallGuard<'_> {
        LeaseCallGuard { lost_calls: self, secret: Secret::generate(), is_answered: false }
    }

    /// Returns the secret of a lease call whose reply was lost, if the leases of that call must be searched for now. The tokens of all
    /// leases that a lease call makes contain the secret of the call.
    pub(super) fn next_due(&self) -> Option<Secret> {
        self.0.lock().iter().find(|lost| lost.is_due()).map(|lost| lost.secret.clone())
    }

    /// The pause until the leases of a call whose reply was lost are next searched for; `None` if no reply was lost.
    pub(super) fn pause_until_lease_search(&self) -> Option<Duration> {
        self.0.lock().iter().map(LostCall::pause).min()
    }

    /// Notes that the leases of a lease call whose reply was lost were searched for. After the second search for its leases, such a
    /// lease call is forgotten.
    pub(super) fn note_lease_search(&self, secret: &Secret) {
        self.0.lock().retain_mut(|lost| lost.secret != *secret || lost.note_lease_search());
    }
}

/// A lease call whose reply was lost.
struct LostCall {
    secret: Secret,
    /// The instant at which the leases of the call are searched for again; `None` before the first search.
    search_again_at: Option<Instant>,
}

impl LostCall {
    /// The pause between the two searches for the leases of a lost lease call: a lease call over a broken connection may reach Redis
    /// after the first search.
    const PAUSE_BETWEEN_SEARCHES: Duration = Duration::from_secs(5);

    fn is_due(&self) -> bool {
        self.search_again_at.is_none_or(|instant| instant <= Instant::now())
    }

    fn pause(&self) -> Duration {
        self.search_again_at.map_or(Duration::ZERO, |instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Notes that the leases of this lease call, whose reply was lost, were searched for. Returns true after the first search for these
    /// leases, because a second search is needed, and false after the second search.
    fn note_lease_search(&mut self) -> bool {
        let was_first = self.search_again_at.is_none();
        self.search_again_at = Some(Instant::now() + Self::PAUSE_BETWEEN_SEARCHES);
        was_first
    }
}

/// A lease call that Redis has not answered yet.
pub(super) struct LeaseCallGuard<'q> {
    lost_calls: &'q LostCalls,
    secret: Secret,
    is_answered: bool,
}

impl LeaseCallGuard<'_> {
    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn mark_answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for LeaseCallGuard<'_> {
    fn drop(&mut self) {
        let mut lost_calls = self.lost_calls.0.lock();
        if !self.is_answered && lost_calls.len() < MAX_LOST_CALLS {
            lost_calls.push(LostCall { secret: self.secret.clone(), search_again_at: None });
        }
    }
}
