//! Tests of the checks of a Redis server: dangers that are reported, and servers that refuse every connection.

use std::{io::Write, net::TcpListener, thread, time::Duration};

use drover_tests::RedisServer;
use queue_core::{Danger, Error, Queues, Redis, settings::DeclaredSettings};

use crate::{TIME_LIMIT, numbered_message, queue_name};

fn connect_redis(server: &RedisServer) -> Redis {
    Redis::new(&server.url(), Redis::DEFAULT_TIME_LIMIT).unwrap()
}

#[tokio::test]
async fn persistence_is_an_append_only_file_or_snapshots() {
    assert_eq!(connect_redis(&RedisServer::start_durable()).examine().await.unwrap(), []);
    let server = RedisServer::start();
    assert_eq!(connect_redis(&server).examine().await.unwrap(), [Danger::NotPersistent]);
    server.command("CONFIG SET save \"3600 1\"");
    assert_eq!(connect_redis(&server).examine().await.unwrap(), []);
}

#[tokio::test]
async fn every_eviction_policy_but_noeviction_is_a_danger() {
    let server = RedisServer::start_durable();
    for policy in ["allkeys-lru", "volatile-ttl"] {
        server.command(&format!("CONFIG SET maxmemory-policy {policy}"));
        assert_eq!(connect_redis(&server).examine().await.unwrap(), [Danger::Evicts { policy: policy.into() }]);
    }
}

#[tokio::test]
async fn setting_that_an_acl_hides_is_reported_as_unknown() {
    let server = RedisServer::start();
    server.command("ACL SETUSER default -config");
    let redis = connect_redis(&server);
    assert_eq!(redis.examine().await.unwrap(), [Danger::PersistenceUnknown]);
    server.command("ACL SETUSER default -info");
    assert_eq!(redis.examine().await.unwrap(), [Danger::Unexamined]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_not_examined_and_the_wait_is_bounded() {
    let mut server = RedisServer::start();
    let redis = connect_redis(&server);
    server.suspend();
    let start = std::time::Instant::now();
    assert!(matches!(redis.examine().await, Err(Error::Unavailable(_))));
    assert!(start.elapsed() < Redis::DEFAULT_TIME_LIMIT * 2, "{:?}", start.elapsed());
    server.kill();
    assert!(matches!(redis.examine().await, Err(Error::Unavailable(_))));
}

/// A server that refuses every connection as Redis in protected mode does: the server sends an error text, reads nothing, and
/// closes the connection. If `after` is not zero, every second connection gets the error text after that time. The other
/// connections get no error text, as if the connection had been reset before the text arrived.
fn start_protected_server(after: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for (n, mut client) in listener.incoming().map_while(Result::ok).enumerate() {
            if n % 2 == 1 {
                thread::sleep(after);
            }
            if n % 2 == 1 || after.is_zero() {
                // The server closes the connection without having read the bytes of the client, so the client may see a
                // reset of the connection before the error text.
                let _ = client.write_all(b"-DENIED Redis is running in protected mode because no password is set\r\n");
            }
        }
    });
    url
}

#[tokio::test]
async fn redis_in_protected_mode_is_reported_with_instructions() {
    // The client may see the reset of the connection before the error text of the server; on a busy machine the error
    // text comes late.
    for (times, after) in [(20, Duration::ZERO), (3, Duration::from_millis(300))] {
        let redis = Redis::new(&start_protected_server(after), TIME_LIMIT).unwrap();
        for _ in 0..times {
            let Err(Error::Unavailable(reason)) = redis.ping().await else {
                panic!("the server refuses the connection")
            };
            assert!(reason.contains("is in protected mode") && reason.contains("requirepass"), "{reason}");
        }
    }
}

#[tokio::test]
async fn missing_right_is_reported_with_instructions_before_and_inside_a_script() {
    let server = RedisServer::start();
    let _replica = RedisServer::start_replica_of(&server);
    server.command("ACL SETUSER drover on >hunter2 ~drover:* &* +@all");
    let url = server.url().replace("redis://", "redis://drover:hunter2@");
    let redis = Redis::new(&url, TIME_LIMIT).unwrap().require_replicas(1);
    let queue = Queues::new(redis, DeclaredSettings::default()).queue(&queue_name());
    queue.enqueue(vec![numbered_message(0)]).await.unwrap();
    // If the Redis user has no right to HSET, Redis refuses HSET inside the script. Without the right to a key or to
    // EVALSHA, Redis refuses the script before it starts. Without the right to WAIT, Redis refuses WAIT after the script
    // has run.
    for (without, with) in
        [("-hset", "+hset"), ("resetkeys", "~drover:*"), ("-evalsha", "+evalsha"), ("-wait", "+wait")]
    {
        server.command(&format!("ACL SETUSER drover {without}"));
        let Err(Error::NotPermitted(text)) = queue.enqueue(vec![numbered_message(1)]).await else {
            panic!("{without}")
        };
        assert!(text.contains("docs/PRODUCTION.md") && text.contains("ACL LOG"), "{text}");
        server.command(&format!("ACL SETUSER drover {with}"));
        queue.enqueue(vec![numbered_message(2)]).await.unwrap();
    }
}
