//! Tests of the promised times of workers: the start of messages, the recovery of leases, rate limits, cancels and stops.

use std::time::Duration;

use queue_core::{ConsumerId, LeaseRequest, Millis, State};
use reqwest::Method;
use serde_json::json;

use crate::{
    stall_monitor::{StallMonitor, now_millis},
    system::{HOURLY_POLLS, System, millis, number},
};

#[tokio::test(flavor = "multi_thread")]
async fn idle_worker_starts_messages_within_50_ms_of_their_due_times() {
    let monitor = StallMonitor::start().await;
    let system = System::start("").await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    for round in 0..40 {
        let delay = if round % 2 == 0 { 0 } else { 50 };
        let finished_message =
            system.finished(&system.post("my-queue", json!({"data": 1, "delay": delay})).await).await;
        let (due, started) = (millis(&finished_message["due_at"]), millis(&finished_message["started_at"]));
        monitor.assert_duration_within(Duration::from_millis(50), due, started, &format!("round {round}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_lapsed_leases_are_handed_out_again_within_a_second_of_their_deadlines() {
    let monitor = StallMonitor::start().await;
    let system = System::start("[queues.my-queue]\nvisibility_timeout = \"2s\"\n").await;
    for n in 0..20 {
        system.post("my-queue", number(n)).await;
    }
    // The leases belong to a consumer that sends no further request, as if it were killed.
    let deliveries = system.lease("my-queue", 20).await;
    let _idle_consumer = system.worker_with(&[HOURLY_POLLS]).await;
    for delivery in deliveries {
        let finished_message = system.finished(&format!("/v1/queues/my-queue/messages/{}", delivery.message.id)).await;
        let (deadline, started) = (delivery.lease_expires_at.as_millis(), millis(&finished_message["started_at"]));
        monitor.assert_duration_within(
            Duration::from_secs(1),
            deadline,
            started,
            "the start of a killed consumer's message",
        );
    }
    // The message of a lapsed lease is leased in time by a client that waits over HTTP. In a queue without a waiting client, the lapse is
    // also recorded in time.
    for waits in [true, false] {
        let location = system.post("other", number(1)).await;
        let consumer = ConsumerId::issue();
        let visibility_timeout = Some(Millis::new(1_500));
        let request = LeaseRequest { visibility_timeout, ..LeaseRequest::new(consumer, 1) };
        let queue = system.queues().queue(&"other".parse().unwrap());
        let deadline = queue.lease(&request).await.unwrap().deliveries[0].lease_expires_at.as_millis();
        if waits {
            let lease_request = Some(json!({"wait": "20s"}));
            let (_, leased) = system.request(Method::POST, "/v1/queues/other/leases", lease_request).await;
            let started_at = millis(&leased["messages"][0]["started_at"]);
            monitor.assert_duration_within(
                Duration::from_secs(1),
                deadline,
                started_at,
                "the lease by a client that waits",
            );
        } else {
            while system.get(&location).await["lapses"] == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            monitor.assert_duration_within(
                Duration::from_secs(1),
                deadline,
                now_millis(),
                "the lease of a message without a waiting client",
            );
        }
        system.request(Method::DELETE, "/v1/queues/other?confirm=other", None).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_queue_uses_95_percent_of_its_rate_limit() {
    let monitor = StallMonitor::start().await;
    let rate_limit_config = "[queues.my-queue]\nrate_limit = { max = 30, duration = \"1s\" }\n";
    let system = System::start(rate_limit_config).await;
    let _workers = [system.worker_with(&[HOURLY_POLLS]).await, system.worker_with(&[HOURLY_POLLS]).await];
    system.post_batch("my-queue", (0..125).map(number)).await;
    let queue = system.queues().queue(&"my-queue".parse().unwrap());
    while queue.status().await.unwrap().unwrap().counts.completed < 125 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let completed_page = queue.list(State::Completed, 1_000, None).await.unwrap();
    let mut starts: Vec<u64> =
        completed_page.messages.iter().map(|message| message.started_at.unwrap().as_millis()).collect();
    starts.sort_unstable();
    // The messages fill four one-second windows of the rate limit, and a part of the fifth window.
    monitor.assert_duration_within(Duration::from_millis(4_200), starts[0], starts[124], "125 leases at 30 a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn exclusive_queue_has_another_owner_within_a_second_of_the_owner_timeout_and_at_once_after_a_stop() {
    let monitor = StallMonitor::start().await;
    let exclusive_config = "[queues.my-queue]\nexclusive = true\nvisibility_timeout = \"2s\"\n";
    let system = System::start(exclusive_config).await;
    let mut first_worker = system.worker_with(&[HOURLY_POLLS]).await;
    system.finished(&system.post("my-queue", number(1)).await).await;
    let mut second_worker = system.worker_with(&[HOURLY_POLLS]).await;
    first_worker.terminate();
    let stop_time = now_millis();
    let finished_message = system.finished(&system.post("my-queue", number(2)).await).await;
    monitor.assert_duration_within(
        Duration::from_millis(200),
        stop_time,
        millis(&finished_message["started_at"]),
        "another owner after a stop",
    );
    let _third = system.worker_with(&[HOURLY_POLLS]).await;
    system.finished(&system.post("my-queue", number(3)).await).await;
    second_worker.kill();
    // The owner timeout began at the last request of the killed owner, which was before `kill_time`.
    let kill_time = now_millis();
    let finished_message = system.finished(&system.post("my-queue", number(4)).await).await;
    monitor.assert_duration_within(
        Duration::from_secs(3),
        kill_time,
        millis(&finished_message["started_at"]),
        "another owner after the owner timeout of 2 s",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn handler_is_cancelled_within_a_second() {
    let monitor = StallMonitor::start().await;
    let handler_config = r#"{ type = "exec", command = ["sh", "-c", "exec sleep 100"] }"#;
    let system = System::start(&format!("[[worker.routes]]\nqueue = \"q\"\nhandler = {handler_config}\n")).await;
    let location = system.post("q", number(1)).await;
    let _worker = system.worker_with(&[HOURLY_POLLS]).await;
    system.wait_for_state(&location, "active").await;
    let requested_at = now_millis();
    assert_eq!(system.post_empty(&format!("{location}/cancel")).await.0, 202);
    let finished_message = system.finished(&location).await;
    assert_eq!(finished_message["error"]["code"], "cancelled");
    monitor.assert_duration_within(
        Duration::from_secs(1),
        requested_at,
        millis(&finished_message["finished_at"]),
        "the end of a cancelled handler",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_worker_stops_within_1_s_and_a_second_signal_stops_a_busy_worker_within_2_s() {
    let monitor = StallMonitor::start().await;
    let system = System::start("").await;
    let mut idle_worker = system.worker_with(&[HOURLY_POLLS]).await;
    let stopped_at = now_millis();
    assert!(idle_worker.terminate().success());
    monitor.assert_duration_within(Duration::from_secs(1), stopped_at, now_millis(), "an idle worker stops");

    let folder = tempfile::tempdir().unwrap();
    let mut busy_worker = system.launch_sleeper(folder.path(), &[]);
    let location = system.post("my-queue", json!({"data": {"ms": 60_000, "blocking": true}})).await;
    system.wait_for_state(&location, "active").await;
    busy_worker.send_sigterm();
    busy_worker.wait_for_log("a second signal stops at once");
    let stopped_at = now_millis();
    busy_worker.terminate();
    monitor.assert_duration_within(Duration::from_secs(2), stopped_at, now_millis(), "a busy worker stops");
}
