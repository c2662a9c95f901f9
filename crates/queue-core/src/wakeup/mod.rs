//! Wake-ups: how an idle process learns, by a notification or by a timer, that it should look at a queue.

mod long_poll;
mod notifier;
pub(crate) mod subscriber;
mod timers;

pub use long_poll::{LongPoll, ResponseMemory};
pub use notifier::WakeNotifier;
pub use subscriber::Subscriber;
pub use timers::WakeTimers;
