//! The registration of routes. Each route is registered once, together with the scope that a key needs for it and its
//! specific error codes; no other route is served.

use axum::{Router, http::Method, routing::MethodRouter};
use service::Code;
use tower_http::timeout::TimeoutLayer;
use utoipa::openapi::{OpenApi, path::PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use crate::{
    app::App,
    auth::endpoint::{Endpoint, Endpoints, RequiredScope},
};

pub(crate) struct Routes {
    router: OpenApiRouter<App>,
    endpoints: Endpoints,
    time_limit: TimeoutLayer,
    tag: &'static str,
}

impl Routes {
    /// Creates an empty registration of routes. A request to a route that is added with `add` may take as long as `time_limit`.
    pub(crate) fn new(time_limit: TimeoutLayer) -> Self {
        Self { router: OpenApiRouter::default(), endpoints: Endpoints::default(), time_limit, tag: "" }
    }

    /// Sets the `OpenAPI` tag of the routes that are added next.
    pub(super) fn tag(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    /// Adds a handler with its `OpenAPI` description, the required scope and the specific error codes.
    pub(super) fn add(self, needs: RequiredScope, refusals: &[Code], route: UtoipaMethodRouter<App>) -> Self {
        let (schemas, paths, handler) = route;
        let handler = handler.route_layer(self.time_limit);
        self.add_unlimited(needs, refusals, (schemas, paths, handler))
    }

    /// Adds a handler like `add`, but without a time limit for the whole request: each step of the request has its own time
    /// limit.
    pub(super) fn add_unlimited(
        mut self,
        needs: RequiredScope,
        refusals: &[Code],
        route: UtoipaMethodRouter<App>,
    ) -> Self {
        for (path, item) in &route.1.paths {
            for method in methods_of(item) {
                let endpoint = Endpoint { method, tag: self.tag, needs, refusals: refusals.to_vec() };
                self.endpoints.add(path, endpoint);
            }
        }
        self.router = self.router.routes(route);
        self
    }

    /// Adds a static file, which has no `OpenAPI` description and needs no key.
    pub(super) fn add_file(mut self, path: &str, handler: MethodRouter<App>) -> Self {
        let endpoint =
            Endpoint { method: Method::GET, tag: self.tag, needs: RequiredScope::Nothing, refusals: Vec::new() };
        self.endpoints.add(path, endpoint);
        self.router = self.router.route(path, handler);
        self
    }

    pub(crate) fn into_parts(self) -> (Router<App>, OpenApi, Endpoints) {
        let (router, description) = self.router.split_for_parts();
        (router, description, self.endpoints)
    }
}

fn methods_of(item: &PathItem) -> impl Iterator<Item = Method> {
    let operations = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    operations.into_iter().filter(|(_, operation)| operation.is_some()).map(|(method, _)| method)
}
