//! Extractors of the path parameters. Each extractor has the queue that the path names.

use std::{fmt::Display, str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};
use queue_core::{MessageRef, Queue, QueueName, ScheduleName, SignalKey};
use service::{Code, Problem};

use crate::{app::App, errors::Result};

pub(crate) struct QueuePath {
    pub(crate) app: App,
    pub(crate) queue: Arc<Queue>,
}

pub(crate) struct MessagePath {
    pub(crate) app: App,
    pub(crate) queue: Arc<Queue>,
    pub(crate) id: MessageRef,
}

pub(crate) struct SignalPath {
    pub(crate) app: App,
    pub(crate) queue: Arc<Queue>,
    pub(crate) key: SignalKey,
}

pub(crate) struct SchedulePath {
    pub(crate) app: App,
    pub(crate) queue: Arc<Queue>,
    pub(crate) name: ScheduleName,
}

impl FromRequestParts<App> for QueuePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let name: QueueName = parse_parameter(parts, "queue", Code::InvalidQueueName).await?;
        Ok(Self { app: app.clone(), queue: app.queues.queue(&name) })
    }
}

impl FromRequestParts<App> for MessagePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let QueuePath { app, queue } = QueuePath::from_request_parts(parts, app).await?;
        Ok(Self { app, queue, id: parse_parameter(parts, "id", Code::InvalidId).await? })
    }
}

impl FromRequestParts<App> for SignalPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let QueuePath { app, queue } = QueuePath::from_request_parts(parts, app).await?;
        Ok(Self { app, queue, key: parse_parameter(parts, "key", Code::InvalidSignalKey).await? })
    }
}

impl FromRequestParts<App> for SchedulePath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self> {
        let QueuePath { app, queue } = QueuePath::from_request_parts(parts, app).await?;
        Ok(Self { app, queue, name: parse_parameter(parts, "name", Code::InvalidScheduleName).await? })
    }
}

/// Parses the path parameter `name`; `invalid` is the error code for an invalid parameter.
async fn parse_parameter<T: FromStr<Err: Display>>(parts: &mut Parts, name: &str, invalid: Code) -> Result<T> {
    const NOT_UTF_8: &str = "percent-encoded bytes in the path must be UTF-8";
    let text = match RawPathParams::from_request_parts(parts, &()).await {
        Ok(all) => all.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default(),
        // The rejection names the first parameter whose encoding is wrong. If the encoding of a queue name is wrong, an
        // empty text is parsed instead of the name, so that the error says which names are valid.
        Err(rejection) => match rejection.body_text() {
            text if text.contains("`id`") => return Err(Problem::new(Code::InvalidId, NOT_UTF_8)),
            text if text.contains("`key`") => return Err(Problem::new(Code::InvalidSignalKey, NOT_UTF_8)),
            text if text.contains("`name`") => return Err(Problem::new(Code::InvalidScheduleName, NOT_UTF_8)),
            _ => String::new(),
        },
    };
    text.parse().map_err(|error: T::Err| Problem::new(invalid, error.to_string()))
}
