//! Tests of lists of messages: by state, name and hold key, in pages with cursors.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{System, completed, failed};

const LIST_PATH: &str = "/v1/queues/q/messages";

async fn list_page(system: &System, query: &str) -> (Vec<Value>, Option<String>) {
    let answer = system.get(&format!("{LIST_PATH}?{query}")).await;
    let messages = answer["messages"].as_array().unwrap_or_else(|| panic!("{answer}")).clone();
    (messages, answer.get("next_cursor").map(|cursor| cursor.as_str().unwrap().to_owned()))
}

/// Returns the messages of all pages of a list, and the number of pages.
async fn all_pages(system: &System, query: &str) -> (Vec<Value>, usize) {
    let (mut messages, mut next) = list_page(system, query).await;
    let mut pages = 1;
    while let Some(cursor) = next {
        let (page_messages, next_cursor) = list_page(system, &format!("{query}&cursor={cursor}")).await;
        messages.extend(page_messages);
        next = next_cursor;
        pages += 1;
    }
    (messages, pages)
}

fn data_of(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["data"].as_u64().unwrap()).collect()
}

/// Returns a queue with ten messages in each state. The data of the messages are numbers from 0 in the order of the states; odd
/// numbers have the name `odd & named`, even numbers have the name `odd`.
async fn ten_messages_per_state() -> System {
    let system = System::start("").await;
    let post_ten = async |from: u64, options: Value| {
        for n in from..from + 10 {
            let mut message = options.clone();
            message["data"] = json!(n);
            message["name"] = if n % 2 == 1 { json!("odd & named") } else { json!("odd") };
            system.post("q", message).await;
        }
    };
    post_ten(40, json!({})).await;
    assert_eq!(system.settle_all("q", completed()).await, 10);
    post_ten(50, json!({})).await;
    assert_eq!(system.settle_all("q", failed()).await, 10);
    post_ten(30, json!({})).await;
    assert_eq!(system.lease("q", 10).await.len(), 10);
    post_ten(0, json!({"hold": "k"})).await;
    post_ten(10, json!({"delay": "1h"})).await;
    post_ten(20, json!({})).await;
    system
}

#[tokio::test]
async fn messages_of_each_state_are_listed_page_by_page() {
    let system = ten_messages_per_state().await;
    for (index, state) in ["held", "delayed", "waiting", "active", "completed", "failed"].into_iter().enumerate() {
        let mut expected: Vec<u64> = (0..10).map(|n| index as u64 * 10 + n).collect();
        if index >= 4 {
            expected.reverse();
        }
        for limit in [1, 3, 10, 1_000] {
            let (messages, _) = all_pages(&system, &format!("state={state}&limit={limit}")).await;
            assert_eq!(data_of(&messages), expected, "{state} by {limit}");
            assert!(messages.iter().all(|message| message["state"] == state));
        }
    }
    let (first, next) = list_page(&system, "state=failed&limit=4").await;
    assert_eq!((first.len(), next.is_some()), (4, true));
    assert!(list_page(&system, "state=failed").await.1.is_none(), "no cursor at the end");
}

#[tokio::test]
async fn list_without_a_state_has_the_messages_of_each_state_in_turn() {
    let system = ten_messages_per_state().await;
    let expected: Vec<u64> = (0..40).chain((40..50).rev()).chain((50..60).rev()).collect();
    for limit in [1, 7, 10, 50, 1_000] {
        let (messages, pages) = all_pages(&system, &format!("limit={limit}")).await;
        assert_eq!(data_of(&messages), expected, "by {limit}");
        assert!(pages <= 60 / limit + 8, "{pages} pages of {limit}");
    }
    let (messages, next) = list_page(&system, "").await;
    assert_eq!((messages.len(), next.is_some()), (50, true), "a page has 50 messages by default");
    system.request(Method::DELETE, "/v1/queues/q?confirm=q", None).await;
    let (status, problem) = system.request(Method::GET, LIST_PATH, None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("queue_not_found")));
    let (status, problem) = system.request(Method::PATCH, "/v1/queues/q", Some(json!({}))).await;
    assert_eq!((status, &problem["code"]), (404, &json!("queue_not_found")), "an empty patch creates no queue");
    system.patch("q", json!({"max_attempts": 3})).await;
    assert_eq!(system.get(LIST_PATH).await, json!({"messages": []}), "a queue without messages exists");
}

#[tokio::test]
async fn list_of_a_message_name_has_all_messages_of_that_name_and_no_other_messages() {
    const NAME_FILTER: &str = "name=odd%20%26+named";
    let system = ten_messages_per_state().await;
    let mut expected_in_all = Vec::new();
    for (index, state) in ["held", "delayed", "waiting", "active", "completed", "failed"].into_iter().enumerate() {
        let mut expected: Vec<u64> = (0..5).map(|n| index as u64 * 10 + 2 * n + 1).collect();
        if index >= 4 {
            expected.reverse();
        }
        for limit in [1, 3, 1_000] {
            let (messages, _) = all_pages(&system, &format!("state={state}&{NAME_FILTER}&limit={limit}")).await;
            assert_eq!(data_of(&messages), expected, "{state} by {limit}");
            assert!(messages.iter().all(|message| message["name"] == "odd & named"));
        }
        expected_in_all.extend(expected);
    }
    for limit in [4, 1_000] {
        assert_eq!(
            data_of(&all_pages(&system, &format!("{NAME_FILTER}&limit={limit}")).await.0),
            expected_in_all,
            "by {limit}"
        );
    }
    assert_eq!(list_page(&system, "name=none").await, (vec![], None), "one page reads all messages if they are few");
    let (status, _) = system.request(Method::GET, "/v1/queues/other/messages?name=odd", None).await;
    assert_eq!(status, 404, "the queue does not exist");
}

