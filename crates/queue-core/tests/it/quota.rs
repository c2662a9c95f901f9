//! Quotas: the number of requests that a client may make in a time.

use std::time::{Duration, Instant};

use drover_tests::RedisServer;
use queue_core::{Error, Millis, Redis, settings::RateLimit};
use tokio::time::sleep;

fn connect_redis(redis: &RedisServer) -> Redis {
    Redis::new(&redis.url(), Redis::DEFAULT_TIME_LIMIT).unwrap()
}

fn quota_limit(max: u32, secs: u64) -> RateLimit {
    RateLimit { max: i64::from(max).try_into().unwrap(), duration: Millis::from_secs(secs).try_into().unwrap() }
}

#[tokio::test]
async fn quota_is_shared_by_processes_and_refuses_requests_when_used_up() {
    let redis = RedisServer::start();
    let (one, other) = (connect_redis(&redis), connect_redis(&redis));
    for left in (0..5).rev() {
        let client = if left % 2 == 0 { &one } else { &other };
        let quota_use = client.use_quota("ops", quota_limit(5, 60)).await.unwrap();
        assert_eq!((quota_use.is_granted, quota_use.remaining), (true, left));
        assert!(
            quota_use.more_after > Millis::from_secs(55) && quota_use.more_after <= Millis::from_secs(63),
            "{quota_use:?}"
        );
    }
    for _ in 0..3 {
        let refused_use = one.use_quota("ops", quota_limit(5, 60)).await.unwrap();
        assert_eq!((refused_use.is_granted, refused_use.remaining), (false, 0));
    }
    assert!(one.use_quota("another", quota_limit(5, 60)).await.unwrap().is_granted);
    let number = |command: &str| redis.command(command).trim_matches([':', '\r', '\n']).parse::<u64>().unwrap();
    assert_eq!(number("DBSIZE"), 2, "each quota has one key");
    let ttl = number("PTTL drover:quota:ops:60000");
    assert!((55_000..=63_000).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn no_window_exceeds_the_quota_and_constant_requests_nearly_reach_the_quota() {
    let redis = RedisServer::start();
    let client = connect_redis(&redis);
    let mut grant_times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(4_500) {
        let started_at = Instant::now();
        let quota_use = client.use_quota("ops", quota_limit(40, 1)).await.unwrap();
        if quota_use.is_granted {
            grant_times.push((started_at, Instant::now()));
        } else {
            // `more_after` says when another try may succeed.
            sleep(quota_use.more_after.to_std()).await;
        }
    }
    for window in grant_times.windows(41) {
        let (first, last) = (window[0].0, window[40].1);
        assert!(last - first >= Duration::from_secs(1), "41 within {:?}", last - first);
    }
    // The caller may make 40 requests at once, and each time 40 more after at most 1.05 s.
    assert!(grant_times.len() >= 40 * 4, "{}", grant_times.len());
}

#[tokio::test]
async fn quota_recovers_from_a_clock_step_and_from_an_invalid_value() {
    let mut redis = RedisServer::start();
    let client = connect_redis(&redis);
    redis.command("SET drover:quota:ops:1000 99999999999999,4");
    let quota_use = client.use_quota("ops", quota_limit(4, 1)).await.unwrap();
    assert_eq!((quota_use.is_granted, quota_use.remaining), (false, 0));
    assert!(quota_use.more_after <= Millis::new(1_050), "{quota_use:?}");
    sleep(quota_use.more_after.to_std()).await;
    assert!(client.use_quota("ops", quota_limit(4, 1)).await.unwrap().is_granted);
    redis.command("SET drover:quota:ops:1000 nonsense");
    assert!(client.use_quota("ops", quota_limit(4, 1)).await.unwrap().is_granted);
    redis.command("SCRIPT FLUSH");
    assert!(client.use_quota("ops", quota_limit(4, 1)).await.unwrap().is_granted);
    redis.kill();
    assert!(matches!(client.use_quota("ops", quota_limit(4, 1)).await, Err(Error::Unavailable(_))));
}
