//! The handlers that a configuration can name, and the routes that a configuration defines.

mod exec;
mod http;
mod log;
mod output;

pub(crate) use self::exec::all_programs_ended;
use self::{exec::Exec, http::Http, log::Log};
use crate::{
    config,
    routing::{Endpoint, IntoEndpoint, RouteEntry, RouteTable, Routes},
};

impl Routes {
    /// Creates the routes that a configuration describes.
    pub fn from_config(routes: &[config::Route]) -> Self {
        let mut route_table = RouteTable::default();
        for (index, route) in routes.iter().enumerate() {
            match from_config(&route.handler) {
                Ok(endpoint) => route_table.add(RouteEntry {
                    pattern: route.queue.clone(),
                    handlers: vec![(route.name.clone(), endpoint)],
                    concurrency: route.concurrency,
                    weight: route.weight,
                }),
                Err(error) => route_table.mistakes.push(format!("worker.routes[{index}].handler: {error}")),
            }
        }
        route_table.into()
    }
}

/// Creates the handler that a configuration describes, or returns the mistake in the configuration.
fn from_config(handler: &config::HandlerConfig) -> Result<Endpoint, String> {
    match handler {
        config::HandlerConfig::Log { result } => Ok(Log::new(result)?.into_endpoint(&())),
        config::HandlerConfig::Exec(exec) => Ok(Exec::new(exec)?.into_endpoint(&())),
        config::HandlerConfig::Http(http) => Ok(Http::new(http)?.into_endpoint(&())),
    }
}
