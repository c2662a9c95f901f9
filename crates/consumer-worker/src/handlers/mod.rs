//! The handlers that a configuration can name.

mod exec;
mod http;
mod log;
mod output;

pub(crate) use self::exec::all_ended as all_programs_ended;
use self::{exec::Exec, http::Http, log::Log};
use crate::{Endpoint, IntoEndpoint, config};

/// The handler that a configuration describes.
///
/// # Errors
///
/// What is wrong with the description, as a sentence.
pub(crate) fn from_config(handler: &config::Handler) -> Result<Endpoint, String> {
    match handler {
        config::Handler::Log { result } => Ok(Log::new(result)?.into_endpoint(&())),
        config::Handler::Exec(exec) => Ok(Exec::new(exec)?.into_endpoint(&())),
        config::Handler::Http(http) => Ok(Http::new(http)?.into_endpoint(&())),
    }
}
