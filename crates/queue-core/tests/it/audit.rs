//! The audit finds damage, and reports nothing for an undamaged queue.

use crate::{TestQueue, message_with_delay, numbered_message};

#[tokio::test]
async fn audit_finds_deliberate_damage() {
    let damaging_commands = [
        "LPUSH drover:{q}:waiting ID",
        "ZADD drover:{q}:delayed 1 ID",
        "ZADD drover:{q}:leased 1 ID",
        "HDEL drover:{q}:messages ID",
        "HSET drover:{q}:outcomes ID x",
        "RPUSH drover:{q}:completed ID",
        "DEL drover:{q}:waiting",
        "SADD drover:{q}:removed 99999999999999",
        "HSET drover:{q}:runs 99999999999999 x",
    ];
    for breakage in damaging_commands {
        let fixture = TestQueue::new();
        fixture.post(message_with_delay(0, 60_000)).await;
        let id = fixture.post(numbered_message(1)).await.id.to_string();
        fixture.assert_clean().await;
        fixture.redis.command(&breakage.replace("ID", &id));
        let audit = fixture.queue.audit().await.unwrap();
        assert_eq!(audit.findings.len(), 1, "{breakage}: {:?}", audit.findings);
    }
}

#[tokio::test]
async fn the_audit_is_clean_while_the_queue_is_in_use() {
    let fixture = TestQueue::new();
    let use_queue = async {
        for round in 0..50 {
            fixture.post_numbers(round * 20..(round + 1) * 20).await;
            for delivery in fixture.lease(20).await.deliveries {
                fixture.complete(&delivery).await;
            }
        }
    };
    let audits = async {
        for _ in 0..10 {
            fixture.assert_clean().await;
        }
    };
    tokio::join!(use_queue, audits);
    assert_eq!(fixture.queue.audit().await.unwrap().messages, 1_000);
}
