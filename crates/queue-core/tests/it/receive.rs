//! Tests of consumers that wait for messages through [`LongPoll`], whose lease task (one task for each queue) leases for all
//! consumers: the number of calls, and the release of deliveries whose client has disconnected.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use drover_tests::eventually;
use futures_util::FutureExt;
use queue_core::{
    ConsumerId, Delivery, Error, LeaseRequest, LongPoll, MessageRef, Millis, ResponseMemory, State, wakeup::Subscriber,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{TestQueue, numbered_message, wait_millis};

const LONG_WAIT: Millis = Millis::from_secs(300);

/// A long poll that is woken by posts, as in an API.
fn long_poll(fixture: &TestQueue) -> LongPoll {
    let subscriber = Subscriber::new(fixture.queues.redis().clone());
    let kept_connection = subscriber.clone();
    tokio::spawn(async move { kept_connection.keep_connected().await });
    LongPoll::new(subscriber, CancellationToken::new())
}

/// Makes a request of a new consumer, as for an HTTP client that gives no consumer id.
fn request_of_a_new_consumer() -> LeaseRequest {
    LeaseRequest::new(ConsumerId::issue(), 1).without_owner_timeout()
}

/// The number of scripts that Redis has run.
fn count_calls(fixture: &TestQueue) -> usize {
    let stats = fixture.redis.command("INFO commandstats");
    let calls =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// Waits until no script has run for a while, and returns the number of scripts so far.
async fn script_calls_when_idle(fixture: &TestQueue) -> usize {
    let mut previous_calls = count_calls(fixture);
    loop {
        wait_millis(300).await;
        let current_calls = count_calls(fixture);
        if current_calls == previous_calls {
            return current_calls;
        }
        previous_calls = current_calls;
    }
}

/// Leases messages as soon as any are ready. Panics if the lease of a client that has disconnected is not released within ten
/// seconds.
async fn lease_within_ten_seconds(fixture: &TestQueue) -> Vec<Delivery> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let deliveries_now = fixture.lease(5).await.deliveries;
        if !deliveries_now.is_empty() {
            return deliveries_now;
        }
        assert!(tokio::time::Instant::now() < deadline, "the message stays leased");
        wait_millis(5).await;
    }
}

async fn wait_until_waiting_again(fixture: &TestQueue, id: &MessageRef) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let message = fixture.read(id).await;
        if message.state == State::Waiting {
            assert_eq!((message.attempts_made, message.lapses), (0, 0));
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the message stays {:?}", message.state);
        wait_millis(5).await;
    }
}

#[tokio::test]
async fn lease_granted_after_its_client_disconnected_is_released_at_once() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"1h"}"#);
    let posted_message = fixture.post(numbered_message(1)).await;
    let long_poll = LongPoll::new(Subscriber::new(fixture.queues.redis().clone()), CancellationToken::new());
    // The client disconnects during the lease call, which Redis answers only after the disconnection.
    fixture.redis.suspend();
    let client_wait = long_poll.receive(&fixture.queue, fixture.request(5), Millis::from_secs(20));
    assert!(tokio::time::timeout(Duration::from_millis(300), client_wait).await.is_err());
    fixture.redis.resume();
    let mut message = fixture.read(&posted_message.id).await;
    for _ in 0..200 {
        if (message.state, message.deliveries) == (State::Waiting, 1) {
            break;
        }
        wait_millis(10).await;
        message = fixture.read(&posted_message.id).await;
    }
    assert_eq!((message.state, message.deliveries), (State::Waiting, 1), "the message was leased and released");
    assert_eq!((message.attempts_made, message.lapses), (0, 0));
    let next_deliveries = long_poll.receive(&fixture.queue, fixture.request(5), Millis::from_secs(5)).await.unwrap();
    assert_eq!(next_deliveries[0].message.id, posted_message.id);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn deliveries_that_a_client_never_took_are_released_at_once() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"1h"}"#);
    let long_poll = long_poll(&fixture);
    let mut client_wait = Box::pin(long_poll.receive(&fixture.queue, fixture.request(5), LONG_WAIT));
    assert!((&mut client_wait).now_or_never().is_none(), "the message is waiting");
    let posted_message = fixture.post(numbered_message(1)).await;
    wait_until_active(&fixture, &posted_message.id).await;
    // During a pause of 50 ms, the lease task of the queue hands the message over to the waiting client, but the client
    // never reads the message.
    wait_millis(50).await;
    drop(client_wait);
    wait_until_waiting_again(&fixture, &posted_message.id).await;
    let next_deliveries = long_poll.receive(&fixture.queue, fixture.request(5), LONG_WAIT).await.unwrap();
    assert_eq!(next_deliveries[0].message.id, posted_message.id);
    fixture.assert_clean().await;
}

/// A memory for responses in which no byte is free.
struct NoMemory;

impl ResponseMemory for NoMemory {
    fn take(&self) -> Option<usize> {
        None
    }

    fn free(&self) {}
}

