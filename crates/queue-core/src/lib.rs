#![doc = include_str!("../README.md")]

mod calls;
mod connection;
mod error;
mod event;
mod event_batch;
mod event_id;
mod event_reader;
mod feed;
mod id;
mod index;
mod json;
mod keys;
mod lane;
mod listener;
mod long_poll;
mod maintenance;
mod message;
mod name;
mod new_message;
mod notifier;
mod number;
mod protected_mode;
mod queue;
mod queue_pattern;
mod queues;
mod quota;
mod record;
mod reply;
mod retry;
mod scripts;
mod server;
mod settings;
mod subscriber;
mod time;
mod token;
mod wake_timers;
mod wire;

pub use connection::Redis;
pub use error::Error;
pub use event_id::EventId;
pub use feed::EventFeed;
pub use id::MessageRef;
pub use json::JsonObject;
pub use listener::EventListener;
pub use long_poll::{LongPoll, ResponseMemory};
pub use maintenance::Maintenance;
pub use message::{Failure, Message, State};
pub use name::{ConsumerId, IdempotencyKey, MessageName, QueueName, SignalKey};
pub use new_message::{Headers, NewMessage};
pub use notifier::WakeNotifier;
pub use number::{MostMessages, Priority};
pub use queue::{
    Action, Changed, Delivery, Enqueued, Extended, LeaseRequest, Leased, Queue, QueueStatus, Settlement, Signal,
};
pub use queue_pattern::QueuePattern;
pub use queues::Queues;
pub use retry::Retry;
pub use server::Danger;
pub use settings::{DeclaredSettings, RateLimit, Settings, SettingsPatch, Span};
pub use subscriber::Subscriber;
pub use time::{Millis, Timestamp};
pub use token::LeaseToken;
pub use wake_timers::WakeTimers;

// For the other modules; outside nobody needs to name these.
use calls::Calls;
use error::Result;
use event::Event;
use id::MessageId;
use name::OwnId;
use number::MaxAttempts;
use queue::Access;
use settings::{Backoff, RunTime, ShownSettings};
