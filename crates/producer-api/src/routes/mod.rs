//! The routes of the API, with one file for each resource.

mod about;
#[cfg(test)]
mod access;
mod changes;
mod dashboard;
mod events;
mod key;
mod leases;
mod list;
mod messages;
mod ndjson;
mod queues;
mod registry;
mod schedules;
mod signals;

use tower_http::timeout::TimeoutLayer;

use registry::Routes;

/// Returns all routes. A request to most routes may take as long as `time_limit`.
pub(crate) fn all(time_limit: TimeoutLayer) -> Routes {
    let resources = [
        queues::register,
        events::register,
        leases::register,
        list::register,
        messages::register,
        changes::register,
        signals::register,
        schedules::register,
        key::register,
        about::register,
        dashboard::register,
    ];
    resources.into_iter().fold(Routes::new(time_limit), |routes, register| register(routes))
}