#[tokio::test]
async fn consumer_without_memory_for_its_answer_is_refused_before_anything_is_leased() {
    let fixture = TestQueue::with_settings("{}");
    let long_poll = long_poll(&fixture);
    let refusal = long_poll.receive_within(&fixture.queue, fixture.request(5), LONG_WAIT, Arc::new(NoMemory));
    let posted_message = fixture.post(numbered_message(1)).await;
    assert!(matches!(refusal.await, Err(Error::Overloaded)));
    let message = fixture.read(&posted_message.id).await;
    assert_eq!((message.state, message.deliveries), (State::Waiting, 0));
    let next_deliveries = long_poll.receive(&fixture.queue, fixture.request(5), LONG_WAIT).await.unwrap();
    assert_eq!(next_deliveries[0].message.id, posted_message.id);
    fixture.assert_clean().await;
}

async fn wait_until_active(fixture: &TestQueue, id: &MessageRef) {
    for _ in 0..1_000 {
        if fixture.read(id).await.state == State::Active {
            return;
        }
        wait_millis(5).await;
    }
    panic!("the message is not leased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_delivery_stays_leased_when_clients_disconnect_at_random_times() {
    let fixture = Arc::new(TestQueue::with_settings(r#"{"visibility_timeout":"1h"}"#));
    let long_poll = long_poll(&fixture);
    for n in 0..300 {
        let (long_poll, queue, request) = (long_poll.clone(), Arc::clone(&fixture.queue), fixture.request(5));
        let client = tokio::spawn(async move { long_poll.receive(&queue, request, LONG_WAIT).await.unwrap() });
        let posted_message = fixture.post(numbered_message(n)).await;
        // The test waits for up to 0.8 ms without a timer, because a timer would be too coarse: the client gets the message
        // within a millisecond.
        let instant = std::time::Instant::now() + Duration::from_micros(rand::random_range(0..800));
        while std::time::Instant::now() < instant {
            tokio::task::yield_now().await;
        }
        client.abort();
        // The client may have received the message before it was disconnected.
        let lease_reply = match client.await {
            Ok(deliveries) => deliveries,
            Err(_) => lease_within_ten_seconds(&fixture).await,
        };
        assert_eq!((&lease_reply[0].message.id, lease_reply[0].message.lapses), (&posted_message.id, 0));
        fixture.complete(&lease_reply[0]).await;
    }
    fixture.assert_clean().await;
}

#[tokio::test]
async fn lease_call_dropped_at_any_step_leaves_no_lease() {
    let fixture = TestQueue::with_settings(r#"{"visibility_timeout":"1h"}"#);
    let mut given_up_count = 0_usize;
    for step in 1..8 {
        fixture.post_numbers([1, 2]).await;
        // A message that can't be read makes a lease call take one more step, in which that message fails.
        let unreadable_message = fixture.post(numbered_message(3)).await;
        fixture.redis.command(&format!("HSET drover:{{q}}:messages {} ?", unreadable_message.id));
        let request = fixture.request(5);
        let mut lease = Box::pin(fixture.queue.lease(&request));
        let mut steps = 0;
        let lease_result = std::future::poll_fn(|cx| match lease.as_mut().poll(cx) {
            Poll::Ready(lease_result) => Poll::Ready(Some(lease_result)),
            Poll::Pending => {
                steps += 1;
                if steps == step { Poll::Ready(None) } else { Poll::Pending }
            }
        })
        .await;
        drop(lease);
        given_up_count += usize::from(lease_result.is_none());
        let deliveries_of_lease = match lease_result {
            Some(lease_reply) => lease_reply.unwrap().deliveries,
            None => lease_within_ten_seconds(&fixture).await,
        };
        let numbers: Vec<&str> = deliveries_of_lease.iter().map(|delivery| delivery.message.data.get()).collect();
        assert_eq!(numbers, ["1", "2"], "given up at step {step}");
        for delivery in &deliveries_of_lease {
            fixture.complete(delivery).await;
        }
        assert_eq!(fixture.read(&unreadable_message.id).await.state, State::Failed);
        fixture.queue.erase(&unreadable_message.id).await.unwrap();
    }
    assert!(
        given_up_count >= 2,
        "clients gave up at least in the step that leases and in the step that fails an unreadable message"
    );
    fixture.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_waiting_clients_of_an_exclusive_queue_cost_a_constant_number_of_calls() {
    let fixture = Arc::new(TestQueue::with_settings(r#"{"exclusive":true}"#));
    let long_poll = long_poll(&fixture);
    let received_numbers = Arc::new(Mutex::new(Vec::new()));
    let (is_leased, overlaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..500 {
        let (long_poll, request, fixture) = (long_poll.clone(), request_of_a_new_consumer(), Arc::clone(&fixture));
        let (received_numbers, is_leased, overlaps) =
            (Arc::clone(&received_numbers), Arc::clone(&is_leased), Arc::clone(&overlaps));
        clients.spawn(async move {
            let deliveries: Vec<Delivery> = long_poll.receive(&fixture.queue, request, LONG_WAIT).await.unwrap();
            assert_eq!(deliveries.len(), 1);
            overlaps.fetch_add(usize::from(is_leased.swap(true, Ordering::SeqCst)), Ordering::SeqCst);
            received_numbers.lock().unwrap().push(deliveries[0].message.data.get().parse::<u64>().unwrap());
            wait_millis(1).await;
            is_leased.store(false, Ordering::SeqCst);
            fixture.complete(&deliveries[0]).await;
        });
    }
    let calls_before = script_calls_when_idle(&fixture).await;
    fixture.post(numbered_message(0)).await;
    let calls_for_a_post = script_calls_when_idle(&fixture).await - calls_before;
    assert_eq!(*received_numbers.lock().unwrap(), [0]);
    // One message takes a few calls: the post, the lease, the settlement, and some lease calls that find nothing.
    assert!((3..=8).contains(&calls_for_a_post), "{calls_for_a_post} calls for one post");

    // The test waits for two polls of the idle lease task, which polls every 5 s.
    let calls_before = count_calls(&fixture);
    wait_millis(11_000).await;
    let calls_while_idle = count_calls(&fixture) - calls_before;
    assert!((1..=4).contains(&calls_while_idle), "{calls_while_idle} calls in 11 s without a message");

    let calls_before = count_calls(&fixture);
    fixture.post_numbers(1..=100).await;
    eventually("all messages are received", || (received_numbers.lock().unwrap().len() == 101).then_some(()));
    let calls_for_a_hundred = script_calls_when_idle(&fixture).await - calls_before;
    assert!(calls_for_a_hundred <= 700, "{calls_for_a_hundred} calls for 100 messages");
    assert_eq!(
        *received_numbers.lock().unwrap(),
        (0..=100).collect::<Vec<_>>(),
        "messages are received in the order of posting"
    );
    assert_eq!(overlaps.load(Ordering::SeqCst), 0, "one consumer at a time may lease messages");
    clients.abort_all();
    fixture.assert_clean().await;
}

#[tokio::test]
async fn owner_is_served_at_any_position_among_the_waiting_clients() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":{"parallel":2}}"#);
    let long_poll = long_poll(&fixture);
    fixture.queue.declare().await.unwrap();
    let owner = fixture.request(1);
    assert!(fixture.queue.lease(&owner).await.unwrap().deliveries.is_empty(), "the owner has access now");
    let mut other_clients = JoinSet::new();
    for _ in 0..100 {
        let request = LeaseRequest { consumer: ConsumerId::issue(), ..fixture.request(1) };
        let (long_poll, queue) = (long_poll.clone(), Arc::clone(&fixture.queue));
        other_clients.spawn(async move { long_poll.receive(&queue, request, LONG_WAIT).await.unwrap() });
    }
    script_calls_when_idle(&fixture).await;
    let mut requests_of_owner = JoinSet::new();
    for _ in 0..3 {
        let (long_poll, queue, request) = (long_poll.clone(), Arc::clone(&fixture.queue), owner.clone());
        requests_of_owner.spawn(async move { long_poll.receive(&queue, request, LONG_WAIT).await.unwrap() });
    }
    let calls_before = script_calls_when_idle(&fixture).await;
    fixture.post_numbers(0..3).await;
    let mut received_deliveries = Vec::new();
    for _ in 0..2 {
        received_deliveries.extend(requests_of_owner.join_next().await.unwrap().unwrap());
    }
    received_deliveries.sort_by_key(|delivery| delivery.message.data.get().to_owned());
    assert_eq!(received_deliveries.iter().map(|delivery| delivery.message.data.get()).collect::<Vec<_>>(), ["0", "1"]);
    let calls = script_calls_when_idle(&fixture).await - calls_before;
    assert!(calls <= 10, "{calls} calls for 100 clients that have no access");
    fixture.complete(&received_deliveries[0]).await;
    let third_answer = requests_of_owner.join_next().await.unwrap().unwrap();
    assert_eq!(third_answer[0].message.data.get(), "2");
    assert!(other_clients.try_join_next().is_none());
    other_clients.abort_all();
}

#[tokio::test]
async fn waiting_clients_take_over_after_the_timeout_of_an_owner_in_another_process() {
    let fixture = TestQueue::with_settings(r#"{"exclusive":true,"visibility_timeout":400}"#);
    let long_poll = long_poll(&fixture);
    fixture.queue.declare().await.unwrap();
    assert!(fixture.lease(1).await.deliveries.is_empty(), "another process has access now");
    let mut clients = JoinSet::new();
    for _ in 0..50 {
        let (long_poll, queue, request) = (long_poll.clone(), Arc::clone(&fixture.queue), request_of_a_new_consumer());
        clients.spawn(async move { long_poll.receive(&queue, request, LONG_WAIT).await.unwrap() });
    }
    fixture.post(numbered_message(1)).await;
    // The time limit of 3 s is shorter than the 5 s between two polls of the lease task.
    let first_answer =
        tokio::time::timeout(Duration::from_secs(3), clients.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(first_answer[0].message.data.get(), "1");
    // When the lease of the exclusive queue's owner lapses, another waiting client gets the message.
    let second_answer =
        tokio::time::timeout(Duration::from_secs(3), clients.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(
        (second_answer[0].message.id.clone(), second_answer[0].message.lapses),
        (first_answer[0].message.id.clone(), 1)
    );
    clients.abort_all();
}
