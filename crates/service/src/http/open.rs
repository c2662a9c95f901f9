//! The connections that are open, and which of them makes room when there are as many as may be: the oldest whose client was
//! never trusted.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Weak},
};

use tokio::task::{AbortHandle, Id, JoinSet};
use tracing::debug;

use super::peer::Peer;

/// Connections that were told to make room and have not ended yet. They come on top of those that are served.
pub(super) const MOST_LEAVING: usize = 32;

/// The tasks of all connections.
pub(super) struct Open {
    tasks: JoinSet<()>,
    /// In the order in which they came. Some have ended or are trusted since: they are passed over, and forgotten now and then.
    strangers: VecDeque<Stranger>,
    leaving: HashSet<Id>,
    most: usize,
}

struct Stranger {
    task: AbortHandle,
    peer: Weak<Peer>,
}

impl Stranger {
    /// The client, if its connection is open and it is still not trusted.
    fn peer(&self) -> Option<Arc<Peer>> {
        self.peer.upgrade().filter(|peer| !peer.is_trusted() && !self.task.is_finished())
    }
}

impl Open {
    /// Serves at most so many at a time.
    pub(super) fn new(most: usize) -> Self {
        Self { tasks: JoinSet::new(), strangers: VecDeque::new(), leaving: HashSet::new(), most }
    }

    /// How many are served, without those that make room.
    pub(super) fn served(&self) -> usize {
        self.tasks.len() - self.leaving.len()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is a place for another one, or one that can be made free.
    pub(super) fn takes_another(&mut self) -> bool {
        self.served() < self.most || (self.leaving.len() < MOST_LEAVING && self.oldest_stranger().is_some())
    }

    /// Serves another one. If there is no place for it, the oldest stranger leaves.
    pub(super) fn add(&mut self, peer: &Arc<Peer>, connection: impl Future<Output = ()> + Send + 'static) {
        if self.served() >= self.most
            && let Some(oldest) = self.oldest_stranger()
        {
            debug!("a connection that was never trusted makes room for a new one");
            oldest.displace();
            self.leaving.extend(self.strangers.pop_front().map(|stranger| stranger.task.id()));
        }
        let task = self.tasks.spawn(connection);
        if self.strangers.len() > 2 * self.tasks.len() {
            self.strangers.retain(|stranger| stranger.peer().is_some());
        }
        self.strangers.push_back(Stranger { task, peer: Arc::downgrade(peer) });
    }

    /// Waits until one has ended; `None` when there is none.
    pub(super) async fn one_ended(&mut self) -> Option<()> {
        let id = match self.tasks.join_next_with_id().await? {
            Ok((id, ())) => id,
            Err(broken) => broken.id(),
        };
        self.leaving.remove(&id);
        Some(())
    }

    /// Ends all of them at once.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    fn oldest_stranger(&mut self) -> Option<Arc<Peer>> {
        while let Some(stranger) = self.strangers.front() {
            let peer = stranger.peer();
            if peer.is_some() {
                return peer;
            }
            self.strangers.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;

    /// A connection that lasts until it is told to make room.
    fn connect(open: &mut Open) -> Arc<Peer> {
        let peer = Arc::new(Peer::new([127, 0, 0, 1].into(), CancellationToken::new()));
        let served = Arc::clone(&peer);
        open.add(&peer, async move { served.stopping().cancelled().await });
        peer
    }

    #[tokio::test]
    async fn oldest_connection_that_was_never_trusted_makes_room() {
        let mut open = Open::new(3);
        let [first, second, third] = [connect(&mut open), connect(&mut open), connect(&mut open)];
        first.note_trusted();
        assert!(open.takes_another());
        let fourth = connect(&mut open);
        let displaced = [&first, &second, &third, &fourth].map(|peer| peer.is_displaced());
        assert_eq!(displaced, [false, true, false, false]);
        assert_eq!((open.served(), open.len()), (3, 4));
        open.one_ended().await;
        assert_eq!((open.served(), open.len()), (3, 3));
    }

    #[tokio::test]
    async fn nobody_makes_room_when_all_are_trusted_and_few_leave_at_a_time() {
        let mut open = Open::new(1);
        connect(&mut open).note_trusted();
        assert!(!open.takes_another());
        let mut open = Open::new(100);
        let peers: Vec<_> = (0..100 + MOST_LEAVING).map(|_| connect(&mut open)).collect();
        assert!(!open.takes_another(), "none of those that leave has ended");
        assert_eq!((open.served(), peers.iter().filter(|peer| peer.is_displaced()).count()), (100, MOST_LEAVING));
        open.one_ended().await;
        assert!(open.takes_another());
    }

    #[tokio::test]
    async fn connections_that_have_ended_or_are_trusted_are_forgotten() {
        let mut open = Open::new(1_000);
        for _ in 0..500 {
            connect(&mut open).displace();
            open.one_ended().await;
        }
        assert!(open.strangers.len() < 10, "{}", open.strangers.len());
    }
}
