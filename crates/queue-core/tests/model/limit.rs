//! A test of the rate limit with a long window, in which several leases share an entry of the rate limit's log. The model of
//! the random tests has no shared entries: it has one entry for each lease.

use std::time::Duration;

use deadpool_redis::redis as raw_redis;
use drover_tests::RedisServer;
use queue_core::{ConsumerId, LeaseRequest, NewMessage, Queues, Redis};
use serde_json::value::to_raw_value;

use crate::queue_and_model::queue_name;

const MAX_LEASES: usize = 40;
/// The length of the window in ms. With a window of ten seconds, leases within 10 ms of each other share an entry of
/// the rate limit's log.
const WINDOW_MS: u64 = 10_000;

#[test]
fn no_window_exceeds_the_rate_limit_and_a_saturated_queue_reaches_the_limit() {
    queue_core::Redis::inject_clock();
    let server = RedisServer::start();
    let mut clock_connection = raw_redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = format!(r#"{{"rate_limit":{{"max":{MAX_LEASES},"duration":{WINDOW_MS}}}}}"#);
    let declared_settings = [(queue_name(), serde_json::from_str(&settings).unwrap())].into_iter().collect();
    let redis = Redis::new(&server.url(), Duration::from_secs(20)).unwrap();
    let queue = Queues::new(redis, declared_settings).queue(&queue_name());
    let request = LeaseRequest::new(ConsumerId::issue(), 3);

    let mut now = 1_795_424_400_000_u64;
    let mut set_clock = |now: u64| {
        raw_redis::cmd("SET").arg("drover:{q}:clock").arg(now * 1_000).exec(&mut clock_connection).unwrap();
    };
    set_clock(now);
    let messages = (0..600).map(|n| NewMessage::new(to_raw_value(&n).unwrap())).collect();
    runtime.block_on(queue.enqueue(messages)).unwrap();
    let mut lease_times: Vec<u64> = vec![];
    for step in 0..2_000_u64 {
        // The intervals between lease calls differ. Some intervals are shorter than the 10 ms for which leases share an
        // entry of the rate limit's log.
        now += 1 + step * step % 47;
        set_clock(now);
        let lease_reply = runtime.block_on(queue.lease(&request)).unwrap();
        lease_times.extend(lease_reply.deliveries.iter().map(|_| now));
        if lease_reply.deliveries.is_empty() {
            let opens_in = lease_reply.call_again_in.expect("the answer says when the window opens");
            assert!(opens_in > Duration::ZERO && opens_in <= Duration::from_millis(WINDOW_MS), "{opens_in:?}");
        }
    }
    for window in lease_times.windows(MAX_LEASES + 1) {
        assert!(
            window[MAX_LEASES] - window[0] >= WINDOW_MS,
            "{} leases within {} ms",
            MAX_LEASES + 1,
            window[MAX_LEASES] - window[0]
        );
    }
    let window_count = (now - lease_times[0]) / WINDOW_MS;
    let reached_percent = lease_times.len() as u64 * 100 / ((window_count + 1) * MAX_LEASES as u64);
    assert!(window_count >= 3 && reached_percent >= 90, "{reached_percent} % of the limit over {window_count} windows");
}
