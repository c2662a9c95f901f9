//! The posts of one queue that wait for a call, and the limit of their bytes over all queues of a process.
//!
//! If a call fails (Redis does not answer, its memory is full, the queue has another layout), each message of the call gets the error.
//! The messages of a failed call are not sent to Redis again, because they may be stored already. If a call that stores posts panics,
//! its messages fail, and the next call starts as usual.

use std::{collections::VecDeque, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use crate::{
    error::{Error, Result},
    limits,
    message::{MaxAttempts, record::EncodedMessage},
    time::Timestamp,
};

/// The maximum number of concurrent calls of one queue: while Redis works on one call, this process prepares the next call and
/// answers the posts of the previous call.
const MAX_CONCURRENT_CALLS: usize = 2;
/// The number of posts that must wait before a second call starts beside a running call. With fewer than `MIN_POSTS_FOR_SECOND_CALL`
/// waiting posts, a second concurrent call that stores posts would cost Redis more time than it saves. In benchmarks with 50 and with
/// 500 clients, 24 waiting posts were the best of the tried values 6, 12, 24, 32 and 64.
const MIN_POSTS_FOR_SECOND_CALL: usize = 24;
/// The maximum bytes of the messages of all queues that wait or are being sent.
const MAX_PENDING_BYTES: usize = 64 * 1_024 * 1_024;
/// Each message counts as at least this many bytes, so that at most 16,384 messages wait.
const MIN_COUNTED_BYTES_PER_POST: usize = 4 * 1_024;

/// The limit of bytes, and the tasks that make calls, for the posts to all queues of a process.
pub(crate) struct PostLimit {
    free_bytes: Arc<Semaphore>,
    pub(super) call_tasks: TaskTracker,
}

impl Default for PostLimit {
    fn default() -> Self {
        Self { free_bytes: Arc::new(Semaphore::new(MAX_PENDING_BYTES)), call_tasks: TaskTracker::new() }
    }
}

impl PostLimit {
    pub(super) fn reserve(&self, message: &EncodedMessage) -> Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(message.bytes().max(MIN_COUNTED_BYTES_PER_POST)).map_err(|_| Error::Overloaded)?;
        Arc::clone(&self.free_bytes).try_acquire_many_owned(bytes).map_err(|_| Error::Overloaded)
    }

    pub(crate) async fn wait_until_done(&self) {
        self.call_tasks.close();
        self.call_tasks.wait().await;
    }
}

/// The answer of `enqueue.lua` for one message.
pub(super) struct Answer {
    pub(super) created_at: Timestamp,
    pub(super) max_attempts: MaxAttempts,
    pub(super) text: String,
}

/// The posts of one queue.
#[derive(Default)]
pub(super) struct PendingPosts {
    waiting: VecDeque<Post>,
    running_calls: usize,
}

/// A post that waits: its message, and the channel for its answer.
pub(super) struct Post {
    pub(super) message: EncodedMessage,
    pub(super) reply: PostReply,
}

pub(super) struct PostReply {
    pub(super) answer: oneshot::Sender<Result<Answer>>,
    pub(super) _reserved: OwnedSemaphorePermit,
}

impl PendingPosts {
    /// Adds a post. Returns whether the caller must start a call.
    pub(super) fn add(&mut self, post: Post) -> bool {
        self.waiting.push_back(post);
        let starts_call = self.running_calls == 0
            || (self.running_calls < MAX_CONCURRENT_CALLS && self.waiting.len() >= MIN_POSTS_FOR_SECOND_CALL);
        self.running_calls += usize::from(starts_call);
        starts_call
    }

    /// Takes the posts of the next call, in the order posted, without posts whose callers no longer wait. Returns `None` if no post
    /// waits; then the task that stores posts ends.
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
            // Frees the memory of the list of waiting posts, because a process may have thousands of idle queues.
            self.waiting = VecDeque::new();
            return None;
        }
        Some((messages, replies))
    }
}

/// Makes one call after the other as long as posts wait.
pub(super) async fn make_calls<S>(posted: &Mutex<PendingPosts>, send: impl Fn(Vec<EncodedMessage>) -> S)
where
    S: Future<Output = Result<Vec<Answer>>>,
{
    loop {
        let next_call = posted.lock().next_call();
        let Some((messages, replies)) = next_call else { return };
        // The task that stores posts must end only after `next_call` has reduced the number of running calls, so a panic of one call
        // must not end this task.
        let call_result = AssertUnwindSafe(async { send(messages).await }).catch_unwind().await;
        let call_result =
            call_result.unwrap_or_else(|_| Err(Error::Unexpected("the call that stores posts panicked".into())));
        let answers: Vec<Result<Answer>> = match call_result {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => replies.iter().map(|_| Err(error.clone())).collect(),
        };
        for (reply, answer) in replies.into_iter().zip(answers) {
            // Sending the answer to a post fails only if the client has disconnected.
            let _ = reply.answer.send(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::value::to_raw_value;
    use tokio::time::timeout;

    use super::*;
    use crate::message::NewMessage;

    #[tokio::test]
    async fn a_call_that_panics_fails_its_posts_and_later_posts_are_stored() {
        let (posted, post_limit) = (Arc::<Mutex<PendingPosts>>::default(), PostLimit::default());
        let stored_sizes = Arc::<Mutex<Vec<usize>>>::default();
        let post = async |panics: bool| {
            let encoded_message = EncodedMessage::of(&NewMessage::new(to_raw_value(&1).unwrap()));
            let (answer, answered) = oneshot::channel();
            let reserved_post = post_limit.reserve(&encoded_message).unwrap();
            let post = Post { message: encoded_message, reply: PostReply { answer, _reserved: reserved_post } };
            if posted.lock().add(post) {
                let (posted, stored_sizes) = (Arc::clone(&posted), Arc::clone(&stored_sizes));
                let send = move |messages: Vec<EncodedMessage>| {
                    assert!(!panics, "a simulated panic");
                    stored_sizes.lock().push(messages.len());
                    let answer = |_| Answer {
                        created_at: Timestamp::from_millis(1),
                        max_attempts: "3".parse().unwrap(),
                        text: "1".into(),
                    };
                    std::future::ready(Ok(messages.into_iter().map(answer).collect()))
                };
                post_limit.call_tasks.spawn(async move { make_calls(&posted, send).await });
            }
            timeout(Duration::from_secs(10), answered)
                .await
                .expect("a post is answered")
                .expect("the call answers the post")
        };
        for round in 1..=3 {
            // 200 posts start as many concurrent calls as a queue may have.
            for answer in futures_util::future::join_all((0..200).map(|_| post(true))).await {
                assert!(matches!(answer, Err(Error::Unexpected(_))), "the call of this post panicked");
            }
            assert!(post(false).await.is_ok());
            assert_eq!(stored_sizes.lock().iter().sum::<usize>(), round);
            assert_eq!(posted.lock().running_calls, 0, "no call is running");
        }
    }
}
