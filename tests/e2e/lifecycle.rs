use std::time::Duration;

use drover_tests::{Process, eventually};
use serde_json::json;

use crate::{System, number};

#[tokio::test]
async fn both_services_stop_gracefully_and_lose_nothing() {
    let mut system = System::start("").await;
    let mut worker = system.worker().await;
    let mut locations = Vec::new();
    for n in 0..200 {
        locations.push(system.post("my-queue", number(n)).await);
    }
    assert!(worker.terminate().success());
    let _other = system.worker().await;
    for location in &locations {
        let message = system.finished(location).await;
        assert_eq!((&message["state"], &message["attempts_made"]), (&json!("completed"), &json!(1)));
        assert_eq!(message["lapses"], 0, "a graceful stop leaves no lease behind");
    }
    system.assert_clean().await;
    assert!(system.api.terminate().success());
    let log = system.api.log();
    assert!(log.iter().any(|line| line.contains("producer-api stopped")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_is_answered_before_the_api_stops() {
    let mut system = System::start("").await;
    let location = system.post("my-queue", number(1)).await;
    let url = system.url(&format!("{location}?wait=1500ms"));
    let waiting = tokio::spawn(system.http.get(url).send());
    // Its wait is noted in Redis as soon as the request is being served.
    eventually("the request is under way", || {
        system.redis.command("EXISTS drover:{my-queue}:awaited").contains(":1").then_some(())
    });
    assert!(system.api.terminate().success());
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn an_idle_worker_stops_at_once() {
    let system = System::start("").await;
    let mut worker = system.worker_with(&[("DROVER__WORKER__POLL_INTERVAL", "1h")]).await;
    let start = std::time::Instant::now();
    assert!(worker.terminate().success());
    // Its next look would come after an hour, and its grace is 25 s.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_worker_that_meets_a_newer_layout_stops_and_says_so() {
    let system = System::start("").await;
    system.post("my-queue", number(1)).await;
    system.redis.command("HSET drover:{my-queue}:meta layout 99");
    let url = system.redis.url();
    let env = [("DROVER__REDIS__URL", url.as_str()), ("DROVER__WORKER__BIND", "127.0.0.1:0")];
    let mut worker = Process::start("consumer-worker", &[], &env);
    assert!(!worker.wait().success());
    worker.wait_for_log(
        "queue my-queue has data layout 99; this version of Drover reads layout 3: run the version that wrote it",
    );
}

#[test]
fn the_binaries_explain_themselves() {
    for name in ["producer-api", "consumer-worker"] {
        for (argument, told) in [("--help", "--config"), ("--version", "0."), ("--print-config", "[worker]")] {
            let mut process = Process::start(name, &[argument], &[("DROVER__REDIS__URL", "redis://:hunter2@h:1")]);
            assert!(process.wait().success(), "{name} {argument}");
            process.wait_for_log(told);
            assert!(!process.log().join("\n").contains("hunter2"), "no password in {argument}");
        }
        let mut process = Process::start(name, &[], &[("DROVER__WORKER__CONCURENCY", "1")]);
        assert!(!process.wait().success());
        process.wait_for_log("did you mean \"concurrency\"?");
        let mut process = Process::start(name, &[], &[("DROVER__API__BIND", "0.0.0.0:0")]);
        assert!(!process.wait().success());
        process.wait_for_log("auth.mode = \"none\"");
    }
}

#[tokio::test]
async fn a_message_that_no_route_takes_fails_with_retries() {
    let config = "[[worker.routes]]\nqueue = \"my-queue\"\nname = \"known\"\nhandler = { type = \"log\" }\n\
                  [queues.my-queue]\nmax_attempts = 2\nbackoff = { type = \"fixed\", delay = 10 }\n";
    let system = System::start(config).await;
    let _worker = system.worker().await;
    let message = system.finished(&system.post("my-queue", json!({"data": 1, "name": "other"})).await).await;
    assert_eq!((&message["state"], &message["attempts_made"]), (&json!("failed"), &json!(2)));
    assert_eq!(message["error"]["code"], "no_handler");
    let message = system.finished(&system.post("my-queue", json!({"data": 1, "name": "known"})).await).await;
    assert_eq!((&message["state"], &message["result"]), (&json!("completed"), &json!(null)));
    system.assert_clean().await;
}
