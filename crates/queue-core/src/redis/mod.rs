//! Everything that uses the Redis client: connections, keys, scripts, replies, and the checks of the server.

mod call_error;
pub(crate) mod calls;
mod connection;
mod counted_socket;
pub(crate) mod keys;
pub(crate) mod protected_mode;
mod quota;
pub(crate) mod reply;
mod retry;
pub(crate) mod scripts;
mod server;
mod shared_connection;

pub(crate) use call_error::CallError;
pub use connection::Redis;
pub(crate) use keys::{Keys, suffix};
pub use retry::Retry;
pub use server::Danger;
