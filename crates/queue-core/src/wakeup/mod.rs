//! Wake-ups: notifications and timers tell an idle process when to check a queue for work.

mod finish_waits;
mod notifier;
mod schedule_changes;
pub(crate) mod subscriber;
mod subscription;
mod timers;

pub use notifier::WakeNotifier;
pub(crate) use schedule_changes::{OutdatedSchedules, ScheduleChanges};
pub use subscriber::Subscriber;
pub use timers::WakeTimers;
