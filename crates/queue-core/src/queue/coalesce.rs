//! Coalescing: messages that are posted one by one are stored together.
//!
//! A post starts a call at once if its queue has no running call; otherwise it waits for the next call, together with all posts that
//! arrive until then. No post waits while Redis is idle, and under a higher load more messages share a call. When many posts of a queue
//! wait, a second call to Redis stores posts beside the first call. The calls that store posts run in tasks of their own, so a client
//! that disconnects affects no other client's message. A task that stores posts ends when no post waits, so an idle queue needs no
//! task.
//!
//! A message that is refused for a reason of its own (it is too large, it exists already, it exceeds `max_length`) does not
//! affect other messages.

use std::sync::Arc;

use tokio::{sync::oneshot, time::timeout};

use crate::{
    error::{Error, Result},
    limits,
    message::{NewMessage, record::EncodedMessage},
    queue::{
        Queue,
        enqueue::{Enqueued, WhenFull},
        pending_posts::{Post, PostReply, make_calls},
    },
};

impl Queue {
    /// Stores one message, in one call with other messages that are posted at the same time.
    ///
    /// If Redis does not answer, the post is not sent to Redis again. If Redis does not answer, or if the future is dropped, whether
    /// the message is stored is unknown. The post ends within the time limit of one call, including its wait for earlier calls.
    ///
    /// # Errors
    ///
    /// The errors of [`enqueue`](Self::enqueue), and [`Error::Overloaded`].
    pub async fn post(self: &Arc<Self>, message: NewMessage) -> Result<Enqueued> {
        let encoded_message = EncodedMessage::of(&message);
        if encoded_message.bytes() > limits::MAX_BYTES {
            return Err(Error::TooManyBytes(encoded_message.bytes()));
        }
        let reserved_post = self.post_limit.reserve(&encoded_message)?;
        let (answer, answered) = oneshot::channel();
        let post = Post { message: encoded_message, reply: PostReply { answer, _reserved: reserved_post } };
        if self.posted.lock().add(post) {
            self.post_limit.call_tasks.spawn(Arc::clone(self).store_posted());
        }
        let answer = timeout(self.redis.time_limit(), answered).await;
        let answer = answer.map_err(|_| Error::Unavailable("no answer to a post in time".into()))?;
        self.decode_outcome(message, &answer.map_err(Error::unexpected)??)
    }

    async fn store_posted(self: Arc<Self>) {
        let send = |messages: Vec<EncodedMessage>| {
            let queue = Arc::clone(&self);
            async move { queue.send(&messages, WhenFull::RefuseRest, None).await }
        };
        make_calls(&self.posted, send).await;
    }
}
