//! Lease calls whose reply was lost. The leases that such a call may have made are found by the secret of the call, and
//! returned.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tracing::warn;

use crate::{
    error::Result,
    message::token::Secret,
    queue::{Call, Queue},
    redis::scripts,
};

/// The maximum number of lost lease calls that are remembered; the leases of further lost calls lapse.
const MAX_LOST_CALLS: usize = 100;

impl Queue {
    /// Returns the leases of calls whose replies were lost; each step checks a bounded number of live leases. Every lease call
    /// calls this function first; a consumer that stops calls it once more.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): the rest is returned with the next call.
    pub async fn return_lost_leases(&self) -> Result<()> {
        while let Some(secret) = self.next_lost_call() {
            let mut ids = Vec::new();
            let mut cursor = String::from("0");
            loop {
                let call = Call::new(&scripts::FIND_LEASES, &self.keys).arg(secret.as_str()).arg(cursor);
                let mut answer: Vec<String> = self.call(&scripts::FIND_LEASES, call).await?;
                ids.extend(answer.split_off(answer.len().min(1)));
                cursor = answer.pop().unwrap_or_default();
                if cursor == "0" {
                    break;
                }
            }
            if !ids.is_empty() {
                // A scan may return an id twice.
                let ids: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
                let returned = self.undo_leases_of_call(secret.as_str(), &ids).await?;
                warn!(queue = %self.name, returned, "returned leases whose reply had been lost");
            }
            self.lost_calls.lock().retain_mut(|lost| lost.secret != secret || lost.note_search());
        }
        Ok(())
    }

    /// The pause until the next search for leases of a lost call; `None` if no call was lost.
    pub(super) fn next_search_in(&self) -> Option<Duration> {
        self.lost_calls.lock().iter().map(LostCall::pause).min()
    }

    /// A lost call whose leases must be searched for now.
    fn next_lost_call(&self) -> Option<Secret> {
        self.lost_calls.lock().iter().find(|lost| lost.is_due()).map(|lost| lost.secret.clone())
    }
}

/// A lease call whose reply was lost.
pub(super) struct LostCall {
    secret: Secret,
    /// When the leases of the call are searched for again; `None` before the first search.
    search_again_at: Option<Instant>,
}

impl LostCall {
    /// The pause before the second search: a call over a broken connection may reach Redis after the first search.
    const PAUSE_BETWEEN_SEARCHES: Duration = Duration::from_secs(5);

    fn is_due(&self) -> bool {
        self.search_again_at.is_none_or(|instant| instant <= Instant::now())
    }

    fn pause(&self) -> Duration {
        self.search_again_at.map_or(Duration::ZERO, |instant| instant.saturating_duration_since(Instant::now()))
    }

    /// Notes a search. Returns whether another search is needed: after the first search yes, after the second no.
    fn note_search(&mut self) -> bool {
        let was_first = self.search_again_at.is_none();
        self.search_again_at = Some(Instant::now() + Self::PAUSE_BETWEEN_SEARCHES);
        was_first
    }
}

/// A lease call. When this value is dropped, the call is remembered as lost, unless it was marked as answered.
pub(super) struct LostUnlessAnswered<'q> {
    queue: &'q Queue,
    secret: Secret,
    answered: bool,
}

impl<'q> LostUnlessAnswered<'q> {
    pub(super) fn new(queue: &'q Queue) -> Self {
        Self { queue, secret: Secret::generate(), answered: false }
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn mark_answered(mut self) {
        self.answered = true;
    }
}

impl Drop for LostUnlessAnswered<'_> {
    fn drop(&mut self) {
        let mut lost = self.queue.lost_calls.lock();
        if !self.answered && lost.len() < MAX_LOST_CALLS {
            lost.push(LostCall { secret: self.secret.clone(), search_again_at: None });
        }
    }
}
