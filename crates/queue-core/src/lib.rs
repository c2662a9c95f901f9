#![doc = include_str!("../README.md")]

mod error;
mod events;
mod json;
mod limits;
mod maintenance;
mod message;
mod number;
mod parse_error;
mod queue;
mod redis;
mod settings;
mod time;
mod wakeup;

pub use error::Error;
pub use events::{feed::EventFeed, id::EventId, listener::EventListener};
pub use json::JsonObject;
pub use maintenance::Maintenance;
pub use message::{
    Message, State,
    failure::Failure,
    id::MessageRef,
    name::{ConsumerId, IdempotencyKey, MessageName, QueueName, SignalKey},
    new::{Headers, NewMessage},
    token::LeaseToken,
};
pub use number::{MostMessages, Priority};
pub use queue::{
    Queue,
    change::Changed,
    enqueue::Enqueued,
    extend::Extended,
    lease::{Delivery, LeaseRequest, Leased},
    pattern::QueuePattern,
    queues::Queues,
    settle::{Action, Settlement},
    signal::Signal,
    status::QueueStatus,
};
pub use redis::{connection::Redis, retry::Retry, server::Danger};
pub use settings::{Settings, declared::DeclaredSettings, patch::SettingsPatch, range::Span, rate_limit::RateLimit};
pub use time::{Millis, Timestamp};
pub use wakeup::{
    long_poll::{LongPoll, ResponseMemory},
    notifier::WakeNotifier,
    subscriber::Subscriber,
    timers::WakeTimers,
};
