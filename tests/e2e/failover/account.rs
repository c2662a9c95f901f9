//! The account of a load: every post with its answer, and every delivery. The account of posts and deliveries tells whether a message was
//! lost, stored twice, delivered again, or never posted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// The account of all queues: their posts and deliveries. A message's data is its number: the position of its post.
#[derive(Default)]
pub(super) struct Account {
    posts: Vec<Post>,
    /// The data (numbers) of all deliveries of each message, by queue and id.
    deliveries: BTreeMap<(usize, String), Vec<usize>>,
    /// For each queue, the instant of the latest post whose message was delivered.
    delivered: BTreeMap<usize, Instant>,
    /// For each queue, the instant of the latest post that the API with a wait for replicas has confirmed with 2xx.
    stored: BTreeMap<usize, Instant>,
    /// For each queue, the instant of the latest post that the API without a wait for replicas has confirmed.
    accepted: BTreeMap<usize, Instant>,
}

struct Post {
    queue: usize,
    /// The instant at which the producer last sent the post.
    began: Instant,
    /// The id of the message, if a 2xx answer has confirmed that the replicas have the message.
    stored_as: Option<String>,
}

impl Account {
    /// Records a new post, and returns its number.
    pub(super) fn record_post(&mut self, queue: usize) -> usize {
        self.posts.push(Post { queue, began: Instant::now(), stored_as: None });
        self.posts.len() - 1
    }

    /// Records that a post is sent again.
    pub(super) fn record_repeated_post(&mut self, number: usize) {
        self.posts[number].began = Instant::now();
    }

    /// Records a 2xx answer of the API that does not wait for replicas: a fail-over may lose the message.
    pub(super) fn record_accepted(&mut self, number: usize) {
        let post = &self.posts[number];
        self.accepted.insert(post.queue, post.began);
    }

    /// Records a 2xx answer of the API that waits for replicas: the message must not be lost.
    pub(super) fn record_stored(&mut self, number: usize, id: String) {
        let post = &mut self.posts[number];
        post.stored_as = Some(id);
        self.stored.insert(post.queue, post.began);
    }

    /// Records a delivery of a message.
    pub(super) fn record_delivery(&mut self, queue: usize, id: String, number: usize) {
        self.deliveries.entry((queue, id)).or_default().push(number);
        if let Some(post) = self.posts.get(number) {
            let last_delivery = self.delivered.entry(queue).or_insert(post.began);
            *last_delivery = post.began.max(*last_delivery);
        }
    }

    /// Returns whether a message of this queue that was posted after `since` is stored.
    pub(super) fn has_stored(&self, queue: usize, since: Instant) -> bool {
        self.stored.get(&queue).is_some_and(|at| *at > since)
    }

    /// Returns whether the API that does not wait for replicas has stored a message of this queue that was posted after
    /// `since`.
    pub(super) fn has_accepted(&self, queue: usize, since: Instant) -> bool {
        self.accepted.get(&queue).is_some_and(|at| *at > since)
    }

    /// Returns whether a message of this queue that was posted after `since` was delivered.
    pub(super) fn has_delivered(&self, queue: usize, since: Instant) -> bool {
        self.delivered.get(&queue).is_some_and(|at| *at > since)
    }

    /// Returns the number of posts that a 2xx answer has confirmed.
    pub(super) fn confirmed_count(&self) -> usize {
        self.posts.iter().filter(|post| post.stored_as.is_some()).count()
    }

    /// Returns the number of deliveries.
    pub(super) fn deliveries(&self) -> usize {
        self.deliveries.values().map(Vec::len).sum()
    }

    /// Returns the number of deliveries beyond the first one of each message.
    pub(super) fn repeated_delivery_count(&self) -> usize {
        self.deliveries() - self.deliveries.len()
    }

    /// Compares the account of a queue with `completed`, which has the number of each completed message of the queue, by id.
    /// All messages of the queue must be completed.
    pub(super) fn assert_all_completed(&self, queue: usize, completed: &BTreeMap<String, usize>) {
        let posts_of_queue = || self.posts.iter().enumerate().filter(|(_, post)| post.queue == queue);
        let lost_posts: Vec<_> = posts_of_queue()
            .filter_map(|(number, post)| {
                let id = post.stored_as.as_ref()?;
                (completed.get(id) != Some(&number)).then_some((number, id))
            })
            .collect();
        assert_eq!(lost_posts, [], "messages that were answered 2xx are lost");

        let mut ids: BTreeMap<usize, BTreeSet<&String>> =
            posts_of_queue().map(|(number, _)| (number, BTreeSet::new())).collect();
        for ((_, id), numbers) in self.deliveries.range((queue, String::new())..(queue + 1, String::new())) {
            for number in numbers {
                ids.get_mut(number).unwrap_or_else(|| panic!("no post stored message {id} with {number}")).insert(id);
            }
        }
        for (id, number) in completed {
            let is_delivered = ids.get(number).is_some_and(|ids| ids.contains(id));
            assert!(is_delivered, "{id} with {number} is completed, and was never delivered");
        }
        let repeated_runs: Vec<_> = ids.into_iter().filter(|(_, ids)| ids.len() > 1).collect();
        assert_eq!(repeated_runs, [], "messages were stored twice");
    }
}
