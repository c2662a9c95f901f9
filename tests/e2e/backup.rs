//! Tests of backups of one server and of a cluster, which are restored as docs/PRODUCTION.md describes.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use drover_tests::{RedisCluster, RedisServer, TIME_LIMIT};
use queue_core::{
    ConsumerId, LeaseRequest, Millis, NewMessage, QueueName, Queues, Redis, Settlement, settings::DeclaredSettings,
};
use serde_json::value::to_raw_value;
use tempfile::{TempDir, tempdir};
use tokio::time::sleep;

use crate::completed;

fn connect_queues(url: &str) -> Queues {
    Queues::new(Redis::new(url, TIME_LIMIT).unwrap(), DeclaredSettings::default())
}

fn queue_names(count: usize) -> Vec<QueueName> {
    (0..count).map(|n| format!("q{n}").parse().unwrap()).collect()
}

async fn post_messages(all: &Queues, name: &QueueName, numbers: impl IntoIterator<Item = u32>) {
    let messages = numbers.into_iter().map(|n| NewMessage::new(to_raw_value(&n).unwrap())).collect();
    all.queue(name).enqueue(messages).await.unwrap();
}

/// Leases up to `max` messages, completes the first `completes` messages, and returns the numbers of all leased messages.
async fn lease(all: &Queues, name: &QueueName, max: usize, completes: usize) -> Vec<u32> {
    let visibility_timeout = Some(Millis::from_secs(1));
    let request = LeaseRequest { visibility_timeout, ..LeaseRequest::new(ConsumerId::issue(), max) };
    let deliveries = all.queue(name).lease(&request).await.unwrap().deliveries;
    let complete = |lease| Settlement { lease, action: completed() };
    let leases = deliveries.iter().map(|delivery| delivery.lease.clone());
    let settlements: Vec<_> = leases.take(completes).map(complete).collect();
    all.queue(name).settle(&settlements).await.unwrap();
    deliveries.iter().map(|delivery| delivery.message.data.get().parse().unwrap()).collect()
}

/// Posts four messages to each queue: afterwards message 1 is completed, message 2 is leased, and messages 3 and 4 are waiting.
async fn fill_queues(all: &Queues, names: &[QueueName]) {
    for name in names {
        post_messages(all, name, 1..=4).await;
        assert_eq!(lease(all, name, 2, 1).await, [1, 2]);
    }
}

/// Posts message 5 to each queue, and completes one of the other messages. The backup was made before this post and this completion, so the
/// backup contains neither of them.
async fn change_after_backup(all: &Queues, names: &[QueueName]) {
    for name in names {
        post_messages(all, name, [5]).await;
        assert_eq!(lease(all, name, 1, 1).await.len(), 1);
    }
}

/// Asserts that all queues have the state of the backup, and that their unfinished messages can be leased again.
async fn assert_restored(all: &Queues, names: &[QueueName]) {
    assert_eq!(all.names().await.unwrap().into_iter().collect::<BTreeSet<_>>(), names.iter().cloned().collect());
    for name in names {
        let queue = all.queue(name);
        assert_eq!(queue.audit().await.unwrap().findings, [], "the audit finds nothing");
        assert_eq!(queue.status().await.unwrap().unwrap().totals.enqueued, 4);
        let (mut leased, start) = (BTreeSet::new(), Instant::now());
        while leased.len() < 3 {
            assert!(start.elapsed() < TIME_LIMIT, "only the messages {leased:?} are leased again");
            for number in lease(all, name, 10, 10).await {
                assert!(leased.insert(number), "message {number} is leased twice");
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(leased, BTreeSet::from([2, 3, 4]));
        assert_eq!(queue.status().await.unwrap().unwrap().counts.completed, 4);
        assert_eq!(queue.audit().await.unwrap().findings, [], "the audit finds nothing");
    }
}

#[tokio::test]
async fn backup_of_one_server_is_restored_as_documented() {
    let (folder, names) = (tempdir().unwrap(), queue_names(2));
    let snapshot_file = folder.path().join("drover.rdb");
    let old = RedisServer::start_durable();
    fill_queues(&connect_queues(&old.url()), &names).await;
    old.back_up(&snapshot_file);
    change_after_backup(&connect_queues(&old.url()), &names).await;
    drop(old);

    let mut new = RedisServer::start_durable();
    new.restore(&snapshot_file);
    new.kill();
    new.restart();
    assert_restored(&connect_queues(&new.url()), &names).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_of_a_cluster_is_restored_as_documented() {
    let (folder, names) = (tempdir().unwrap(), queue_names(12));
    let old = RedisCluster::start(3, 0);
    let [first, last] = [0, 2].map(|index| RedisCluster::id_of(&old.servers[index]));
    old.move_slots(&first, &last, 1_000);
    fill_queues(&connect_queues(&old.url()), &names).await;
    let backups = back_up_primaries(&old, &folder);
    change_after_backup(&connect_queues(&old.url()), &names).await;
    drop(old);

    let mut new = RedisCluster::start_servers(backups.len());
    for (server, backup) in new.servers.iter().zip(&backups) {
        let slot_ranges: Vec<String> = backup.slots.iter().map(|(first, last)| format!("{first} {last}")).collect();
        assert_eq!(server.command(&format!("CLUSTER ADDSLOTSRANGE {}", slot_ranges.join(" "))), "+OK");
    }
    for server in &new.servers[1..] {
        new.meet(server);
    }
    new.wait_until_met();
    new.wait_until_all_slots_are_served();
    for (server, backup) in new.servers.iter_mut().zip(&backups) {
        server.restore(&backup.file);
        server.kill();
        server.restart();
    }
    new.wait_until_all_slots_are_served();
    assert_restored(&connect_queues(&new.url()), &names).await;
}

/// The backup of a primary, and the first and the last slot of each of its ranges.
struct Backup {
    file: PathBuf,
    slots: Vec<(u16, u16)>,
}

fn back_up_primaries(cluster: &RedisCluster, folder: &TempDir) -> Vec<Backup> {
    let back_up_server = |(index, server): (usize, &RedisServer)| {
        let snapshot_file = folder.path().join(format!("drover-{index}.rdb"));
        server.back_up(&snapshot_file);
        Backup { file: snapshot_file, slots: slot_ranges_of(server) }
    };
    cluster.servers.iter().enumerate().map(back_up_server).collect()
}

/// Returns the ranges of slots that a server reports as its own.
fn slot_ranges_of(server: &RedisServer) -> Vec<(u16, u16)> {
    let nodes = server.command("CLUSTER NODES");
    let own_line = nodes.lines().find(|line| line.contains("myself")).unwrap();
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().unwrap(), last.parse().unwrap())
    };
    own_line.split_whitespace().skip(8).map(range).collect()
}
