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
    Chat, Victim,
    page::{Event, Page},
};
use crate::seed::{Seed, from_env};

const USERS: usize = 12;
const MESSAGES_OF_A_USER: usize = 40;
/// The time limit, from the last kill, until every message is shown and acknowledged.
const REST: Duration = Duration::from_secs(60);

/// The state of a user's page, which stays when the connection of the page ends.
#[derive(Default)]
struct History {
    /// The number of messages that were answered "sent".
    sent: usize,
    /// The messages of this user that were delivered, by id.
    delivered: HashSet<String>,
    /// The texts that were shown, by sender.
    shown: HashMap<String, Vec<String>>,
    /// The ids of the messages that were shown.
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

fn name(user: usize) -> String {
    format!("user-{user}")
}

impl User {
    fn random(user: usize, random: &mut StdRng) -> Self {
        let receiver = |random: &mut StdRng| name((user + random.random_range(1..USERS)) % USERS);
        let plan = (0..MESSAGES_OF_A_USER).map(|n| (receiver(random), format!("{n}"))).collect();
        Self { name: name(user), plan, history: Mutex::default() }
    }

    fn id(&self, n: usize) -> String {
        format!("{}.{n}", self.name)
    }

    /// The texts that this user writes to another user, in order.
    fn texts_for(&self, receiver: &str) -> Vec<String> {
        self.plan.iter().filter(|(to, _)| to == receiver).map(|(_, text)| text.clone()).collect()
    }

    /// Connects again and again. Some connections end after a moment, and after some connections the user is away for a time.
    async fn stay(self: Arc<Self>, address: String, mut random: StdRng) {
        loop {
            if let Ok(mut page) = Page::connect(&address, &self.name).await {
                let rest = Duration::from_millis(random.random_range(50..3_000));
                // A connection that is dropped without a close frame looks like a network that fails.
                let _ = timeout(rest, self.use_page(&mut page, &mut random)).await;
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
                page.write(&self.id(next), to, text).await.ok()?;
                unanswered = Some(next);
            }
            let Event::Frame(frame) = page.next().await else { return None };
            match frame["type"].as_str().unwrap() {
                "sent" => {
                    assert_eq!(frame["id"], self.id(unanswered.take().unwrap()));
                    self.history.lock().unwrap().sent += 1;
                }
                "message" => {
                    self.show(&frame);
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

    fn show(&self, frame: &Value) {
        let text = |field: &str| frame[field].as_str().unwrap().to_owned();
        let mut history = self.history.lock().unwrap();
        if history.seen.insert(text("id")) {
            history.shown.entry(text("from")).or_default().push(text("text"));
        } else {
            history.repeated += 1;
        }
    }

    fn has_sent_all(&self) -> bool {
        self.history.lock().unwrap().sent == self.plan.len()
    }

    /// Returns a description of the messages that this user still misses, if any. Asserts that the page has shown each sender's
    /// messages once and in order.
    fn missing(&self, users: &[Arc<Self>]) -> Option<String> {
        let history = self.history.lock().unwrap();
        for sender in users {
            let expected = sender.texts_for(&self.name);
            let shown = history.shown.get(&sender.name).map_or(&[][..], Vec::as_slice);
            assert!(expected.starts_with(shown), "{} from {}: {shown:?}, not {expected:?}", self.name, sender.name);
            if shown.len() < expected.len() {
                return Some(format!("{} misses messages of {} after {shown:?}", self.name, sender.name));
            }
        }
        let delivered = history.delivered.len();
        (delivered < self.plan.len()).then(|| format!("{} knows of {delivered} delivered messages", self.name))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_users_are_shown_once_and_in_order_while_server_and_api_are_killed() {
    let (_seed, mut random) = Seed::choose();
    let kills = from_env("DROVER_CHAT_KILLS").unwrap_or(10);
    let mut chat = Chat::start().await;
    let users: Vec<Arc<User>> = (0..USERS).map(|user| Arc::new(User::random(user, &mut random))).collect();
    let mut pages = JoinSet::new();
    for user in &users {
        let address = chat.port.address().to_string();
        pages.spawn(Arc::clone(user).stay(address, StdRng::seed_from_u64(random.random())));
    }

    for _ in 0..kills {
        sleep(Duration::from_millis(random.random_range(100..700))).await;
        let victim = if random.random_ratio(1, 2) { Victim::Server } else { Victim::Api };
        chat.kill(victim);
        sleep(Duration::from_millis(random.random_range(0..500))).await;
        chat.relaunch(victim);
    }

    let start = Instant::now();
    loop {
        let missing = users.iter().find_map(|user| user.missing(&users));
        if missing.is_none() && users.iter().all(|user| user.has_sent_all()) {
            break;
        }
        assert!(start.elapsed() < REST, "{missing:?}");
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
        assert_eq!(user.missing(&users), None);
        enqueued +=
            chat.system.get(&format!("/v1/queues/chat-{}", user.name)).await["totals"]["enqueued"].as_u64().unwrap();
    }
    assert_eq!(enqueued, 2 * (USERS * MESSAGES_OF_A_USER) as u64, "each message and each receipt was stored once");
}
