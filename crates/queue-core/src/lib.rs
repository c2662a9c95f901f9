#![doc = include_str!("../README.md")]

mod agenda;
mod bell;
mod calls;
mod connection;
mod error;
mod event;
mod event_id;
mod id;
mod index;
mod janitor;
pub mod json;
mod keys;
mod lane;
mod listener;
mod listeners;
mod message;
mod name;
mod new_message;
mod number;
mod protected_mode;
mod queue;
mod queue_pattern;
mod queues;
mod quota;
mod receivers;
mod record;
mod reply;
mod retry;
mod scripts;
mod server;
mod settings;
mod stretch;
mod subscriber;
mod tailer;
mod time;
mod token;
mod wire;

pub use agenda::Agenda;
pub use bell::Bell;

pub use connection::Redis;
pub use error::{Error, Result, TooMuch};
pub use event::Event;
pub use event_id::EventId;
pub use id::{MessageId, MessageRef};
pub use janitor::Janitor;
#[doc(hidden)]
pub use janitor::Pace;
pub use listener::{Ended, Events, Heard, Listener};
pub use listeners::Listeners;
pub use message::{Failure, Message, State};
pub use name::{ConsumerId, IdempotencyKey, MessageName, QueueName, SignalKey};
pub use new_message::{Delay, Headers, NewMessage};
pub use number::{MaxAttempts, MostMessages, Priority, Whole};
pub use queue::{
    Access, Action, Changed, Cursor, Delivery, Enqueued, Extended, Idempotency, LeaseRequest, Leased, Queue,
    QueueStatus, Reported, Settled, Settlement, Signal, Stay, Totals,
};
pub use queue_pattern::QueuePattern;
pub use queues::Queues;
pub use quota::{Quota, Use};
pub use receivers::{NoRoom, Receivers, Room};
pub use retry::Retry;
#[doc(hidden)]
pub use scripts::inject_clock;
pub use server::Danger;
pub use settings::{
    Backoff, DeclaredSettings, Fault, InvalidSetting, LeaseTime, RateLimit, Settings, SettingsPatch, Span,
};
pub use subscriber::Subscriber;
pub use time::{InvalidDuration, Millis, Timestamp};
pub use token::LeaseToken;

// For the other modules; outside nobody needs to name these.
use calls::Calls;
use name::{InvalidName, OwnId};
use settings::{RunTime, ShownSettings};

/// One call carries at most so many messages either way.
pub const MAX_MESSAGES_PER_CALL: usize = 1_000;
/// One call carries at most so many bytes of payload either way.
pub const MAX_BYTES_PER_CALL: usize = 4 * 1_024 * 1_024;
/// The largest result that is kept: 64 KiB. A message with a larger one fails as `result_too_large`.
pub const MAX_RESULT_BYTES: usize = 64 * 1_024;
/// The largest error that is kept, as JSON: 8 KiB. The text of a larger one is cut.
const MAX_ERROR_BYTES: usize = 8 * 1_024;
/// How long a lease lasts beyond the time-out of its run. A consumer that ends a run at its time-out has that long to say so;
/// then the attempt has failed, and another one may begin.
pub const RUN_TIMEOUT_GRACE: Millis = Millis::new(500);
