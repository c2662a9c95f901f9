use std::time::Duration;

use queue_core::{Millis, Receivers, State, Subscriber};
use tokio_util::sync::CancellationToken;

use crate::{World, number, pass};

#[tokio::test]
async fn what_is_leased_for_one_that_went_while_redis_answered_is_released_at_once() {
    let world = World::with_settings(r#"{"visibility_timeout":"1h"}"#);
    let posted = world.post(number(1)).await;
    let receivers = Receivers::new(Subscriber::new(world.queues.redis().clone()), CancellationToken::new());
    // The call is under way when its client goes, and is answered after that.
    world.redis.freeze();
    let wait = receivers.receive(&world.queue, world.request(5), Millis::from_secs(20));
    assert!(tokio::time::timeout(Duration::from_millis(300), wait).await.is_err());
    world.redis.thaw();
    let mut message = world.read(&posted.id).await;
    for _ in 0..200 {
        if (message.state, message.deliveries) == (State::Waiting, 1) {
            break;
        }
        pass(10).await;
        message = world.read(&posted.id).await;
    }
    assert_eq!((message.state, message.deliveries), (State::Waiting, 1), "it was leased, and released");
    assert_eq!((message.attempts_made, message.lapses), (0, 0));
    let next = receivers.receive(&world.queue, world.request(5), Millis::from_secs(5)).await.unwrap();
    assert_eq!(next[0].message.id, posted.id);
    world.assert_clean().await;
}
