//! The client of a request, as handlers see it.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{Extensions, request::Parts},
};
use service::{
    Peer,
    config::{ApiKey, QueuePattern, Scope},
};

use crate::budget::Client;

/// Who makes a request: a key, or, where there are none, anybody.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Anybody,
    Key(Arc<ApiKey>),
}

impl Caller {
    /// Patterns of the queues that it may read.
    pub(crate) fn readable(&self) -> Vec<QueuePattern> {
        match self {
            Self::Anybody => vec![QueuePattern::all()],
            Self::Key(key) if key.scopes.has(Scope::Read) => key.queues.clone(),
            Self::Key(_) => Vec::new(),
        }
    }

    /// Its key, if there are keys.
    pub(crate) fn key(&self) -> Option<Client> {
        match self {
            Self::Anybody => None,
            Self::Key(key) => Some(Client::Key(key.id.clone())),
        }
    }

    /// The layer that refuses requests without a key leaves it in the extensions; where it is not, there are no keys.
    fn of(extensions: &Extensions) -> Self {
        extensions.get::<Arc<ApiKey>>().map_or(Self::Anybody, |key| Self::Key(Arc::clone(key)))
    }
}

/// The key of a request, or, where there are no keys, the address that it comes from.
pub(crate) fn client(extensions: &Extensions) -> Option<Client> {
    let address = || extensions.get::<Arc<Peer>>().map(|peer| Client::Address(peer.network()));
    Caller::of(extensions).key().or_else(address)
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
