//! Events of queues: what they say, the log that has them, and the feed by which clients follow it.

mod batch;
mod event;
mod feed;
mod id;
mod listener;
mod reader;

pub(crate) use batch::{EventBatch, LogEntry};
pub(crate) use event::Event;
pub use feed::EventFeed;
pub use id::EventId;
pub use listener::EventListener;
