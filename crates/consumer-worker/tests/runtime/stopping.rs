//! Tests of handlers that must stop: at the time-out, after a cancel, and after their lease is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use consumer_worker::{Job, Outcome};
use queue_core::{Changed, Millis, NewMessage, State};
use serde_json::value::to_raw_value;
use tokio::time::sleep;

use crate::{completed_outcome, start, start_with, wait_until_active};

#[tokio::test]
async fn run_that_takes_too_long_is_a_failed_attempt_and_its_handler_is_dropped() {
    let dropped_count = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped_count);
    let fixture = start(2, move |job: Job| {
        let count = Arc::clone(&count);
        async move {
            assert_eq!(job.timeout(), Some(Millis::new(200)));
            let _count = DropCounter(count);
            sleep(Duration::from_secs(60)).await;
            completed_outcome()
        }
    });
    let message = NewMessage {
        timeout: Some(Millis::new(200).try_into().unwrap()),
        ..NewMessage::new(to_raw_value(&1).unwrap())
    };
    let id = fixture.queue.enqueue(vec![message]).await.unwrap()[0].id().clone();
    let message = fixture.wait_until_finished(&id).await;
    assert_eq!((message.state, message.attempts_made, message.lapses), (State::Failed, 1, 0));
    let run_time_ms = message.finished_at.unwrap().since(message.started_at.unwrap()).get();
    assert!((200..5_000).contains(&run_time_ms), "{run_time_ms} ms");
    assert_eq!(message.error.unwrap().code, "timed_out");
    assert_eq!(dropped_count.load(Ordering::SeqCst), 1, "the handler was dropped");
    fixture.stop().await;
}

struct DropCounter(Arc<AtomicUsize>);

impl Drop for DropCounter {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn cancelled_handler_is_notified_within_a_second_and_may_still_complete() {
    // With a visibility timeout of 1 h, the heartbeat is too slow to cancel in time, so the notification must cancel the
    // handler.
    let fixture = start_with(r#"{"visibility_timeout":"1h","max_attempts":1}"#, 3, |job: Job| async move {
        if job.message().data.get() == "0" {
            std::future::pending::<()>().await;
        }
        job.stop().cancelled().await;
        if job.message().data.get() == "1" {
            Outcome::Retry(queue_core::Failure::new("odd", "stopped"))
        } else {
            completed_outcome()
        }
    });
    let ids = fixture.post(3).await;
    wait_until_active(&fixture, 3).await;
    for (n, id) in ids.iter().enumerate() {
        let start_time = tokio::time::Instant::now();
        assert_eq!(fixture.queue.cancel(id).await.unwrap(), Changed::Requested);
        let message = fixture.wait_until_finished(id).await;
        // The notification that the message was cancelled stops its handler within seconds, even on a busy machine. The
        // heartbeat would stop the handler only after 20 min.
        assert!(start_time.elapsed() < Duration::from_secs(8), "{:?}", start_time.elapsed());
        let expected_state = if n == 2 { State::Completed } else { State::Failed };
        assert_eq!(message.state, expected_state, "a cancelled handler may still complete its message");
        if n < 2 {
            assert_eq!(message.error.unwrap().code, "cancelled");
        }
    }
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().totals.cancelled, 2);
    fixture.stop().await;
}

#[tokio::test]
async fn heartbeat_finds_a_cancelled_message_whose_notification_was_lost() {
    let fixture = start(1, |_: Job| std::future::pending::<Outcome>());
    let ids = fixture.post(1).await;
    wait_until_active(&fixture, 1).await;
    // The command SADD marks the message as cancelled, as `cancel` does, but sends no notification.
    fixture.redis.command(&format!("SADD drover:{{q}}:cancelling {}", ids[0]));
    assert_eq!(fixture.wait_until_finished(&ids[0]).await.error.unwrap().code, "cancelled");
    fixture.stop().await;
}

#[tokio::test]
async fn handler_that_outlives_its_lease_is_stopped_and_the_message_is_redelivered() {
    let dropped_count = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped_count);
    let fixture = start(1, move |job: Job| {
        let count = Arc::clone(&count);
        async move {
            if job.message().deliveries == 1 {
                let _count = DropCounter(count);
                std::future::pending::<()>().await;
            }
            completed_outcome()
        }
    });
    let ids = fixture.post(1).await;
    wait_until_active(&fixture, 1).await;
    // The lease lapses although its consumer runs, as after a long outage of Redis.
    fixture.redis.command(&format!("ZADD drover:{{q}}:leased XX 1 {}", ids[0]));
    let message = fixture.wait_until_finished(&ids[0]).await;
    assert_eq!((message.state, message.deliveries, message.lapses), (State::Completed, 2, 1));
    assert_eq!(dropped_count.load(Ordering::SeqCst), 1);
    fixture.stop().await;
}
