//! Events of queues: their content, the log that stores them, and the feed by which clients receive them.

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
