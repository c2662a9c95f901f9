//! The handlers that a configuration can name.

mod log;

pub(crate) use log::Log;
