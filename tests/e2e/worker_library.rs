//! Test of a worker that is written with the library `consumer_worker`: the example in the README of the library.

use drover_tests::{Process, free_port};
use serde_json::json;

use crate::System;

#[tokio::test]
async fn example_of_the_readme_of_the_worker_library_works_as_it_is_written() {
    let readme = include_str!("../../crates/consumer-worker/README.md");
    let example = include_str!("../../crates/consumer-worker/examples/mails.rs");
    assert!(readme.contains(&format!("```no_run\n{example}```")), "the README shows the example as it is");

    let system = System::start("[queues.mails]\nbackoff = { type = \"fixed\", delay = 10 }\n").await;
    let bind = format!("127.0.0.1:{}", free_port());
    let env = [("DROVER__REDIS__URL", system.redis_url.as_str()), ("DROVER__WORKER__BIND", bind.as_str())];
    let mut worker = Process::start_example("mails", &[], &env);
    system.wait_until_ready(&format!("http://{bind}")).await;
    let finished = async |message: serde_json::Value| system.finished(&system.post("mails", message).await).await;

    let message = finished(json!({"name": "welcome", "data": {"to": "ada@example.org"}})).await;
    assert_eq!(message["result"], json!({"text": "Dear ada, welcome! The Drover", "attempt": 1}));
    assert_eq!(message["progress"], "writing");
    let message = finished(json!({"name": "welcome", "data": {"to": "nobody"}})).await;
    assert_eq!((&message["state"], &message["attempts_made"]), (&json!("failed"), &json!(1)));
    assert_eq!(message["error"]["code"], "no_address");
    let message = finished(json!({"name": "welcome", "data": {"too": "ada@example.org"}})).await;
    assert_eq!((&message["error"]["code"], &message["attempts_made"]), (&json!("invalid_payload"), &json!(1)));
    assert!(message["error"]["message"].as_str().unwrap().contains("the field \"to\" is required"), "{message}");
    let message = finished(json!({"name": "other", "data": 1})).await;
    assert_eq!((&message["error"]["code"], &message["attempts_made"]), (&json!("no_handler"), &json!(3)));

    // The log of the worker has a line for each outcome of a message, and a summary.
    assert!(worker.terminate().success());
    let log = worker.log();
    let has_line = |words: &[&str]| log.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(
        has_line(&["completed queue=mails", "name=\"welcome\" attempt=1 outcome=\"completed\" duration_ms="]),
        "{log:?}"
    );
    assert!(has_line(&["WARN", "failed for good queue=mails", "outcome=\"failed\"", "code=\"no_address\""]), "{log:?}");
    assert!(has_line(&["INFO", "outcome=\"retried\"", "code=\"no_handler\""]), "{log:?}");
    assert!(
        has_line(&["totals of this worker", "completed=1 retried=2 failed=3 released=0 lost=0 unsettled=0"]),
        "{log:?}"
    );
    system.assert_clean().await;
}
