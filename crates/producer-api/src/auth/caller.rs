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
    /// The API key, which the guard has stored in the request's extensions. `Caller::key` is `None` if no API keys are
    /// configured, because then no guard checks requests.
    key: Option<Arc<ApiKey>>,
    peer: Option<Arc<Peer>>,
}

impl Caller {
    pub(crate) fn from_extensions(extensions: &Extensions) -> Self {
        Self { key: extensions.get().cloned(), peer: extensions.get().cloned() }
    }

    /// Returns the patterns of the queues that the client may read.
    pub(crate) fn readable_queues(&self) -> Vec<QueuePattern> {
        match &self.key {
            None => vec![QueuePattern::all()],
            Some(key) if key.scopes.has(Scope::Read) => key.queues.clone(),
            Some(_) => Vec::new(),
        }
    }

    /// The client's key, with its scopes and queues; `None` if the API has no keys.
    pub(crate) fn api_key(&self) -> Option<&ApiKey> {
        self.key.as_deref()
    }

    pub(crate) fn key(&self) -> Option<Client> {
        self.key.as_ref().map(|key| Client::Key(key.id.clone()))
    }

    /// Returns the client as the owner of its API key, or by its address if the API has no keys.
    pub(crate) fn client(&self) -> Option<Client> {
        self.key().or_else(|| self.peer.as_ref().map(|peer| Client::Address(peer.network())))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::from_extensions(&parts.extensions))
    }
}
