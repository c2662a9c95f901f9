#![doc = include_str!("../README.md")]

mod error;
mod events;
pub mod feed;
mod json;
mod json_equality;
mod limits;
mod long_poll;
mod maintenance;
mod message;
mod names;
mod number;
mod outage_log;
mod parse_error;
mod queue;
mod range;
mod redis;
pub mod schedule;
pub mod settings;
mod time;
pub mod wakeup;

pub use error::Error;
pub use json::{JsonObject, read_word};
pub use long_poll::{LongPoll, ResponseMemory};
pub use maintenance::Maintenance;
pub use message::{Failure, LeaseToken, Message, MessagePatch, MessageRef, NewMessage, State};
pub use names::{ConsumerId, GroupKey, IdempotencyKey, MessageName, QueueName, ScheduleName, SignalKey};
pub use queue::{
    Action, Changed, DefinedBy, Delivery, Enqueued, Extended, KnownSchedules, LeaseRequest, Leased, ListFilter,
    PutSchedule, Queue, QueueStatus, Queues, Settlement, Signal, Signalled, TickOutcome,
};
pub use range::{DurationIn, NumberIn};
pub use redis::{Danger, Redis, RedisOptions, Retry};
pub use time::{Millis, Timestamp};
