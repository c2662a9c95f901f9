//! Many clients that post one message each at the same time: their messages share calls, but nothing else.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{System, number};

/// How many calls of `enqueue` the API has made.
async fn enqueue_calls(system: &System) -> u64 {
    let page = system.http.get(system.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let count =
        page.lines().find(|line| line.starts_with("drover_redis_call_duration_seconds_count{script=\"enqueue\""));
    count.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn posts_at_the_same_time_are_each_answered_for_their_own_message() {
    let system = System::start("").await;
    let messages: Vec<Value> = (0..320)
        .map(|n| match n % 40 {
            0 => json!({"data": n, "id": "same"}),
            1 => json!({"data": n, "delay": "1h"}),
            2 => json!({"data": n, "delay": -1}),
            _ => number(n),
        })
        .collect();
    let answers = join_all(messages.iter().map(async |message| {
        let answer = system.send("q", message).await;
        (answer.status(), answer.json::<Value>().await.unwrap())
    }))
    .await;
    let mut ids = BTreeSet::new();
    for (n, (status, answer)) in answers.iter().enumerate() {
        match n % 40 {
            2 => assert_eq!(*status, StatusCode::UNPROCESSABLE_ENTITY),
            0 => assert_eq!((answer["id"].as_str(), answer["queue"].as_str()), (Some("same"), Some("q"))),
            kind => {
                assert_eq!((*status, &answer["data"]), (StatusCode::CREATED, &json!(n)), "{answer}");
                assert_eq!(answer["state"], if kind == 1 { "delayed" } else { "waiting" });
                ids.insert(answer["id"].as_str().unwrap().to_owned());
            }
        }
    }
    let created = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
    assert_eq!((created, ids.len()), (305, 304), "one of those with the same id, and all others that are in order");
    assert!(enqueue_calls(&system).await < 200, "they share calls");
    system.assert_clean().await;
}

#[tokio::test]
async fn what_is_posted_while_the_api_stops_is_stored_or_never_taken() {
    let mut system = System::start("").await;
    let (http, base) = (system.http.clone(), system.base.clone());
    let posting = tokio::spawn(join_all((0..200_u64).map(move |n| {
        let (http, url) = (http.clone(), format!("{base}/v1/queues/q/messages"));
        async move {
            let mut stored = Vec::new();
            // Until the API is gone.
            loop {
                let body = json!({"data": n}).to_string();
                let answer = http.post(&url).header("content-type", "application/json").body(body).send().await;
                let Ok(answer) = answer else { return stored };
                assert_eq!(answer.status(), StatusCode::CREATED);
                stored.push(answer.headers()["location"].to_str().unwrap().to_owned());
            }
        }
    })));
    while enqueue_calls(&system).await < 20 {}
    assert!(system.api.terminate().success());
    let stored: Vec<String> = posting.await.unwrap().into_iter().flatten().collect();
    system.relaunch_api();
    system.until_ready(&system.base).await;
    let status = system.get("/v1/queues/q").await;
    assert_eq!(status["counts"]["waiting"], json!(stored.len()), "all that was answered, and nothing else");
    system.assert_clean().await;
}
