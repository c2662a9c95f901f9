//! The endpoints of the API with the scope that a key needs for each. The guard and the `OpenAPI` description use the scopes of
//! the endpoints.

use std::collections::HashMap;

use axum::http::Method;
use service::{Code, config::Scope};

/// The scope that a request to a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequiredScope {
    /// The route needs no scope and no key: health, metrics (which contain the names of queues), and the description of the
    /// API.
    Nothing,
    /// The route needs a key, whatever the scopes of the key: the description of the key itself.
    AnyKey,
    /// The route needs this scope on the queue that the path names.
    OnQueue(Scope),
    /// The route needs this scope on at least one queue; the response contains only queues on which the key has the scope.
    OnAnyQueue(Scope),
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) tag: &'static str,
    pub(crate) needs: RequiredScope,
    /// The error codes that are specific to the endpoint.
    pub(crate) refusals: Vec<Code>,
}

/// All endpoints, by the path template of the router.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(HashMap<String, Vec<Endpoint>>);

impl Endpoints {
    /// Returns the endpoint of a request; a `HEAD` request has the endpoint of `GET`.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<&Endpoint> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.endpoints_of_path(path).iter().find(|endpoint| endpoint.method == *method)
    }

    /// Returns whether the endpoints of a path need no API key.
    pub(crate) fn needs_no_key(&self, path: &str) -> bool {
        self.endpoints_of_path(path).first().is_some_and(|endpoint| endpoint.needs == RequiredScope::Nothing)
    }

    /// Returns the methods of a path, in the form of the header `Allow`.
    pub(crate) fn allowed_methods(&self, path: &str) -> String {
        let methods_of = |endpoint: &Endpoint| match endpoint.method.as_str() {
            "GET" => "GET,HEAD".to_owned(),
            method => method.to_owned(),
        };
        self.endpoints_of_path(path).iter().map(methods_of).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn add(&mut self, path: &str, endpoint: Endpoint) {
        self.0.entry(path.to_owned()).or_default().push(endpoint);
    }

    fn endpoints_of_path(&self, path: &str) -> &[Endpoint] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Endpoint)> {
        self.0.iter().flat_map(|(path, endpoints)| endpoints.iter().map(move |endpoint| (path.as_str(), endpoint)))
    }
}
