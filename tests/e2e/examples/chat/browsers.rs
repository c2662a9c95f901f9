//! Tests of two users who write to each other in browsers while the chat server and the API are killed, and while one user is
//! away.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use serde_json::json;
use tokio::time::sleep;

use super::{Chat, ChatProcess};
use crate::{
    browser::{Browser, Colours},
    dashboard::accessibility::{axe, check},
    markdown::document,
    seed::Seed,
};

const WIDE_SCREEN: (u32, u32) = (1_440, 900);
const PHONE_SCREEN: (u32, u32) = (390, 844);
/// A script that returns the state of the last message on the page, such as "delivered".
const LAST_MESSAGE_STATE: &str = "document.querySelector('.message:last-child').dataset.state";

/// A user with a browser, and the texts that the user has written.
struct User {
    name: &'static str,
    peer: &'static str,
    browser: Browser,
    written: Vec<String>,
}

impl User {
    /// Logs the user in, and opens the conversation.
    async fn log_in(name: &'static str, peer: &'static str, browser: Browser, url: &str) -> Self {
        browser.open(url).await;
        browser.enter("#name", name).await;
        browser.enter("#peer", peer).await;
        Self { name, peer, browser, written: Vec::new() }
    }

    async fn write(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.browser.enter("#text", &text).await;
        self.written.push(text);
    }

    /// Closes the page. The user is offline until [`come_back`](Self::come_back).
    async fn go_away(&self) {
        self.browser.open("about:blank").await;
    }

    /// Opens the page again, and the conversation.
    async fn come_back(&self, url: &str) {
        self.browser.open(url).await;
        self.browser.click_on(&format!("#conversations li[data-peer={}] button", self.peer)).await;
    }

    /// Waits until the page shows exactly these texts, which the other user of the conversation has written, in this order.
    async fn wait_for_shown(&self, texts: &[String]) {
        let expression =
            "[...document.querySelectorAll('.message:not(.own) > p:first-child')].map((node) => node.textContent)";
        self.browser.wait_for_value(&format!("the messages to {}", self.name), expression, &json!(texts)).await;
    }

    /// Waits until the messages that the page's user has written have these states.
    async fn wait_for_states(&self, states: &[&str]) {
        let expression = "[...document.querySelectorAll('.message.own')].map((node) => node.dataset.state)";
        self.browser.wait_for_value(&format!("the states of {}", self.name), expression, &json!(states)).await;
    }

    async fn wait_until_all_is_delivered(&self) {
        self.wait_for_states(&vec!["delivered"; self.written.len()]).await;
    }

    /// Asserts that the page has no horizontal scroll bar, and that the page did nothing that its content security policy
    /// forbids.
    async fn assert_page_fits_and_obeys_policy(&self) {
        let fits_into_width = "document.documentElement.scrollWidth <= innerWidth";
        self.browser.wait_for_value("the page fits into the window", fits_into_width, &json!(true)).await;
        let violations: Vec<String> =
            self.browser.console().await.into_iter().filter(|line| line.contains("Security Policy")).collect();
        assert_eq!(violations, [""; 0]);
    }
}

/// Waits until each user's page shows all messages of the other user, and shows the user's own messages as delivered.
async fn wait_until_all_is_shown(alice: &User, bob: &User) {
    bob.wait_for_shown(&alice.written).await;
    alice.wait_for_shown(&bob.written).await;
    alice.wait_until_all_is_delivered().await;
    bob.wait_until_all_is_delivered().await;
}

