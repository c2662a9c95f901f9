//! Tests of the rules of the chat server for a single connection: names of users, ids of messages, pages of other sites, and
//! the stop of the server.

use reqwest::{StatusCode, header};
use serde_json::json;

use super::{Chat, ChatProcess, page::Page};
use crate::markdown::document;

#[tokio::test(flavor = "multi_thread")]
async fn newer_connection_of_a_chat_user_replaces_the_older_connection_and_gets_unacknowledged_messages() {
    let chat = Chat::start().await;
    let (mut alice, mut older) = (Page::open(&chat, "alice").await, Page::open(&chat, "bob").await);
    alice.write("alice.1", "bob", "hello").await.unwrap();
    assert_eq!(alice.frame("sent").await["id"], "alice.1");
    assert_eq!(older.frame("message").await["text"], "hello");
    let mut newer_page = Page::open(&chat, "bob").await;
    assert_eq!(older.closed().await.0, 4001);
    let message = newer_page.frame("message").await;
    assert_eq!(
        (&message["id"], &message["from"], &message["text"]),
        (&json!("alice.1"), &json!("alice"), &json!("hello"))
    );
    let kept_message = chat.system.get("/v1/queues/chat-bob/messages/alice.1").await;
    assert_eq!(
        (&kept_message["deliveries"], &kept_message["lapses"]),
        (&json!(2), &json!(0)),
        "the first lease was released: {kept_message}"
    );
    newer_page.ack(&message).await.unwrap();
    let delivery_receipt = alice.frame("delivered").await;
    assert_eq!(delivery_receipt["of"], "alice.1");
    alice.ack(&delivery_receipt).await.unwrap();
    chat.wait_until_nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_server_that_stops_releases_its_messages_and_a_repeated_message_is_stored_once() {
    let mut chat = Chat::start().await;
    let (mut alice, mut bob) = (Page::open(&chat, "alice").await, Page::open(&chat, "bob").await);
    for n in [1, 2] {
        alice.write(&format!("alice.{n}"), "bob", &format!("{n}")).await.unwrap();
        alice.frame("sent").await;
    }
    // Only one message of a sender is active at a time, so the second message waits until the first message is acknowledged.
    assert_eq!(bob.frame("message").await["text"], "1");
    assert!(chat.server.terminate().success());
    assert_eq!(bob.closed().await.0, 1001);
    let kept_message = chat.system.get("/v1/queues/chat-bob/messages/alice.1").await;
    assert_eq!((&kept_message["state"], &kept_message["lapses"]), (&json!("waiting"), &json!(0)), "{kept_message}");

    chat.relaunch(ChatProcess::Server);
    (alice, bob) = (Page::open(&chat, "alice").await, Page::open(&chat, "bob").await);
    // The page does not know whether its last message was stored, so it sends the message again.
    alice.write("alice.2", "bob", "2").await.unwrap();
    alice.frame("sent").await;
    for text in ["1", "2"] {
        let message = bob.frame("message").await;
        assert_eq!(message["text"], text);
        bob.ack(&message).await.unwrap();
        let delivery_receipt = alice.frame("delivered").await;
        alice.ack(&delivery_receipt).await.unwrap();
    }
    // Drover remembers the id of a deleted message for the id window, so the message is not stored again.
    alice.write("alice.2", "bob", "2").await.unwrap();
    alice.frame("sent").await;
    chat.wait_until_nothing_is_left().await;
    assert_eq!(chat.system.get("/v1/queues/chat-bob").await["totals"]["enqueued"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_message_that_cannot_be_stored_is_refused_and_later_messages_are_stored() {
    let config = document("examples/chat/drover.toml").replace("max_length = 10000", "max_length = 1");
    let chat = Chat::start_with(&config).await;
    let mut alice = Page::open(&chat, "alice").await;
    for (id, to, text, reason) in [
        ("carol.1", "bob", "an id of another user", "the id"),
        ("alice.1", "Bob!", "no name", "a user's name"),
        ("alice.2", "bob", " ", "4000 characters"),
    ] {
        alice.write(id, to, text).await.unwrap();
        let refusal = alice.frame("refused").await;
        assert!(refusal["reason"].as_str().unwrap().contains(reason), "{refusal}");
    }
    for (id, to, kind) in [("alice.3", "bob", "sent"), ("alice.4", "bob", "refused"), ("alice.5", "carol", "sent")] {
        alice.write(id, to, "hello").await.unwrap();
        assert_eq!(alice.frame(kind).await["id"], id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn message_that_is_not_of_the_chat_fails_and_does_not_delay_chat_messages() {
    let chat = Chat::start().await;
    let foreign_location = chat.system.post("chat-bob", json!({"data": "not of the chat", "group": "alice"})).await;
    let mut bob = Page::open(&chat, "bob").await;
    chat.system.post("chat-bob", json!({"data": {"text": "by curl"}, "name": "text", "group": "alice"})).await;
    assert_eq!(bob.frame("message").await["text"], "by curl");
    chat.system.wait_for_state(&foreign_location, "failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_server_refuses_pages_of_other_sites_and_invalid_user_names() {
    let chat = Chat::start().await;
    let connect_from = async |user: &str, origin: String| {
        let request = chat.system.http.get(format!("{}ws?user={user}", chat.url()));
        let request = request
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(header::ORIGIN, origin);
        request.send().await.unwrap().status()
    };
    let own = format!("http://{}", chat.port.address());
    assert_eq!(connect_from("alice", own.clone()).await, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(connect_from("alice", "http://evil.example.org".into()).await, StatusCode::FORBIDDEN);
    assert_eq!(connect_from("No%20name", own).await, StatusCode::BAD_REQUEST);
    let mut page_with_invalid_name = Page::open(&chat, "bob").await;
    page_with_invalid_name.send(&json!({"type": "unknown"})).await.unwrap();
    assert_eq!(page_with_invalid_name.closed().await.0, 1008);
}
