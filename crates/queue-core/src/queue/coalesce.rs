//! Coalescing: messages that are posted one by one are stored together.
//!
//! A post starts a call at once if its queue has no running call; otherwise it waits for the next call, together with all posts
//! that arrive until then. So no post waits while Redis is idle, and the higher the load is, the more messages share a call.
//! When many posts wait, a second call starts beside the first. The calls run in tasks of their own, which end when no post
//! waits. So a client that disconnects affects no other client's message, and an idle queue costs nothing.
//!
//! A message that is refused for a reason of its own (it is too large, it exists already, it exceeds `max_length`) does not
//! affect other messages. If a call fails (Redis does not answer, its memory is full, the queue has another layout), each message
//! of the call gets the error. No message is sent again, because it may be stored already. If a call panics, its messages fail,
//! and the next call starts as usual.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};
use tokio_util::task::TaskTracker;

use crate::{
    error::{Error, Result},
    limits,
    message::{NewMessage, record::EncodedMessage},
    queue::{
        Queue,
        enqueue::{Answer, Enqueued, WhenFull},
    },
};

/// The maximum number of concurrent calls of one queue: while Redis works on one call, this process prepares the next call and
/// answers the posts of the previous one.
const MAX_CALLS: usize = 2;
/// The number of posts that must wait before a second call starts beside a running one. With fewer posts, the second call would
/// cost Redis more time than it saves. In benchmarks with 50 and with 500 clients, 24 was the best of 6, 12, 24, 32 and 64.
const MIN_POSTS_FOR_SECOND_CALL: usize = 24;
/// The maximum bytes of the messages, over all queues, that wait or are being sent.
const MAX_BYTES: usize = 64 * 1_024 * 1_024;
/// Each message counts at least this many bytes, so that at most 16,384 messages wait.
const MIN_BYTES: usize = 4 * 1_024;

/// The limit of bytes, and the tasks that make calls, for the posts to all queues of a process.
pub(crate) struct PostLimit {
    free_bytes: Arc<Semaphore>,
    call_tasks: TaskTracker,
}

impl Default for PostLimit {
    fn default() -> Self {
        Self { free_bytes: Arc::new(Semaphore::new(MAX_BYTES)), call_tasks: TaskTracker::new() }
    }
}

impl PostLimit {
    fn reserve(&self, message: &EncodedMessage) -> Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(message.bytes().max(MIN_BYTES)).map_err(|_| Error::Overloaded)?;
        Arc::clone(&self.free_bytes).try_acquire_many_owned(bytes).map_err(|_| Error::Overloaded)
    }

    pub(crate) async fn wait_until_done(&self) {
        self.call_tasks.close();
        self.call_tasks.wait().await;
    }
}

/// The posts of one queue.
#[derive(Default)]
pub(super) struct PendingPosts {
    waiting: VecDeque<Post>,
    running_calls: usize,
}

/// One message, and the task that waits for its outcome.
struct Post {
    message: EncodedMessage,
    reply: PostReply,
}

struct PostReply {
    answer: oneshot::Sender<Result<Answer>>,
    _reserved: OwnedSemaphorePermit,
}

impl PendingPosts {
    /// Adds a post. Returns whether the caller must start a call.
    fn add(&mut self, post: Post) -> bool {
        self.waiting.push_back(post);
        let starts_call = self.running_calls == 0
            || (self.running_calls < MAX_CALLS && self.waiting.len() >= MIN_POSTS_FOR_SECOND_CALL);
        self.running_calls += usize::from(starts_call);
        starts_call
    }

