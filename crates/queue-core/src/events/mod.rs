//! The events of messages: their content, their ids, and the batches of them that are read from the log of a queue.

pub(crate) mod batch;
pub(crate) mod event;
pub(crate) mod id;

pub(crate) use batch::{EventBatch, LogEntry};
pub(crate) use event::Event;
pub use id::EventId;
