//! Wake-ups: how an idle process learns, by a notification or by a timer, that it should look at a queue.

pub(crate) mod long_poll;
pub(crate) mod notifier;
pub(crate) mod subscriber;
pub(crate) mod timers;
