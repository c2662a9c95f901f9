//! Wake-ups: notifications and timers tell an idle process when to check a queue for work.

mod long_poll;
mod notifier;
pub(crate) mod subscriber;
mod timers;

pub use long_poll::{LongPoll, ResponseMemory};
pub use notifier::WakeNotifier;
pub use subscriber::Subscriber;
pub use timers::WakeTimers;
