use drover_tests::RedisServer;
use queue_core::{Danger, Error, Redis};

fn redis(server: &RedisServer) -> Redis {
    Redis::new(&server.url(), Redis::DEFAULT_TIME_LIMIT).unwrap()
}

#[tokio::test]
async fn persistence_is_an_append_only_file_or_snapshots() {
    assert_eq!(redis(&RedisServer::start_durable()).examine().await.unwrap(), []);
    let server = RedisServer::start();
    assert_eq!(redis(&server).examine().await.unwrap(), [Danger::NotPersistent]);
    server.command("CONFIG SET save \"3600 1\"");
    assert_eq!(redis(&server).examine().await.unwrap(), []);
}

#[tokio::test]
async fn every_policy_but_noeviction_is_a_danger() {
    let server = RedisServer::start_durable();
    for policy in ["allkeys-lru", "volatile-ttl"] {
        server.command(&format!("CONFIG SET maxmemory-policy {policy}"));
        assert_eq!(redis(&server).examine().await.unwrap(), [Danger::Evicts { policy: policy.into() }]);
    }
}

#[tokio::test]
async fn what_a_server_does_not_permit_is_unknown() {
    let server = RedisServer::start();
    server.command("ACL SETUSER default -config");
    let redis = redis(&server);
    assert_eq!(redis.examine().await.unwrap(), [Danger::PersistenceUnknown]);
    server.command("ACL SETUSER default -info");
    assert_eq!(redis.examine().await.unwrap(), [Danger::Unexamined]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_examined_and_the_wait_is_bounded() {
    let mut server = RedisServer::start();
    let redis = redis(&server);
    server.freeze();
    let start = std::time::Instant::now();
    assert!(matches!(redis.examine().await, Err(Error::Unavailable(_))));
    assert!(start.elapsed() < Redis::DEFAULT_TIME_LIMIT * 2, "{:?}", start.elapsed());
    server.kill();
    assert!(matches!(redis.examine().await, Err(Error::Unavailable(_))));
}