/// Both users write a few messages while the chat server or the API is killed and started again.
async fn write_during_a_kill(chat: &mut Chat, alice: &mut User, bob: &mut User, random: &mut StdRng, round: usize) {
    let killed_process = [ChatProcess::Server, ChatProcess::Api][round % 2];
    let kill_at = random.random_range(0..6);
    for n in 0..6 {
        if n == kill_at {
            chat.kill(killed_process);
        }
        let writer = if random.random_ratio(1, 2) { &mut *alice } else { &mut *bob };
        writer.write(format!("round {round}, message {n}")).await;
    }
    sleep(Duration::from_millis(random.random_range(0..300))).await;
    chat.relaunch(killed_process);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_chat_pages_show_each_message_once_and_in_order_while_one_is_closed_and_processes_are_killed() {
    let (_seed, mut random) = Seed::choose();
    let mut chat = Chat::start().await;
    let url = chat.url();
    let [wide, phone] = Browser::start_many().await;
    wide.show_as(WIDE_SCREEN, Colours::Light).await;
    phone.show_as(PHONE_SCREEN, Colours::Dark).await;
    let mut alice = User::log_in("alice", "bob", wide, &url).await;
    let mut bob = User::log_in("bob", "alice", phone, &url).await;

    alice.write("Good morning!").await;
    bob.write("Hello Alice, how are you?").await;
    alice.write("Fine, thank you.").await;
    wait_until_all_is_shown(&alice, &bob).await;
    chat.wait_until_nothing_is_left().await;

    // Drover keeps the messages for a user who is away until the user comes back.
    bob.go_away().await;
    let shown_before = alice.written.clone();
    for n in 1..=5 {
        alice.write(format!("Message {n} while you are away")).await;
    }
    let states: Vec<&str> = [vec!["delivered"; shown_before.len()], vec!["sent"; 5]].concat();
    alice.wait_for_states(&states).await;
    chat.wait_for_waiting_messages("bob", 5).await;
    bob.come_back(&url).await;
    wait_until_all_is_shown(&alice, &bob).await;

    // When the chat server runs again, the page sends a message that was written while the server was down.
    chat.kill(ChatProcess::Server);
    alice.write("Is the server down?").await;
    alice
        .browser
        .wait_for_value("the status", "document.getElementById('status').dataset.state", &json!("offline"))
        .await;
    alice.browser.wait_for_value("the last state", LAST_MESSAGE_STATE, &json!("sending")).await;
    chat.relaunch(ChatProcess::Server);
    wait_until_all_is_shown(&alice, &bob).await;

    for round in 0..4 {
        write_during_a_kill(&mut chat, &mut alice, &mut bob, &mut random, round).await;
    }
    wait_until_all_is_shown(&alice, &bob).await;
    chat.wait_until_nothing_is_left().await;

    // The chat pages of Alice and Bob must be accessible in each window size and in both colour schemes.
    let axe = axe();
    for user in [&alice, &bob] {
        check(&user.browser, &axe, user.name).await;
    }

    // Each browser stores its history, so the page shows all messages again after it is reloaded.
    for user in [&alice, &bob] {
        user.assert_page_fits_and_obeys_policy().await;
        user.come_back(&url).await;
    }
    wait_until_all_is_shown(&alice, &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_page_acknowledges_a_repeated_message_and_does_not_show_it_again_even_after_a_reload() {
    // With `id_window = 0`, Drover accepts the id of a deleted message again, so the test can post the same message again.
    let config = document("examples/chat/drover.toml").replace("id_window = \"24h\"", "id_window = 0");
    let chat = Chat::start_with(&config).await;
    let url = chat.url();
    let [browser] = Browser::start_many().await;
    let bob = User::log_in("bob", "alice", browser, &url).await;
    let message = json!({"id": "alice.1", "name": "text", "group": "alice", "data": {"text": "one"}});
    for is_reloaded in [false, false, true] {
        if is_reloaded {
            bob.come_back(&url).await;
        }
        chat.system.post("chat-bob", message.clone()).await;
        chat.wait_until_empty("chat-bob").await;
        bob.wait_for_shown(&["one".into()]).await;
    }
    chat.system.post("chat-bob", json!({"name": "text", "group": "alice", "data": {"text": "two"}})).await;
    bob.wait_for_shown(&["one".into(), "two".into()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_page_says_that_a_newer_page_was_opened_and_why_a_message_is_refused() {
    let config = document("examples/chat/drover.toml").replace("max_length = 10000", "max_length = 1");
    let chat = Chat::start_with(&config).await;
    let url = chat.url();
    let [first, second] = Browser::start_many().await;
    let mut alice = User::log_in("alice", "bob", first, &url).await;
    alice.write("one").await;
    alice.write("two").await;
    alice.wait_for_states(&["sent", "refused"]).await;
    let refusal = "document.querySelector('.refusal').textContent.includes('too many messages wait for bob')";
    alice.browser.wait_for_value("the reason", refusal, &json!(true)).await;
    let bob = User::log_in("bob", "alice", second, &url).await;
    bob.wait_for_shown(&["one".into()]).await;
    alice.browser.click_on(".refusal button").await;
    alice.wait_until_all_is_delivered().await;
    bob.wait_for_shown(&alice.written).await;

    // The second page now also belongs to Alice, so the server disconnects Alice's first page until she chooses to use it
    // again.
    bob.browser.eval("sessionStorage.setItem('user', 'alice'); location.reload()", json!([])).await.unwrap();
    alice.browser.wait_for_value("the dialog", "document.getElementById('replaced').open", &json!(true)).await;
    alice.browser.click_on("#use-here").await;
    let dialog = "document.getElementById('replaced').open";
    bob.browser.wait_for_value("the dialog", dialog, &json!(true)).await;
    chat.wait_until_nothing_is_left().await;
}
