//! The handlers that a configuration can name, and the routes that lead to them.

mod exec;
mod http;
mod log;
mod output;

pub(crate) use self::exec::all_ended as all_programs_ended;
use self::{exec::Exec, http::Http, log::Log};
use crate::{
    config,
    routing::{Endpoint, Entry, IntoEndpoint, Routes, Table},
};

impl Routes {
    /// The routes of a configuration.
    pub fn from_config(routes: &[config::Route]) -> Self {
        let mut table = Table::default();
        for (n, route) in routes.iter().enumerate() {
            match from_config(&route.handler) {
                Ok(endpoint) => table.add(Entry {
                    pattern: route.queue.clone(),
                    handlers: vec![(route.name.clone(), endpoint)],
                    concurrency: route.concurrency,
                    weight: route.weight,
                }),
                Err(error) => table.mistakes.push(format!("worker.routes[{n}].handler: {error}")),
            }
        }
        table.into()
    }
}

/// The handler that a configuration describes, or the mistake in it.
fn from_config(handler: &config::Handler) -> Result<Endpoint, String> {
    match handler {
        config::Handler::Log { result } => Ok(Log::new(result)?.into_endpoint(&())),
        config::Handler::Exec(exec) => Ok(Exec::new(exec)?.into_endpoint(&())),
        config::Handler::Http(http) => Ok(Http::new(http)?.into_endpoint(&())),
    }
}
