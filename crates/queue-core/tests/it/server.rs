use std::{
    io::Write,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use drover_tests::{PATIENCE, RedisServer};
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

/// A server that refuses everybody as Redis in protected mode does: it says why, reads nothing, and closes.
fn protected() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            // The server does not read what the client has written, so the close may reach it as a reset before the reason does.
            let _ = client.write_all(b"-DENIED Redis is running in protected mode because no password is set\r\n");
        }
    });
    url
}

#[tokio::test]
async fn a_redis_in_protected_mode_is_told_with_what_to_do() {
    let redis = Redis::new(&protected(), Redis::DEFAULT_TIME_LIMIT).unwrap();
    // Whether the reset or the reason comes first differs from time to time.
    let (start, mut told) = (Instant::now(), 0);
    while told < 20 {
        let asked = Instant::now();
        let Err(Error::Unavailable(reason)) = redis.ping().await else { panic!("it does not answer") };
        // The reason is waited for no longer than this, which is too short now and then on a busy machine.
        if asked.elapsed() < Duration::from_millis(100) {
            assert!(reason.contains("is in protected mode") && reason.contains("requirepass"), "{reason}");
            told += 1;
        }
        assert!(start.elapsed() < PATIENCE, "told {told} times");
    }
}
