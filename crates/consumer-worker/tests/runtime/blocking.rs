//! Tests of a worker whose handlers block their threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use consumer_worker::{Job, Routes};
use queue_core::{Millis, State};
use tokio::time::{Instant, sleep};

use crate::{Setup, completed_outcome, start, wait_until_active};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handlers_that_block_every_thread_let_no_lease_lapse() {
    let fixture = start(6, |job: Job| async move {
        let number: u64 = job.message().data.get().parse().unwrap();
        // Two handlers block both threads of the runtime for three times the visibility timeout.
        if number < 2 {
            thread::sleep(Duration::from_secs(3));
        } else {
            sleep(Duration::from_millis(10)).await;
        }
        completed_outcome()
    });
    for id in fixture.post(6).await {
        let message = fixture.wait_until_finished(&id).await;
        assert_eq!((message.state, message.deliveries, message.lapses), (State::Completed, 1, 0));
    }
    fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_with_blocking_handlers_stops_in_time_and_releases_their_messages() {
    let may_handlers_end = Arc::new(AtomicBool::new(false));
    let handler_may_end = Arc::clone(&may_handlers_end);
    let fixture = start(3, move |_: Job| {
        let may_handlers_end = Arc::clone(&handler_may_end);
        async move {
            while !may_handlers_end.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
            }
            completed_outcome()
        }
    });
    let ids = fixture.post(1).await;
    wait_until_active(&fixture, 1).await;
    let begin_time = Instant::now();
    let (queue, _redis) = fixture.stop().await;
    let elapsed = begin_time.elapsed();
    let message = queue.read(&ids).await.unwrap().remove(0).unwrap();
    // The handler ends before the assertions, because a test with blocked threads does not end.
    may_handlers_end.store(true, Ordering::Relaxed);
    // The worker's `shutdown_grace` is 1 s.
    assert!(elapsed < Duration::from_secs(8), "{elapsed:?}");
    assert_eq!((message.state, message.attempts_made, message.lapses), (State::Waiting, 0, 0));
}

#[tokio::test]
async fn worker_that_is_stopped_at_once_releases_its_messages_without_a_grace() {
    let setup = Setup { shutdown_grace: Millis::from_secs(60), ..Setup::default() };
    let fixture = setup.start(Routes::new().route("q", |_: Job| std::future::pending::<consumer_worker::Outcome>()));
    let ids = fixture.post(4).await;
    wait_until_active(&fixture, 4).await;
    let begin_time = Instant::now();
    fixture.stop.at_once.cancel();
    let (queue, _redis) = fixture.stop().await;
    assert!(begin_time.elapsed() < Duration::from_secs(20), "{:?}", begin_time.elapsed());
    for message in queue.read(&ids).await.unwrap().into_iter().flatten() {
        assert_eq!((message.state, message.attempts_made, message.lapses), (State::Waiting, 0, 0));
    }
}
