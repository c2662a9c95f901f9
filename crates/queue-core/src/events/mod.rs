//! Events of queues: what they say, the log that has them, and the feed by which clients follow it.

pub(crate) mod batch;
pub(crate) mod event;
pub(crate) mod feed;
pub(crate) mod id;
pub(crate) mod listener;
mod reader;
