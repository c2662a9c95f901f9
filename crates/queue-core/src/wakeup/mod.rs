//! Wake-ups: notifications and timers tell an idle process when to check a queue for work.

mod notifier;
pub(crate) mod subscriber;
mod timers;

pub use notifier::WakeNotifier;
pub use subscriber::Subscriber;
pub use timers::WakeTimers;
