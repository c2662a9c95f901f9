//! Everything that knows the Redis client: connections, keys, scripts, replies, and the checks of the server.

pub(crate) mod call_error;
pub(crate) mod calls;
pub(crate) mod connection;
pub(crate) mod keys;
pub(crate) mod protected_mode;
mod quota;
pub(crate) mod reply;
pub(crate) mod retry;
pub(crate) mod scripts;
pub(crate) mod server;
mod shared_connection;
mod wire;
