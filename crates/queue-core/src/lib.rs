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
pub use events::{EventFeed, EventId, EventListener};
pub use json::JsonObject;
pub use maintenance::Maintenance;
pub use message::{
    ConsumerId, Failure, Headers, IdempotencyKey, LeaseToken, Message, MessageName, MessageRef, NewMessage, QueueName,
    SignalKey, State,
};
pub use number::{MostMessages, Priority};
pub use queue::{
    Action, Changed, Delivery, Enqueued, Extended, LeaseRequest, Leased, Queue, QueueStatus, Queues, Settlement, Signal,
};
pub use redis::{Danger, Redis, Retry};
pub use settings::{DeclaredSettings, QueuePattern, RateLimit, Settings, SettingsPatch, Span};
pub use time::{Millis, Timestamp};
pub use wakeup::{LongPoll, ResponseMemory, Subscriber, WakeNotifier, WakeTimers};
