//! Tests of how long finished messages are kept.

use queue_core::{Action, MessageRef, NewMessage};

use crate::{TestQueue, failure, numbered_message, wait_millis};

#[tokio::test]
async fn completed_messages_are_removed_by_count_but_not_before_the_minimum_age() {
    let fixture = TestQueue::with_settings(r#"{"retention":{"completed":{"count":10,"min_age":2000}}}"#);
    fixture.post_numbers(0..60).await;
    let complete_ten = async || {
        for delivery in fixture.lease(10).await.deliveries {
            fixture.complete(&delivery).await;
        }
    };
    for _ in 0..5 {
        complete_ten().await;
    }
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert_eq!(status.counts.completed, 50, "no message is older than min_age");
    wait_millis(2_050).await;
    complete_ten().await;
    // A settle call may forget twice as many messages as it finishes: a call with ten settlements forgets twenty messages, a call with
    // one settlement forgets two.
    let status = fixture.queue.status().await.unwrap().unwrap();
    assert!((10..=40).contains(&status.counts.completed), "{:?}", status.counts);
    fixture.assert_clean().await;
}

#[tokio::test]
async fn finished_messages_are_removed_by_age_with_all_their_data() {
    let keep_setting = r#"{"age":1000,"min_age":0}"#;
    let settings = format!(
        r#"{{"max_attempts":1,"id_window":0,"retention":{{"completed":{keep_setting},"failed":{keep_setting}}}}}"#
    );
    let fixture = TestQueue::with_settings(&settings);
    let message_with_own_id = |id: &str, data| NewMessage { id: Some(id.parse().unwrap()), ..numbered_message(data) };
    fixture.queue.enqueue(vec![message_with_own_id("a", 1), message_with_own_id("b", 2)]).await.unwrap();
    let lease_reply = fixture.lease(2).await;
    fixture.complete(&lease_reply.deliveries[0]).await;
    fixture.settle(&lease_reply.deliveries[1], Action::Fail(failure())).await;
    wait_millis(1_050).await;
    fixture.queue.enqueue(vec![message_with_own_id("c", 3), message_with_own_id("d", 4)]).await.unwrap();
    let lease_reply = fixture.lease(2).await;
    fixture.complete(&lease_reply.deliveries[0]).await;
    fixture.settle(&lease_reply.deliveries[1], Action::Fail(failure())).await;
    let forgotten_ids: Vec<MessageRef> = ["a", "b"].map(|id| id.parse().unwrap()).into();
    assert!(fixture.queue.read(&forgotten_ids).await.unwrap().iter().all(Option::is_none));
    for hash in ["messages", "outcomes", "options", "aliases"] {
        assert_eq!(fixture.redis.command(&format!("HLEN drover:{{q}}:{hash}")), ":2", "{hash}");
    }
    // After the message with the own id `a` was forgotten, another message can be posted with the own id `a`.
    assert_eq!(fixture.post(message_with_own_id("a", 5)).await.data.get(), "5");
    fixture.assert_clean().await;
}
