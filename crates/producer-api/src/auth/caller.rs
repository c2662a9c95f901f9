use std::{convert::Infallible, sync::Arc};

use axum::{extract::FromRequestParts, http::request::Parts};
use queue_core::QueueName;
use service::config::{ApiKey, Scope};

/// Who makes a request: a key, or, where there are none, anybody.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Anybody,
    Key(Arc<ApiKey>),
}

impl Caller {
    /// Whether it may read this queue.
    pub(crate) fn may_read(&self, queue: &QueueName) -> bool {
        match self {
            Self::Anybody => true,
            Self::Key(key) => key.allows(Scope::Read, queue.as_str()),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    /// The layer that refuses requests without a key leaves it here; where it is not, there are no keys.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Arc<ApiKey>>().map_or(Self::Anybody, |key| Self::Key(Arc::clone(key))))
    }
}
