//! Tests of signals: the release of held messages, and sticky signals that are read, listed and deleted.

use reqwest::Method;
use serde_json::{Value, json};

use crate::System;

#[tokio::test]
async fn signal_releases_the_messages_that_are_held_for_its_key() {
    let system = System::start("").await;
    let early_answer = system.post_empty("/v1/queues/q/signals/paid:42").await;
    assert_eq!(
        early_answer,
        (200, json!({"released": 0, "sticky_until": null})),
        "the queue does not exist, and the signal does not create it"
    );
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
    let first_location = system.post("q", json!({"data": 1, "hold": "paid:42"})).await;
    let later_location = system.post("q", json!({"data": 2, "hold": "paid:42", "delay": "1h"})).await;
    let other_location = system.post("q", json!({"data": 3, "hold": "paid:43"})).await;
    let signal = json!({"data": {"amount": [1, 2]}});
    let (status, answer) = system.request(Method::POST, "/v1/queues/q/signals/paid:42", Some(signal)).await;
    assert_eq!((status, answer), (200, json!({"released": 2, "sticky_until": null})));
    let message = system.get(&first_location).await;
    assert_eq!((&message["state"], &message["signal"]), (&json!("waiting"), &json!({"amount": [1, 2]})));
    assert_eq!(system.get(&later_location).await["state"], "delayed");
    assert_eq!(system.get(&other_location).await["state"], "held");
    let second_answer = system.post_empty("/v1/queues/q/signals/paid:42").await;
    assert_eq!(second_answer, (200, json!({"released": 0, "sticky_until": null})));
    // A signal needs neither a body nor a content type. The content type of an empty body does not matter.
    let request = system.http.post(system.url("/v1/queues/q/signals/paid%3A43")).header("content-type", "text/plain");
    assert_eq!(request.send().await.unwrap().json::<Value>().await.unwrap()["released"], 1);
    system.assert_clean().await;
}

#[tokio::test]
async fn sticky_signal_releases_later_messages_of_its_key() {
    let system = System::start("").await;
    let signal = json!({"data": "ready", "sticky_for": "30d"});
    let (status, answer) = system.request(Method::POST, "/v1/queues/q/signals/k", Some(signal)).await;
    assert_eq!((status, &answer["released"]), (200, &json!(0)), "a sticky signal creates its queue");
    let kept_signal = system.get("/v1/queues/q/signals/k").await;
    assert!(answer["sticky_until"].is_string() && answer["sticky_until"] == kept_signal["sticky_until"], "{answer}");
    let message = system.get(&system.post("q", json!({"data": 1, "hold": "k"})).await).await;
    assert_eq!((&message["state"], &message["signal"]), (&json!("waiting"), &json!("ready")));
    system.assert_clean().await;
}

/// Leases messages, and returns their data and their leases.
async fn lease(system: &System) -> Vec<(Value, Value)> {
    let (status, mut answer) = system.request(Method::POST, "/v1/queues/q/leases", Some(json!({"max": 10}))).await;
    assert_eq!(status, 200, "{answer}");
    let messages = answer["messages"].as_array_mut().unwrap().iter_mut();
    messages.map(|message| (message["data"].take(), message["lease"].take())).collect()
}

