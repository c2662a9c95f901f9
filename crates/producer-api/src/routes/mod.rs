//! One file a resource.

mod messages;
mod queues;

use axum::{
    Router,
    extract::{FromRequestParts, Query, RawPathParams},
    http::request::Parts,
    routing::{get, post},
};
use queue_core::{MessageRef, Millis, QueueName};
use serde::Deserialize;
use service::Problem;

use crate::{App, refusal};

/// The routes of `/v1`.
pub(crate) fn v1() -> Router<App> {
    Router::new()
        .route("/queues", get(queues::list))
        .route("/queues/{queue}", get(queues::show))
        .route("/queues/{queue}/messages", post(messages::create))
        .route("/queues/{queue}/messages/batch", post(messages::create_batch))
        .route("/queues/{queue}/messages/{id}", get(messages::show))
}

/// A parameter of the path; an invalid encoding is as good as an empty text.
async fn path_parameter(parts: &mut Parts, name: &str) -> String {
    let parameters = RawPathParams::from_request_parts(parts, &()).await;
    let value = parameters.ok().and_then(|all| all.iter().find(|(key, _)| *key == name).map(|(_, v)| v.to_owned()));
    value.unwrap_or_default()
}

/// `{queue}` of the path.
pub(crate) struct QueuePath(pub(crate) QueueName);

impl<S: Sync> FromRequestParts<S> for QueuePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_parameter(parts, "queue").await.parse().map(Self).map_err(refusal::invalid_queue_name)
    }
}

/// `{id}` of the path.
pub(crate) struct IdPath(pub(crate) MessageRef);

impl<S: Sync> FromRequestParts<S> for IdPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_parameter(parts, "id").await.parse().map(Self).map_err(refusal::invalid_id)
    }
}

/// `?wait=20s`
pub(crate) struct Wait(pub(crate) Option<Millis>);

impl FromRequestParts<App> for Wait {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parameters {
            wait: Option<Millis>,
        }
        let Query(Parameters { wait }) =
            Query::from_request_parts(parts, app).await.map_err(|error| refusal::invalid_query(error.body_text()))?;
        let longest = app.shared.max_wait;
        if wait.is_some_and(|wait| wait > longest) {
            return Err(refusal::invalid_query(format_args!(
                "wait must be at most {longest}; ask again when it is over"
            )));
        }
        Ok(Self(wait))
    }
}

/// No query at all: a parameter that nobody reads is a mistake.
pub(crate) struct NoQuery;

impl<S: Sync> FromRequestParts<S> for NoQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match parts.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(refusal::invalid_query("this endpoint takes no query parameters")),
        }
    }
}
