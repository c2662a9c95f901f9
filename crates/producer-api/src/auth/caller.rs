//! The client of a request: its API key, or its address if the API has no keys.

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

#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The key, which the guard has stored in the request's extensions. `None` without configured keys, because there is no
    /// guard then.
    key: Option<Arc<ApiKey>>,
    peer: Option<Arc<Peer>>,
}

impl Caller {
    pub(crate) fn of(extensions: &Extensions) -> Self {
        Self { key: extensions.get().cloned(), peer: extensions.get().cloned() }
    }

    /// The patterns of the queues that the client may read.
    pub(crate) fn readable(&self) -> Vec<QueuePattern> {
        match &self.key {
            None => vec![QueuePattern::all()],
            Some(key) if key.scopes.has(Scope::Read) => key.queues.clone(),
            Some(_) => Vec::new(),
        }
    }

    pub(crate) fn key(&self) -> Option<Client> {
        self.key.as_ref().map(|key| Client::Key(key.id.clone()))
    }

    /// The client's key, or its address if the API has no keys.
    pub(crate) fn client(&self) -> Option<Client> {
        self.key().or_else(|| self.peer.as_ref().map(|peer| Client::Address(peer.network())))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.extensions))
    }
}
