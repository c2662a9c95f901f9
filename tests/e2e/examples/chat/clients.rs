//! A test of many users who write to each other while their connections break, and while the chat server and the API are killed
//! at random: 10 times, or as often as `DROVER_CHAT_KILLS` says.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Chat, ChatProcess,
    page::{Event, Page},
};
use crate::seed::{Seed, from_env};

const USER_COUNT: usize = 12;
const MESSAGES_PER_USER: usize = 40;
/// The time limit, from the last kill, until every message is shown and acknowledged.
const TIME_LIMIT_AFTER_KILLS: Duration = Duration::from_secs(60);

/// The state of a user's page, which is kept when the connection of the page ends.
#[derive(Default)]
struct History {
    /// The number of messages that were answered "sent".
    sent: usize,
    /// The messages of this user that were delivered, by id.
    delivered: HashSet<String>,
    /// The texts that the page has shown, by sender.
    shown: HashMap<String, Vec<String>>,
    /// The ids of the messages that the page has shown.
    seen: HashSet<String>,
    /// The number of messages that were received again after the page had shown them.
    repeated: usize,
}

/// A user, and the receivers and texts of the messages that the user writes.
struct User {
    name: String,
    plan: Vec<(String, String)>,
    history: Mutex<History>,
}

fn user_name(user: usize) -> String {
    format!("user-{user}")
}

impl User {
    fn with_random_messages(user: usize, random: &mut StdRng) -> Self {
        let random_receiver = |random: &mut StdRng| user_name((user + random.random_range(1..USER_COUNT)) % USER_COUNT);
        let planned_messages = (0..MESSAGES_PER_USER).map(|n| (random_receiver(random), format!("{n}"))).collect();
        Self { name: user_name(user), plan: planned_messages, history: Mutex::default() }
    }

    fn message_id(&self, n: usize) -> String {
        format!("{}.{n}", self.name)
    }

    /// The texts that this user writes to another user, in order.
    fn texts_for(&self, receiver: &str) -> Vec<String> {
        self.plan.iter().filter(|(to, _)| to == receiver).map(|(_, text)| text.clone()).collect()
    }

    /// Connects again and again. Some connections end after a moment, and after some connections the user is away for a time.
    async fn stay_connected(self: Arc<Self>, address: String, mut random: StdRng) {
        loop {
            if let Ok(mut page) = Page::connect(&address, &self.name).await {
                let connection_time = Duration::from_millis(random.random_range(50..3_000));
                // A connection that is dropped without a close frame looks like a network that fails.
                let _ = timeout(connection_time, self.use_page(&mut page, &mut random)).await;
            }
            let is_away = random.random_ratio(1, 5);
            sleep(Duration::from_millis(random.random_range(0..if is_away { 1_500 } else { 100 }))).await;
        }
    }

    async fn use_page(&self, page: &mut Page, random: &mut StdRng) -> Option<()> {
        let mut unanswered = None;
        loop {
            let next = self.history.lock().unwrap().sent;
            if unanswered.is_none()
                && let Some((to, text)) = self.plan.get(next)
            {
                sleep(Duration::from_millis(random.random_range(0..50))).await;
                page.write(&self.message_id(next), to, text).await.ok()?;
                unanswered = Some(next);
            }
            let Event::Frame(frame) = page.next().await else { return None };
            match frame["type"].as_str().unwrap() {
                "sent" => {
                    assert_eq!(frame["id"], self.message_id(unanswered.take().unwrap()));
                    self.history.lock().unwrap().sent += 1;
                }
                "message" => {
                    self.record_shown_message(&frame);
                    // Some pages are closed after they have shown a message, and before they acknowledge it.
                    if random.random_ratio(1, 20) {
                        return None;
                    }
                    page.ack(&frame).await.ok()?;
                }
                "delivered" => {
                    self.history.lock().unwrap().delivered.insert(frame["of"].as_str().unwrap().to_owned());
                    page.ack(&frame).await.ok()?;
                }
                _ => panic!("{frame}"),
            }
        }
    }

    fn record_shown_message(&self, frame: &Value) {
        let text_field = |field: &str| frame[field].as_str().unwrap().to_owned();
        let mut history = self.history.lock().unwrap();
        if history.seen.insert(text_field("id")) {
            history.shown.entry(text_field("from")).or_default().push(text_field("text"));
        } else {
            history.repeated += 1;
        }
    }

    fn has_sent_all(&self) -> bool {
        self.history.lock().unwrap().sent == self.plan.len()
    }

    /// Returns a description of the messages that this user still misses, if any. Asserts that the page has shown each sender's
    /// messages once and in order.
    fn describe_missing(&self, users: &[Arc<Self>]) -> Option<String> {
        let history = self.history.lock().unwrap();
        for sender in users {
            let expected_texts = sender.texts_for(&self.name);
            let shown_texts = history.shown.get(&sender.name).map_or(&[][..], Vec::as_slice);
            assert!(
                expected_texts.starts_with(shown_texts),
                "{} from {}: {shown_texts:?}, not {expected_texts:?}",
                self.name,
                sender.name
            );
            if shown_texts.len() < expected_texts.len() {
                return Some(format!("{} misses messages of {} after {shown_texts:?}", self.name, sender.name));
            }
        }
        let delivered = history.delivered.len();
        (delivered < self.plan.len()).then(|| format!("{} knows of {delivered} delivered messages", self.name))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_messages_of_many_users_are_shown_once_and_in_order_while_server_and_api_are_killed() {
    let (_seed, mut random) = Seed::choose();
    let kills = from_env("DROVER_CHAT_KILLS").unwrap_or(10);
    let mut chat = Chat::start().await;
    let users: Vec<Arc<User>> =
        (0..USER_COUNT).map(|user| Arc::new(User::with_random_messages(user, &mut random))).collect();
    let mut pages = JoinSet::new();
    for user in &users {
        let address = chat.port.address().to_string();
        pages.spawn(Arc::clone(user).stay_connected(address, StdRng::seed_from_u64(random.random())));
    }

    for _ in 0..kills {
        sleep(Duration::from_millis(random.random_range(100..700))).await;
        let killed_process = if random.random_ratio(1, 2) { ChatProcess::Server } else { ChatProcess::Api };
        chat.kill(killed_process);
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        chat.relaunch(killed_process);
    }

    let started_at = Instant::now();
    loop {
        let missing = users.iter().find_map(|user| user.describe_missing(&users));
        if missing.is_none() && users.iter().all(|user| user.has_sent_all()) {
            break;
        }
        assert!(started_at.elapsed() < TIME_LIMIT_AFTER_KILLS, "{missing:?}");
        assert!(pages.try_join_next().is_none(), "a page has failed");
        sleep(Duration::from_millis(50)).await;
    }
    chat.system.wait_until_ready(&chat.system.base).await;
    // The pages stay connected until all messages are acknowledged.
    chat.wait_until_nothing_is_left().await;
    pages.shutdown().await;
    let repeated: usize = users.iter().map(|user| user.history.lock().unwrap().repeated).sum();
    assert!(repeated > 0, "no message came again, so the test does not show that pages recognise repeated messages");
    let mut enqueued = 0;
    for user in &users {
        assert_eq!(user.describe_missing(&users), None);
        enqueued +=
            chat.system.get(&format!("/v1/queues/chat-{}", user.name)).await["totals"]["enqueued"].as_u64().unwrap();
    }
    assert_eq!(enqueued, 2 * (USER_COUNT * MESSAGES_PER_USER) as u64, "each message and each receipt was stored once");
}
