//! The routes, one file for each resource, and what they read from paths and queries.

mod about;
mod changes;
mod events;
mod leases;
mod list;
mod messages;
mod ndjson;
mod queues;
mod registry;
mod signals;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use queue_core::{MessageRef, QueueName, SignalKey};
use service::Problem;
use tower_http::timeout::TimeoutLayer;

use crate::refusal;

use registry::Routes;
pub(crate) use registry::{Endpoint, Endpoints, Needs};

/// All routes. A request to most may take so long.
pub(crate) fn all(time_limit: TimeoutLayer) -> Routes {
    let resources = [
        queues::register,
        events::register,
        leases::register,
        list::register,
        messages::register,
        changes::register,
        signals::register,
        about::register,
    ];
    resources.into_iter().fold(Routes::new(time_limit), |routes, register| register(routes))
}

/// A parameter of the path, or nothing where the path has none of that name.
async fn path_parameter(parts: &mut Parts, name: &str) -> Result<String, Problem> {
    match RawPathParams::from_request_parts(parts, &()).await {
        Ok(all) => Ok(all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()),
        // It names the parameter whose encoding is wrong, whichever is asked for. A queue's name is told what it may be.
        Err(rejection) => match rejection.body_text() {
            text if text.contains("`id`") => Err(refusal::invalid_id(NOT_UTF_8)),
            text if text.contains("`key`") => Err(refusal::invalid_signal_key(NOT_UTF_8)),
            _ => Ok(String::new()),
        },
    }
}

const NOT_UTF_8: &str = "what is percent-encoded in the path must be UTF-8";

/// `{queue}` of the path.
pub(crate) struct QueuePath(pub(crate) QueueName);

impl<S: Sync> FromRequestParts<S> for QueuePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_parameter(parts, "queue").await?.parse().map(Self).map_err(refusal::invalid_queue_name)
    }
}

/// `{id}` of the path.
pub(crate) struct IdPath(pub(crate) MessageRef);

impl<S: Sync> FromRequestParts<S> for IdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let id = path_parameter(parts, "id").await?;
        id.parse().map(Self).map_err(refusal::invalid_id)
    }
}

/// `{key}` of the path.
pub(crate) struct KeyPath(pub(crate) SignalKey);

impl<S: Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_parameter(parts, "key").await?.parse().map(Self).map_err(refusal::invalid_signal_key)
    }
}
