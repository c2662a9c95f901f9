//! Everything that uses the Redis client: topology, connections, keys, scripts, replies, and the checks of the servers.

mod call_error;
pub(crate) mod calls;
mod client;
pub(crate) mod closed_by_server;
mod cluster;
mod endpoint;
pub(crate) mod keys;
mod node;
mod options;
mod questions;
mod quota;
pub(crate) mod reply;
mod retry;
pub(crate) mod scripts;
mod send_error;
mod sentinel;
mod server;
mod shared_connection;
mod socket;
mod tls;
mod topology;
mod url;

pub(crate) use call_error::CallError;
pub use client::Redis;
pub(crate) use keys::{Keys, Slot, suffix};
pub(crate) use node::Node;
pub use options::RedisOptions;
pub use retry::Retry;
pub use server::Danger;
