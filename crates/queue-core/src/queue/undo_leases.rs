//! Undoes leases whose handlers never started.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    error::Result,
    message::LeaseToken,
    queue::{Call, Queue},
    redis::scripts,
};

impl Queue {
    /// Ends leases whose handlers never started: their messages return to the head of the waiting list as if they had never been
    /// delivered; a message that is to be cancelled fails. Returns the number of leases that `undo_leases` ended. A lease that is over
    /// is not changed, so a call of `undo_leases` may be repeated.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): some of the leases may have been undone.
    /// [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn undo_leases(&self, leases: &[LeaseToken]) -> Result<u64> {
        let mut ids_of_calls: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for lease in leases {
            ids_of_calls.entry(lease.secret()).or_default().insert(lease.id().as_str());
        }
        let mut calls: Vec<(&str, BTreeSet<&str>)> = ids_of_calls.into_iter().collect();
        // The messages of each lease call are put at the head of the waiting list. The lease call with the smallest message id comes
        // last, so that its messages are then the first in the list.
        calls.sort_unstable_by(|(_, ids), (_, others)| others.first().cmp(&ids.first()));
        let mut undone_count = 0;
        for (secret, ids) in calls {
            undone_count += self.undo_leases_of_call(secret, &ids).await?;
        }
        Ok(undone_count)
    }

    /// Undoes leases of the lease call that has this secret. One call of `undo_leases.lua` can take the ids of all leases that one
    /// lease call made.
    pub(super) async fn undo_leases_of_call(&self, secret: &str, ids: &BTreeSet<&str>) -> Result<u64> {
        let mut call = Call::new(&scripts::UNDO_LEASES, &self.keys).arg(secret);
        for id in ids {
            call.push(id);
        }
        self.call(&scripts::UNDO_LEASES, call).await
    }
}