#[tokio::test]
async fn message_released_with_a_hold_key_waits_for_its_signal_with_its_place_in_its_group() {
    let system = System::start("").await;
    let release = async |body: Value| system.request(Method::POST, "/v1/queues/q/leases/release", Some(body)).await;
    let first = system.post("q", json!({"data": 1, "group": "g"})).await;
    system.post("q", json!({"data": 2, "group": "g"})).await;
    let plain = system.post("q", json!({"data": 3})).await;
    let leased = lease(&system).await;
    let [(one, lease_of_one), (three, lease_of_three)] = &leased[..] else { panic!("{leased:?}") };
    assert_eq!((one, three), (&json!(1), &json!(3)));
    let (status, released) = release(json!({"lease": lease_of_one, "hold": "paid:42"})).await;
    assert_eq!((status, &released["outcome"]), (200, &json!("held")));
    let settlement = json!({"lease": lease_of_three, "action": "release", "hold": "paid:42"});
    let body = json!({"settlements": [settlement, settlement]});
    let (status, settled) = system.request(Method::POST, "/v1/queues/q/leases/settle", Some(body)).await;
    let outcomes = [&settled["settlements"][0]["outcome"], &settled["settlements"][1]["outcome"]];
    assert_eq!((status, outcomes), (200, [&json!("held"); 2]), "the repeated settlement has the same outcome");

    let message = system.get(&first).await;
    assert_eq!((&message["state"], &message["hold"]), (&json!("held"), &json!("paid:42")));
    assert_eq!((&message["attempts_made"], &message["deliveries"]), (&json!(0), &json!(1)));
    let listed = system.get("/v1/queues/q/messages?hold=paid:42").await;
    assert_eq!(listed["messages"].as_array().unwrap().len(), 2);
    assert_eq!(lease(&system).await, [], "message 2 does not overtake message 1");
    for (method, path, advice) in
        [(Method::PATCH, first.clone(), "cancel it"), (Method::POST, format!("{first}/promote"), "send the signal")]
    {
        let body = (method == Method::PATCH).then(|| json!({"priority": 1}));
        system.refused(method, &path, body, (409, "message_held", advice)).await;
    }

    let signal = json!({"data": {"amount": 12}, "sticky_for": "1h"});
    let (_, answer) = system.request(Method::POST, "/v1/queues/q/signals/paid:42", Some(signal)).await;
    assert_eq!(answer["released"], 2);
    for location in [&first, &plain] {
        let message = system.get(location).await;
        assert_eq!((&message["state"], &message["signal"]), (&json!("waiting"), &json!({"amount": 12})));
    }
    let leased = lease(&system).await;
    let [(_, lease_of_three), (one, lease_of_one)] = &leased[..] else { panic!("{leased:?}") };
    assert_eq!(*one, 1, "message 1 is the first of its group");
    // The sticky signal is in force, so it releases the message at once.
    let (_, released) = release(json!({"lease": lease_of_three, "hold": "paid:42"})).await;
    assert_eq!(released["outcome"], "waiting");

    for (fields, expected) in [
        (json!({"hold": "k", "delay": "5m"}), "give either delay or hold, not both"),
        (json!({"hold": "a/b"}), "1 to 256 characters"),
        (json!({"hold": 5}), "a text"),
    ] {
        let mut body = json!({"lease": lease_of_one, "action": "release"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let list = json!({"settlements": [body]});
        for (path, body, pointer) in [("release", body, "/hold"), ("settle", list, "/settlements/0/hold")] {
            let path = format!("/v1/queues/q/leases/{path}");
            let (status, problem) = system.request(Method::POST, &path, Some(body)).await;
            assert_eq!((status, &problem["code"]), (422, &json!("invalid_settlement")), "{problem}");
            assert_eq!(problem["errors"][0]["pointer"], pointer);
            assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(expected), "{problem}");
        }
    }
    assert_eq!(system.get(&first).await["state"], "active", "a refused request changes nothing");
    system.assert_clean().await;
}

#[tokio::test]
async fn invalid_signal_is_refused() {
    let system = System::start("").await;
    system.post("q", json!({"data": 1, "hold": "k"})).await;
    let long_text = json!({"data": "x".repeat(4_095)});
    for (body, pointer, expected) in [
        (long_text, "/data", "at most 4096 bytes"),
        (json!({"sticky_for": 0}), "/sticky_for", "1ms to 30d"),
        (json!({"sticky_for": "31d"}), "/sticky_for", "1ms to 30d"),
        (json!({"stick": 1}), "/stick", "did you mean \"sticky_for\"?"),
    ] {
        let (status, problem) = system.request(Method::POST, "/v1/queues/q/signals/k", Some(body)).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_signal")), "{problem}");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
        assert!(problem["errors"][0]["detail"].as_str().unwrap().contains(expected), "{problem}");
    }
    for key in ["a%2Fb", "%01", "%ff", &"x".repeat(257)] {
        let (status, problem) = system.post_empty(&format!("/v1/queues/q/signals/{key}")).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_signal_key")), "{key}");
    }
    assert_eq!(system.get("/v1/queues/q").await["counts"]["held"], 1, "nothing was released");
}

/// Sends a sticky signal with this data.
async fn send_sticky(system: &System, key: &str, data: Value) {
    let signal = json!({"data": data, "sticky_for": "1h"});
    let (status, answer) = system.request(Method::POST, &format!("/v1/queues/q/signals/{key}"), Some(signal)).await;
    assert_eq!(status, 200, "{answer}");
}

/// Returns the keys of the signals on all pages of the list of sticky signals.
async fn listed_keys(system: &System, limit: usize) -> Vec<String> {
    let mut keys = Vec::new();
    let mut path = format!("/v1/queues/q/signals?limit={limit}");
    loop {
        let page = system.get(&path).await;
        let signals = page["signals"].as_array().unwrap();
        assert!(signals.len() <= limit && !signals.is_empty(), "{page}");
        keys.extend(signals.iter().map(|signal| signal["key"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/queues/q/signals?limit={limit}&cursor={cursor}"),
            None => return keys,
        }
    }
}

#[tokio::test]
async fn sticky_signal_is_readable_until_it_is_deleted_or_expires() {
    let system = System::start("").await;
    let path = "/v1/queues/q/signals/paid:42";
    let assert_not_found = async |method: Method| {
        system.refused(method, path, None, (404, "signal_not_found", "GET /v1/queues/q/signals lists")).await;
    };
    assert_not_found(Method::GET).await;
    assert_not_found(Method::DELETE).await;
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]), "neither request creates a queue");
    system.post("q", json!({"data": 1, "hold": "paid:42"})).await;
    system.post_empty(path).await;
    assert_not_found(Method::GET).await;

    send_sticky(&system, "paid:42", json!({"amount": [1, 2]})).await;
    let signal = system.get(path).await;
    assert_eq!((&signal["key"], &signal["held"]), (&json!("paid:42"), &json!(0)));
    assert_eq!(signal["data"], json!({"amount": [1, 2]}));
    let message = system.get(&system.post("q", json!({"data": 2, "hold": "paid:42"})).await).await;
    assert_eq!(message["state"], "waiting");
    let sticky_duration = crate::millis(&signal["sticky_until"]) - crate::millis(&message["created_at"]);
    assert!((3_500_000..=3_600_000).contains(&sticky_duration), "{signal}");

    assert_eq!(system.request(Method::DELETE, path, None).await, (204, Value::Null));
    assert_not_found(Method::DELETE).await;
    let message = system.get(&system.post("q", json!({"data": 3, "hold": "paid:42"})).await).await;
    assert_eq!(
        (&message["state"], &message["hold"]),
        (&json!("held"), &json!("paid:42")),
        "without the signal a message is held again"
    );
    for key in ["sticky", "sticky_until"] {
        assert_eq!(system.redis.command(&format!("EXISTS drover:{{q}}:{key}")), ":0", "nothing is left of the signal");
    }

    // The signal `short` has no data. The end of `short` is set to the past, as if maintenance had not removed this signal yet.
    system.request(Method::POST, "/v1/queues/q/signals/short", Some(json!({"sticky_for": "1h"}))).await;
    assert_eq!(system.get("/v1/queues/q/signals").await["signals"][0]["data"], Value::Null);
    system.redis.command("ZADD drover:{q}:sticky_until 1 short");
    assert_eq!(system.request(Method::GET, "/v1/queues/q/signals/short", None).await.0, 404);
    assert_eq!(system.get("/v1/queues/q/signals").await, json!({"signals": []}));
    assert_eq!(system.request(Method::DELETE, "/v1/queues/q/signals/short", None).await.0, 404);
    system.assert_clean().await;
}