    /// The posts of the next call, in the order posted, without posts whose callers no longer wait. `None` if no post waits:
    /// then the task that makes the calls ends.
    fn next_call(&mut self) -> Option<(Vec<EncodedMessage>, Vec<PostReply>)> {
        let (mut messages, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        while let Some(next) = self.waiting.front()
            && bytes + next.message.bytes() <= limits::MAX_BYTES
            && messages.len() < limits::MAX_MESSAGES
            && let Some(Post { message, reply }) = self.waiting.pop_front()
        {
            if !reply.answer.is_closed() {
                bytes += message.bytes();
                messages.push(message);
                replies.push(reply);
            }
        }
        if messages.is_empty() {
            self.running_calls -= 1;
            // Frees the memory of the list, because there may be thousands of idle queues.
            self.waiting = VecDeque::new();
            return None;
        }
        Some((messages, replies))
    }
}

impl Queue {
    /// Stores one message, in one call with other messages that are posted at the same time.
    ///
    /// As with [`enqueue`](Self::enqueue), the call is not sent again when Redis did not answer. Then, or if the future is
    /// dropped, the message may be stored or not. The post ends within the time limit of one call, including its wait for
    /// earlier calls.
    ///
    /// # Errors
    ///
    /// The errors of `enqueue`, and [`Error::Overloaded`].
    pub async fn post(self: &Arc<Self>, message: NewMessage) -> Result<Enqueued> {
        let encoded = EncodedMessage::of(&message);
        if encoded.bytes() > limits::MAX_BYTES {
            return Err(Error::TooManyBytes(encoded.bytes()));
        }
        let reserved = self.post_limit.reserve(&encoded)?;
        let (answer, answered) = oneshot::channel();
        let post = Post { message: encoded, reply: PostReply { answer, _reserved: reserved } };
        if self.posted.lock().add(post) {
            self.post_limit.call_tasks.spawn(Arc::clone(self).store_posted());
        }
        let answer = timeout(self.redis.time_limit(), answered).await;
        let answer = answer.map_err(|_| Error::Unavailable("no answer to a post in time".into()))?;
        self.enqueued(message, &answer.map_err(Error::unexpected)??)
    }

    async fn store_posted(self: Arc<Self>) {
        let send = |messages: Vec<EncodedMessage>| {
            let queue = Arc::clone(&self);
            async move { queue.send(&messages, WhenFull::RefuseRest, None).await }
        };
        make_calls(&self.posted, send).await;
    }
}

/// Makes one call after the other as long as posts wait.
async fn make_calls<S>(posted: &Mutex<PendingPosts>, send: impl Fn(Vec<EncodedMessage>) -> S)
where
    S: Future<Output = Result<Vec<Answer>>>,
{
    loop {
        let next = posted.lock().next_call();
        let Some((messages, replies)) = next else { return };
        // `next_call` reduces the number of running calls when this task ends. So a panic of a call must not end the task
        // earlier.
        let called = AssertUnwindSafe(async { send(messages).await }).catch_unwind().await;
        let called = called.unwrap_or_else(|_| Err(Error::Unexpected("the call that stores posts panicked".into())));
        let answers: Vec<Result<Answer>> = match called {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => replies.iter().map(|_| Err(error.clone())).collect(),
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // A client that disconnected needs no result.
            let _ = reply.answer.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::to_raw_value;

    use super::*;
    use crate::time::Timestamp;

    #[tokio::test]
    async fn a_call_that_panics_fails_its_posts_and_later_posts_are_stored() {
        let (posted, post_limit) = (Arc::<Mutex<PendingPosts>>::default(), PostLimit::default());
        let stored = Arc::<Mutex<Vec<usize>>>::default();
        let post = async |panics: bool| {
            let encoded = EncodedMessage::of(&NewMessage::new(to_raw_value(&1).unwrap()));
            let (answer, answered) = oneshot::channel();
            let reserved = post_limit.reserve(&encoded).unwrap();
            let post = Post { message: encoded, reply: PostReply { answer, _reserved: reserved } };
            if posted.lock().add(post) {
                let (posted, stored) = (Arc::clone(&posted), Arc::clone(&stored));
                let send = move |messages: Vec<EncodedMessage>| {
                    assert!(!panics, "a fault in the code");
                    stored.lock().push(messages.len());
                    let answer = |_| Answer {
                        created_at: Timestamp::from_millis(1),
                        max_attempts: "3".parse().unwrap(),
                        text: "1".into(),
                    };
                    std::future::ready(Ok(messages.into_iter().map(answer).collect()))
                };
                post_limit.call_tasks.spawn(async move { make_calls(&posted, send).await });
            }
            timeout(Duration::from_secs(10), answered).await.expect("a post is answered").expect("its call answers it")
        };
        for round in 1..=3 {
            // These posts are enough for as many calls as a queue may have at once.
            for answer in futures_util::future::join_all((0..200).map(|_| post(true))).await {
                assert!(matches!(answer, Err(Error::Unexpected(_))), "its call panicked");
            }
            assert!(post(false).await.is_ok());
            assert_eq!(stored.lock().iter().sum::<usize>(), round);
            assert_eq!(posted.lock().running_calls, 0, "no call is under way");
        }
    }
}
