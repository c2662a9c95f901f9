//! The users that are connected to this server. A user has one connection: a newer connection replaces the older one.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::user::User;

/// The maximum number of users who are connected. Each user has one waiting lease request, and by default Drover allows 1,000 of
/// them (`api.max_waits_per_key`).
const MAX_SESSIONS: usize = 1_000;

/// The connections of all users.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<User, CancellationToken>>);

/// The entry of a connection in `Sessions`. Dropping a `Session` removes the connection's entry from `Sessions`.
pub(crate) struct Session<'a> {
    sessions: &'a Sessions,
    user: User,
    replaced: CancellationToken,
}

impl Sessions {
    /// Adds a connection of a user, and ends the user's older connection, if any. Returns `None` if too many users are connected.
    pub(crate) fn open(&self, user: &User) -> Option<Session<'_>> {
        let replaced = CancellationToken::new();
        let mut sessions = self.0.lock();
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(user) {
            return None;
        }
        if let Some(older) = sessions.insert(user.clone(), replaced.clone()) {
            older.cancel();
        }
        Some(Session { sessions: self, user: user.clone(), replaced })
    }
}

impl Session<'_> {
    /// Waits until a newer connection of the user has replaced this connection.
    pub(crate) async fn replaced(&self) {
        self.replaced.cancelled().await;
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock();
        // If a newer connection has replaced this connection, the user's entry in `Sessions` belongs to the newer connection.
        if !self.replaced.is_cancelled() {
            sessions.remove(&self.user);
        }
    }
}
