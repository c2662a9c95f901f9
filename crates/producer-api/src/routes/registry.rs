//! The registration of routes. Each route is registered once, together with what a key needs for it and the codes of its own
//! refusals; the guard and the description read them from here, and nothing else is served.

use std::collections::HashMap;

use axum::{Router, http::Method, routing::MethodRouter};
use service::{Code, config::Scope};
use tower_http::timeout::TimeoutLayer;
use utoipa::openapi::{OpenApi, path::PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::App;

/// What a request to a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// No key: it tells nothing of any queue.
    Nothing,
    /// This scope on the queue that the path names.
    OnQueue(Scope),
    /// This scope on any queue; the answer is about those on which the key has it.
    OnSome(Scope),
}

/// For how long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// For as long as any request, and the longest wait.
    OfRequest,
    /// For as long as there is to do: each of its steps has a limit of its own.
    OfSteps,
}

/// A method of a path.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) needs: Needs,
    /// The codes of its own refusals, beside those of all requests of its kind.
    pub(crate) refusals: &'static [Code],
}

/// All endpoints, by path as the router has it.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(HashMap<String, Vec<Endpoint>>);

impl Endpoints {
    /// The endpoint of a request. `GET` stands for `HEAD` too.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<&Endpoint> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.at(path).iter().find(|endpoint| endpoint.method == *method)
    }

    /// Whether a path needs no key.
    pub(crate) fn is_open(&self, path: &str) -> bool {
        self.at(path).first().is_some_and(|endpoint| endpoint.needs == Needs::Nothing)
    }

    /// The methods that a path knows, as the header `Allow` has them.
    pub(crate) fn methods(&self, path: &str) -> String {
        let word = |endpoint: &Endpoint| match endpoint.method.as_str() {
            "GET" => "GET,HEAD".to_owned(),
            method => method.to_owned(),
        };
        self.at(path).iter().map(word).collect::<Vec<_>>().join(",")
    }

    fn at(&self, path: &str) -> &[Endpoint] {
        self.0.get(path).map_or(&[], Vec::as_slice)
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Endpoint)> {
        self.0.iter().flat_map(|(path, endpoints)| endpoints.iter().map(move |endpoint| (path.as_str(), endpoint)))
    }
}

/// Routes with their endpoints.
pub(crate) struct Routes {
    router: OpenApiRouter<App>,
    endpoints: Endpoints,
    time_limit: TimeoutLayer,
}

impl Routes {
    pub(crate) fn new(time_limit: TimeoutLayer) -> Self {
        Self { router: OpenApiRouter::default(), endpoints: Endpoints::default(), time_limit }
    }

    /// Adds a described handler with what it needs and its own refusals.
    pub(crate) fn add(
        mut self,
        needs: Needs,
        limit: Limit,
        refusals: &'static [Code],
        (schemas, paths, mut handler): UtoipaMethodRouter<App>,
    ) -> Self {
        for (path, item) in &paths.paths {
            let endpoints = self.endpoints.0.entry(path.clone()).or_default();
            endpoints.extend(methods(item).map(|method| Endpoint { method, needs, refusals }));
        }
        if limit == Limit::OfRequest {
            handler = handler.route_layer(self.time_limit);
        }
        self.router = self.router.routes((schemas, paths, handler));
        self
    }

    /// Adds a part of a page, which is no part of the interface and needs no key.
    pub(crate) fn add_part(mut self, path: &str, handler: MethodRouter<App>) -> Self {
        let endpoint = Endpoint { method: Method::GET, needs: Needs::Nothing, refusals: &[] };
        self.endpoints.0.insert(path.to_owned(), vec![endpoint]);
        self.router = self.router.route(path, handler);
        self
    }

    /// The router, what it says of itself, and its endpoints.
    pub(crate) fn split(self) -> (Router<App>, OpenApi, Endpoints) {
        let (router, description) = self.router.split_for_parts();
        (router, description, self.endpoints)
    }
}

fn methods(item: &PathItem) -> impl Iterator<Item = Method> {
    let operations = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    operations.into_iter().filter(|(_, operation)| operation.is_some()).map(|(method, _)| method)
}
