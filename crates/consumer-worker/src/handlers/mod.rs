//! The handlers that a configuration can name.

mod log;

use service::config;

use self::log::Log;
use crate::{Endpoint, IntoEndpoint};

/// The handler that a configuration describes.
///
/// # Errors
///
/// What is wrong with the description, as a sentence.
pub(crate) fn from_config(handler: &config::Handler) -> Result<Endpoint, String> {
    match handler {
        config::Handler::Log { result } => Ok(Log::new(result)?.into_endpoint(&())),
    }
}
