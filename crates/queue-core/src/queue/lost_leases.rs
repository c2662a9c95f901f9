//! Undoes the leases of calls whose reply was lost, so that other consumers get the messages at once. The tokens of all leases that one
//! lease call made contain the secret of this lease call.

use std::collections::BTreeSet;

use tracing::warn;

use crate::{
    error::Result,
    queue::{Call, Queue},
    redis::scripts,
};

impl Queue {
    /// Undoes the leases of calls whose replies were lost: their messages become ready again. Each call of the script `find_leases`
    /// checks a bounded number of the queue's live leases. Every lease call calls `return_lost_leases` first; a consumer that stops
    /// calls the function once more.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): the next call of `return_lost_leases` undoes the leases that were not undone.
    pub async fn return_lost_leases(&self) -> Result<()> {
        while let Some(secret) = self.lost_calls.next_due() {
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
                // ZSCAN may return an id twice.
                let ids: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
                let returned_count = self.undo_leases_of_call(secret.as_str(), &ids).await?;
                warn!(queue = %self.name, returned = returned_count, "returned leases whose reply had been lost");
            }
            self.lost_calls.note_lease_search(&secret);
        }
        Ok(())
    }
}