#[tokio::test]
async fn sticky_signals_are_listed_in_pages_of_bounded_size() {
    let system = System::start("").await;
    let queue = system.queues().queue(&"q".parse().unwrap());
    assert_eq!(system.request(Method::GET, "/v1/queues/q/signals", None).await.1["code"], "queue_not_found");
    // Many signals end at the same instant, other signals at different instants.
    let signal: queue_core::Signal =
        serde_json::from_value(json!({"data": "x".repeat(4_094), "sticky_for": "1h"})).unwrap();
    for numbers in (0..1_100).collect::<Vec<_>>().chunks(100) {
        let keys = numbers.iter().map(|n| format!("{n}:{}", "ä".repeat(200)).parse().unwrap()).collect::<Vec<_>>();
        futures_util::future::join_all(keys.iter().map(|key| queue.signal(key, &signal))).await;
    }
    let first_page = system.get("/v1/queues/q/signals?limit=1000").await;
    let signal_count = first_page["signals"].as_array().unwrap().len();
    assert!(
        (900..950).contains(&signal_count) && first_page["next_cursor"].is_string(),
        "{signal_count} signals in 4 MiB"
    );
    for limit in [7, 1_000] {
        let mut keys = listed_keys(&system, limit).await;
        assert_eq!(keys.len(), 1_100);
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), 1_100, "no key is listed twice");
    }
    assert_eq!(system.get("/v1/queues/q/signals").await["signals"].as_array().unwrap().len(), 50);

    for (query, status, code, expected) in [
        ("limit=0", 400, "invalid_query", "from 1 to 1000"),
        ("limt=1", 400, "invalid_query", "did you mean \"limit\"?"),
        ("cursor=AAAA", 404, "cursor_not_found", "next_cursor"),
    ] {
        system.refused(Method::GET, &format!("/v1/queues/q/signals?{query}"), None, (status, code, expected)).await;
    }
    for (method, path) in [(Method::GET, "a%2Fb"), (Method::DELETE, "%ff")] {
        let (status, problem) = system.request(method, &format!("/v1/queues/q/signals/{path}"), None).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid_signal_key")), "{path}");
    }
    let (status, _) = system.request(Method::DELETE, "/v1/queues/q/signals/k?x=1", None).await;
    assert_eq!(status, 400, "the endpoint has no query parameters");
}

#[tokio::test]
async fn message_posted_while_its_sticky_signal_is_deleted_is_held_or_waiting() {
    let system = System::start("").await;
    let queue = system.queues().queue(&"q".parse().unwrap());
    let (mut held, mut released) = (0, 0);
    for round in 0..50 {
        let key = format!("k{round}");
        send_sticky(&system, &key, json!(1)).await;
        let message = json!({"data": 1, "hold": key});
        let key = key.parse().unwrap();
        let (posted, posted_again, forgotten, forgotten_again) = tokio::join!(
            system.post("q", message.clone()),
            system.post("q", message),
            queue.forget_signal(&key),
            queue.forget_signal(&key)
        );
        assert!(forgotten.unwrap() ^ forgotten_again.unwrap(), "exactly one of the requests deletes the signal");
        for location in [posted, posted_again] {
            match system.get(&location).await["state"].as_str() {
                Some("held") => held += 1,
                Some("waiting") => released += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    let counts = &system.get("/v1/queues/q").await["counts"];
    assert_eq!((&counts["held"], &counts["waiting"]), (&json!(held), &json!(released)));
    system.assert_clean().await;
}
