//! Tests of a Redis Cluster: every operation on every server, slots that move, and fail-overs under load.

use std::time::{Duration, Instant};

use drover_tests::RedisCluster;
use queue_core::{
    Error, Millis, Queues, Redis, State,
    settings::{DeclaredSettings, RateLimit},
    wakeup::Subscriber,
};
use tokio::time::timeout;

use crate::{
    completion,
    load::{Load, RECOVERY_TIME},
    numbered_message, numbers, wait_millis,
};

const TIME_LIMIT: Duration = Duration::from_secs(20);

fn connect_to_cluster(cluster: &RedisCluster) -> Redis {
    Redis::new(&cluster.url(), Redis::DEFAULT_TIME_LIMIT).unwrap()
}

#[tokio::test]
async fn every_operation_works_on_every_server_of_a_cluster() {
    let cluster = RedisCluster::start(3, 0);
    let redis = connect_to_cluster(&cluster);
    redis.ping().await.unwrap();
    redis.examine().await.unwrap();
    let queues = Queues::new(redis.clone(), DeclaredSettings::default());
    let subscriber = Subscriber::for_prefixes(redis.clone(), [String::new()]);
    let _listening = tokio::spawn({
        let subscriber = subscriber.clone();
        async move { subscriber.keep_connected().await }
    });
    subscriber.connection().wait_for(|is_connected| *is_connected).await.unwrap();
    assert_eq!(queues.worker_count().await.unwrap(), 1);
    let names = Load::names("q", 30);
    let mut owners = std::collections::BTreeSet::new();
    for name in &names {
        owners.insert(cluster.owner_of(cluster.slot_of(&format!("drover:{{{name}}}:meta")), 0));
        let queue = queues.queue(name);
        let enqueue_outcomes = queue.enqueue(vec![numbered_message(1), numbered_message(2)]).await.unwrap();
        assert_eq!(enqueue_outcomes.len(), 2);
        let queue_core::Enqueued::Created(first) = &enqueue_outcomes[0] else { panic!("{enqueue_outcomes:?}") };
        let wait_for_result = queue.read_when_finished(&first.id, Millis::from_secs(20), &subscriber);
        let complete_message = async {
            wait_millis(20).await;
            let lease_reply =
                queue.lease(&queue_core::LeaseRequest::new(queue_core::ConsumerId::issue(), 1)).await.unwrap();
            assert_eq!(numbers(&lease_reply), [1]);
            let lease = lease_reply.deliveries[0].lease.clone();
            queue.settle(&[queue_core::Settlement { lease, action: completion() }]).await.unwrap()
        };
        let (found, settled) =
            timeout(TIME_LIMIT, async { tokio::join!(wait_for_result, complete_message) }).await.unwrap();
        assert_eq!((found.unwrap().unwrap().state, settled), (State::Completed, vec![Some(State::Completed)]));
        assert_eq!(queue.audit().await.unwrap().findings, []);
    }
    assert_eq!(owners.len(), 3, "the queues are on all servers");
    let mut sorted_names = names.clone();
    sorted_names.sort();
    assert_eq!(queues.names().await.unwrap(), sorted_names);
    // The index is rebuilt from the keys of all servers.
    for server in &cluster.servers {
        server.command("DEL drover:queues");
    }
    queues.restore_all_names().await.unwrap();
    assert_eq!(queues.names().await.unwrap(), sorted_names);
    for n in 0..20 {
        let limit = RateLimit { max: 5.try_into().unwrap(), duration: Millis::from_secs(60).try_into().unwrap() };
        assert!(redis.use_quota(&format!("key{n}"), limit).await.unwrap().is_granted);
    }
    for name in &names {
        assert!(queues.queue(name).delete().await.unwrap());
    }
    assert_eq!(queues.names().await.unwrap(), []);
    for server in &cluster.servers {
        let keys = server.command("KEYS drover:{*");
        assert_eq!(keys, "*0", "a deleted queue leaves nothing behind");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_or_stored_twice_while_slots_move_to_another_server() {
    let mut cluster = RedisCluster::start(3, 0);
    let load = Load::start(&connect_to_cluster(&cluster), &Load::names("q", 8));
    load.wait_until_recovered(Instant::now()).await;
    // A fourth server joins the cluster, and gets slots of all other servers.
    cluster.add_server();
    cluster.meet(&cluster.servers[3]);
    cluster.wait_until_met();
    // A new server of a cluster refuses all keys until it knows that the cluster is complete.
    cluster.wait_until_all_slots_are_served();
    tokio::task::block_in_place(|| cluster.move_slots("all", &RedisCluster::id_of(&cluster.servers[3]), 4000));
    let recovery_time = load.wait_until_recovered(Instant::now()).await;
    assert!(recovery_time < RECOVERY_TIME, "{recovery_time:?}");
    let summary = load.finish().await;
    assert_eq!((summary.lost.len(), summary.repeated, summary.in_doubt), (0, 0, 0), "{summary:?}");
}

/// Asserts that no confirmed message is lost when `end_primary` ends a primary under load.
async fn no_confirmed_message_is_lost(end_primary: impl AsyncFn(&mut RedisCluster, usize)) {
    let mut cluster = RedisCluster::start(3, 1);
    let load = Load::start(&connect_to_cluster(&cluster).require_replicas(1), &Load::names("q", 8));
    load.wait_until_recovered(Instant::now()).await;
    end_primary(&mut cluster, 0).await;
    let recovery_time = load.wait_until_recovered(Instant::now()).await;
    assert!(recovery_time < RECOVERY_TIME, "{recovery_time:?}");
    let summary = load.finish().await;
    assert_eq!(summary.lost, [], "{summary:?}");
}

/// Waits until another server has the slots of the server `index`, as a third server sees it.
async fn wait_until_primary_is_replaced(cluster: &RedisCluster, index: usize) {
    let slot = u16::try_from(index * 16_384 / 3).unwrap();
    let start = Instant::now();
    while cluster.owner_of(slot, (index + 1) % 3).is_none_or(|owner| owner == index) {
        assert!(start.elapsed() < TIME_LIMIT, "no replica has replaced the server");
        wait_millis(10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_confirmed_message_is_lost_when_a_primary_is_killed() {
    no_confirmed_message_is_lost(async |cluster, index| {
        cluster.servers[index].kill();
        wait_until_primary_is_replaced(cluster, index).await;
        // The killed server must become a replica of the new primary, because the new primary has no other replica that
        // confirms posts.
        cluster.servers[index].restart();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_confirmed_message_is_lost_when_a_primary_hangs_and_comes_back() {
    no_confirmed_message_is_lost(async |cluster, index| {
        cluster.servers[index].suspend();
        wait_until_primary_is_replaced(cluster, index).await;
        cluster.servers[index].resume();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_confirmed_message_is_lost_in_a_planned_fail_over() {
    no_confirmed_message_is_lost(async |cluster, index| {
        let replica = &cluster.servers[index + 3];
        assert_eq!(replica.command("CLUSTER FAILOVER"), "+OK");
        wait_until_primary_is_replaced(cluster, index).await;
    })
    .await;
}

#[tokio::test]
async fn queue_whose_server_is_away_is_unavailable_and_other_queues_work() {
    let mut cluster = RedisCluster::start(3, 0);
    let queues = Queues::new(connect_to_cluster(&cluster), DeclaredSettings::default());
    for name in Load::names("q", 12) {
        queues.queue(&name).enqueue(vec![numbered_message(1)]).await.unwrap();
    }
    cluster.servers[1].kill();
    let mut unavailable_count = 0;
    for name in Load::names("q", 12) {
        let owner = cluster.owner_of(cluster.slot_of(&format!("drover:{{{name}}}:meta")), 0);
        let enqueue_outcomes = queues.queue(&name).enqueue(vec![numbered_message(2)]).await;
        match enqueue_outcomes {
            Ok(_) => assert!(matches!(owner, Some(0 | 2)), "{owner:?}"),
            Err(Error::Unavailable(_)) => {
                assert!(!matches!(owner, Some(0 | 2)), "{name}: {owner:?}");
                unavailable_count += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!((1..12).contains(&unavailable_count), "{unavailable_count}");
}
