//! Requests: the layer that all of them pass, and the extractors that read their paths, queries, headers and bodies.

pub(crate) mod body;
pub(crate) mod header;
pub(crate) mod idempotency;
pub(crate) mod layer;
pub(crate) mod lines;
mod path;
pub(crate) mod query;
pub(crate) mod trace;

pub(crate) use body::{BatchBody, JsonBody, NoBody, OptionalJsonBody};
pub(crate) use path::{MessagePath, QueuePath, SchedulePath, SignalPath};
pub(crate) use query::{NoQuery, Query};
