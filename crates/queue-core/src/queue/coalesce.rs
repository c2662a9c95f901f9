//! Messages that are posted one by one, stored together.
//!
//! A post that finds no call of its queue under way starts one at once; one that does waits for the next, with whatever else
//! has come by then. So nothing waits while Redis is idle, and the busier it is, the more messages share a call. When many
//! wait, further calls start beside the first. The calls run in tasks of their own, which end when nothing waits: a client that goes
//! away takes nobody's message with it, and a queue at rest costs nothing.
//!
//! What is refused for a message's own sake (it is too large, it stands already, it is one more than `max_length`) is
//! refused alone. What happens to a call (Redis does not answer, has no memory, has a newer layout) happens to each of
//! its messages, once: nothing is sent again, for it may be stored.

use std::{collections::VecDeque, sync::Arc};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use super::{
    Queue,
    enqueue::{Answer, Enqueued, Packed, WhenFull},
    lock,
};
use crate::{Error, MAX_BYTES_PER_CALL, MAX_MESSAGES_PER_CALL, NewMessage, Result, TooMuch};

/// Calls of one queue under way at once: while Redis works on one, the next is made ready and the last one answered.
const CALLS: usize = 2;
/// So many wait before a call starts beside another: smaller ones would cost Redis more than the time that they save. Of 6,
/// 12, 24, 32 and 64 this served both 50 and 500 clients best.
const WORTH_A_CALL: usize = 24;
/// So many bytes of all queues wait or are under way at most.
const MAX_BYTES: usize = 64 * 1_024 * 1_024;
/// A message counts as no less than this, so that there are at most 16,384 of them.
const LEAST_BYTES: usize = 4 * 1_024;

/// What the posts of all queues of a process share.
pub(crate) struct Intake {
    room: Arc<Semaphore>,
    calls: TaskTracker,
}

impl Default for Intake {
    fn default() -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_BYTES)), calls: TaskTracker::new() }
    }
}

impl Intake {
    fn admit(&self, message: &Packed) -> Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(message.bytes().max(LEAST_BYTES)).map_err(|_| Error::Overloaded)?;
        Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| Error::Overloaded)
    }

    pub(crate) async fn drained(&self) {
        self.calls.close();
        self.calls.wait().await;
    }
}

/// The posts of one queue.
#[derive(Default)]
pub(super) struct Posted {
    waiting: VecDeque<Post>,
    calls: usize,
}

/// One message, and who wants to know what came of it.
struct Post {
    message: Packed,
    poster: Poster,
}

struct Poster {
    answer: oneshot::Sender<Result<Answer>>,
    _room: OwnedSemaphorePermit,
}

impl Posted {
    /// Takes in a post. Answers whether a call is to be started for it.
    fn take_in(&mut self, post: Post) -> bool {
        self.waiting.push_back(post);
        let starts_call = self.calls == 0 || (self.calls < CALLS && self.waiting.len() >= WORTH_A_CALL);
        self.calls += usize::from(starts_call);
        starts_call
    }

    /// What the next call carries, in the order posted, without what nobody waits for any more. With `None` the call that
    /// would have been is over.
    fn next_call(&mut self) -> Option<(Vec<Packed>, Vec<Poster>)> {
        let (mut messages, mut posters, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = self.waiting.front()
            && bytes + next.message.bytes() <= MAX_BYTES_PER_CALL
            && messages.len() < MAX_MESSAGES_PER_CALL
            && let Some(Post { message, poster }) = self.waiting.pop_front()
        {
            if !poster.answer.is_closed() {
                bytes += message.bytes();
                messages.push(message);
                posters.push(poster);
            }
        }
        if messages.is_empty() {
            self.calls -= 1;
            // Its memory goes too: there may be thousands of queues at rest.
            self.waiting = VecDeque::new();
            return None;
        }
        Some((messages, posters))
    }
}

impl Queue {
    /// Stores one message, in one call with others that are posted at the same time.
    ///
    /// As with [`enqueue`](Self::enqueue), nothing is sent again when Redis did not answer, and a future that is dropped
    /// leaves open whether the message is stored. It is over within the time limit of a call, waiting included.
    ///
    /// # Errors
    ///
    /// Those of `enqueue`, and [`Error::Overloaded`].
    pub async fn post(self: &Arc<Self>, message: NewMessage) -> Result<Enqueued> {
        let packed = Packed::of(&message);
        if packed.bytes() > MAX_BYTES_PER_CALL {
            return Err(Error::TooMuch(TooMuch::Bytes(packed.bytes())));
        }
        let room = self.intake.admit(&packed)?;
        let (answer, answered) = oneshot::channel();
        let post = Post { message: packed, poster: Poster { answer, _room: room } };
        if lock(&self.posted).take_in(post) {
            self.intake.calls.spawn(Arc::clone(self).store_posted());
        }
        let answer = timeout(self.redis.time_limit(), answered).await;
        let answer = answer.map_err(|_| Error::Unavailable("no answer to a post in time".into()))?;
        self.enqueued(message, &answer.map_err(Error::unexpected)??)
    }

    /// Makes call after call as long as something waits.
    async fn store_posted(self: Arc<Self>) {
        loop {
            let next = lock(&self.posted).next_call();
            let Some((messages, posters)) = next else { return };
            let answers: Vec<Result<Answer>> = match self.send(&messages, WhenFull::RefuseRest, None).await {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(error) => posters.iter().map(|_| Err(error.clone())).collect(),
            };
            for (poster, answer) in posters.into_iter().zip(answers) {
                // Whoever went away does not want to know.
                let _ = poster.answer.send(answer);
            }
        }
    }
}