#[tokio::test]
async fn page_without_a_matching_message_is_empty_and_has_a_cursor() {
    let system = System::start("").await;
    let batch = |hold: Option<&str>, n: usize| vec![json!({"data": 0, "hold": hold}); n];
    system.post_batch("q", batch(Some("k"), 600)).await;
    system.post_batch("q", batch(None, 1_000)).await;
    system.post("q", json!({"data": 7, "name": "rare"})).await;
    let (first, next) = list_page(&system, "name=rare").await;
    assert!(first.is_empty() && next.is_some(), "the page read 1,000 messages of both states: {first:?}");
    let (messages, pages) = all_pages(&system, "name=rare").await;
    assert_eq!((data_of(&messages), pages), (vec![7], 2));
    assert_eq!(list_page(&system, "name=rare&hold=k").await, (vec![], None));
}

#[tokio::test]
async fn list_of_a_hold_key_has_the_messages_that_are_held_with_this_key() {
    let system = ten_messages_per_state().await;
    for (n, options) in
        [json!({"hold": "k2"}), json!({"hold": "k", "delay": "1h"}), json!({"hold": "k 2"})].into_iter().enumerate()
    {
        let mut message = options;
        message["data"] = json!(100 + n);
        system.post("q", message).await;
    }
    let expected: Vec<u64> = (0..10).chain([101]).collect();
    for query in ["hold=k", "hold=k&state=held", "state=held&hold=k&limit=1", "hold=k&limit=3", "hold=k&limit=11"] {
        assert_eq!(data_of(&all_pages(&system, query).await.0), expected, "{query}");
    }
    assert_eq!(data_of(&all_pages(&system, "hold=k+2").await.0), [102]);
    assert_eq!(data_of(&all_pages(&system, "hold=k&name=odd&limit=2").await.0), [0, 2, 4, 6, 8]);
    assert_eq!(list_page(&system, "hold=none").await, (vec![], None));
}

#[tokio::test]
async fn a_page_of_large_messages_ends_early() {
    let system = System::start("").await;
    for n in 0..80 {
        system.post("q", json!({"data": [n, "x".repeat(200_000)]})).await;
    }
    let (first, next) = list_page(&system, "state=waiting&limit=1000").await;
    assert!(first.len() < 80 && next.is_some(), "{} messages", first.len());
    let (messages, _) = all_pages(&system, "state=waiting&limit=1000").await;
    let numbers: Vec<u64> = messages.iter().map(|message| message["data"][0].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..80).collect::<Vec<_>>());
}

#[tokio::test]
async fn invalid_query_or_cursor_of_a_list_of_messages_is_refused_with_a_reason() {
    let system = ten_messages_per_state().await;
    let held_cursor = list_page(&system, "state=held&limit=2").await.1.unwrap();
    let all_cursor = list_page(&system, "limit=2").await.1.unwrap();
    system.post("other", json!({"data": 1})).await;
    for (path, expected) in [
        (format!("{LIST_PATH}?state=done"), "held, delayed, waiting, active, completed or failed"),
        (format!("{LIST_PATH}?limit=0"), "from 1 to 1000"),
        (format!("{LIST_PATH}?limit=1001"), "from 1 to 1000"),
        (format!("{LIST_PATH}?limit=ten"), "from 1 to 1000"),
        (format!("{LIST_PATH}?limit=%2B5"), "from 1 to 1000"),
        (format!("{LIST_PATH}?limt=5"), "\"limt\" is unknown: did you mean \"limit\"?"),
        (format!("{LIST_PATH}?stat=held"), "did you mean \"state\"?"),
        (format!("{LIST_PATH}?state=held&state=failed"), "state is given twice"),
        (format!("{LIST_PATH}?name="), "name: a message's name is 1 to 128 characters"),
        (format!("{LIST_PATH}?name=a%0Ab"), "without control characters"),
        (format!("{LIST_PATH}?hold=a%2Fb"), "hold: a key is 1 to 256 characters"),
        (format!("{LIST_PATH}?hold=k&state=waiting"), "omit state, or ask for state=held"),
    ] {
        system.refused(Method::GET, &path, None, (400, "invalid_query", expected)).await;
    }
    for (path, expected) in [
        (format!("{LIST_PATH}?cursor=x"), "next_cursor of the page before"),
        (format!("{LIST_PATH}?cursor="), "next_cursor of the page before"),
        (format!("{LIST_PATH}?cursor={all_cursor}x"), "next_cursor of the page before"),
        (format!("{LIST_PATH}?cursor={held_cursor}"), "with state=held"),
        (format!("{LIST_PATH}?state=failed&cursor={held_cursor}"), "with state=held"),
        (format!("{LIST_PATH}?state=held&cursor={all_cursor}"), "without a state"),
        (format!("{LIST_PATH}?hold=other&cursor={held_cursor}"), "next_cursor of the page before"),
        (format!("{LIST_PATH}?hold=k&cursor={all_cursor}"), "without a state"),
        (format!("/v1/queues/other/messages?state=held&cursor={held_cursor}"), "next_cursor of the page before"),
    ] {
        system.refused(Method::GET, &path, None, (404, "cursor_not_found", expected)).await;
    }
}
