//! The rate limit over windows so long that several leases share an entry of its log; the model has an entry for each lease.

use std::time::Duration;

use deadpool_redis::redis as raw_redis;
use drover_tests::RedisServer;
use queue_core::{ConsumerId, LeaseRequest, NewMessage, Queues, Redis};
use serde_json::value::to_raw_value;

use crate::queue_and_model::queue_name;

const MAX: usize = 40;
/// The length of the window in ms. With ten seconds, leases within 10 ms of each other share an entry of the log.
const DURATION: u64 = 10_000;

#[test]
fn no_window_exceeds_the_limit_and_a_saturated_queue_reaches_it() {
    queue_core::Redis::inject_clock();
    let server = RedisServer::start();
    let mut raw = raw_redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let settings = format!(r#"{{"rate_limit":{{"max":{MAX},"duration":{DURATION}}}}}"#);
    let declared = [(queue_name(), serde_json::from_str(&settings).unwrap())].into_iter().collect();
    let redis = Redis::new(&server.url(), Duration::from_secs(20)).unwrap();
    let queue = Queues::new(redis, declared).queue(&queue_name());
    let request = LeaseRequest::new(ConsumerId::issue(), 3);

    let mut now = 1_795_424_400_000_u64;
    let mut set_clock = |now: u64| {
        raw_redis::cmd("SET").arg("drover:{q}:clock").arg(now * 1_000).exec(&mut raw).unwrap();
    };
    set_clock(now);
    let messages = (0..600).map(|n| NewMessage::new(to_raw_value(&n).unwrap())).collect();
    runtime.block_on(queue.enqueue(messages)).unwrap();
    let mut made: Vec<u64> = vec![];
    for step in 0..2_000_u64 {
        // The intervals between lease calls differ; some are shorter than the 10 ms of an entry.
        now += 1 + step * step % 47;
        set_clock(now);
        let leased = runtime.block_on(queue.lease(&request)).unwrap();
        made.extend(leased.deliveries.iter().map(|_| now));
        if leased.deliveries.is_empty() {
            let opens = leased.call_again_in.expect("the answer says when the window opens");
            assert!(opens > Duration::ZERO && opens <= Duration::from_millis(DURATION), "{opens:?}");
        }
    }
    for window in made.windows(MAX + 1) {
        assert!(window[MAX] - window[0] >= DURATION, "{} leases within {} ms", MAX + 1, window[MAX] - window[0]);
    }
    let windows = (now - made[0]) / DURATION;
    let reached = made.len() as u64 * 100 / ((windows + 1) * MAX as u64);
    assert!(windows >= 3 && reached >= 90, "{reached} % of the limit over {windows} windows");
}
