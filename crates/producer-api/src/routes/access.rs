//! Test of all registered routes, with every method and every scope: each route needs the scope that it was registered with.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
    response::Response,
    routing::get,
};
use queue_core::{Queues, Redis, settings::DeclaredSettings, wakeup::Subscriber};
use service::{
    Config,
    config::{ApiKey, KeyId, QueuePattern, Scope},
};
use tokio_util::sync::CancellationToken;
use tower::Service;
use tower_http::timeout::TimeoutLayer;

use crate::{
    app::App,
    auth::{
        endpoint::{Endpoints, RequiredScope},
        guard::{Guard, protect},
        keyring::{Keyring, Secret},
    },
    router::router,
    routes,
};

const ALL_METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// Returns an API key with these scopes for all queues, and a keyring with only this key.
fn make_key(scopes: Vec<Scope>) -> (String, Keyring) {
    let id: KeyId = "ops".parse().unwrap();
    let secret = Secret::generate(&id).unwrap();
    let scopes = scopes.try_into().unwrap();
    let (queues, rate_limit, expires_at) = (vec![QueuePattern::all()], None, None);
    let key = ApiKey { id, hash: secret.hash(), scopes, queues, rate_limit, expires_at };
    (secret.expose().to_owned(), Keyring::new(vec![key]))
}

/// Returns a client of a Redis that does not run: no server listens on the port, so each call is refused at once.
fn unreachable_redis() -> Redis {
    Redis::new("redis://127.0.0.1:1", Duration::from_millis(100)).unwrap()
}

/// Returns a guard that checks requests with the keys of `keyring`, and has an empty list of endpoints.
fn guard(keyring: Keyring) -> Guard {
    Guard { keyring: keyring.into(), redis: unreachable_redis(), endpoints: Arc::default() }
}

fn make_app(keyring: Keyring) -> App {
    let redis = unreachable_redis();
    let subscriber = Subscriber::for_all_queues(redis.clone());
    let Config { api, dashboard, .. } = <Config>::load_with(None, []).unwrap();
    let queues = Queues::new(redis, DeclaredSettings::default());
    App::new(queues, subscriber, keyring, (api, dashboard), CancellationToken::new())
}

fn endpoints() -> Endpoints {
    let limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(1));
    routes::all(limit).into_parts().2
}

async fn send_request(router: &Router, method: &Method, path: &str, key: Option<&str>) -> Response {
    let path = path.replace(['{', '}'], "");
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn every_route_needs_an_api_key_or_is_registered_as_open() {
    let (key, keyring) = make_key(Scope::ALL.to_vec());
    let endpoints = endpoints();
    assert!(endpoints.all().count() > 20);
    // The router `open_router` has no keys, so it answers every request without a key. The router `guarded_router` has one
    // key, with all scopes.
    let (open_router, guarded_router) = (router(&make_app(Keyring::default())), router(&make_app(keyring)));
    let paths: BTreeSet<&str> = endpoints.all().map(|(path, _)| path).collect();
    for path in paths {
        for method in ALL_METHODS {
            let endpoint = endpoints.find(&method, path);
            let response = send_request(&open_router, &method, path, None).await;
            assert_eq!(response.status() == StatusCode::METHOD_NOT_ALLOWED, endpoint.is_none(), "{method} {path}");
            let status_without_key = send_request(&guarded_router, &method, path, None).await.status();
            assert_eq!(
                status_without_key == StatusCode::UNAUTHORIZED,
                !endpoints.needs_no_key(path),
                "{method} {path}: {status_without_key}"
            );
            let answer_with_key = send_request(&guarded_router, &method, path, Some(&key)).await;
            assert_eq!(answer_with_key.status(), response.status(), "{method} {path}");
            let allow_header = |response: &Response| response.headers().get(header::ALLOW).cloned();
            assert_eq!(allow_header(&answer_with_key), allow_header(&response), "{method} {path}");
        }
    }
    assert_eq!(send_request(&guarded_router, &Method::GET, "/nowhere", None).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(
        send_request(&guarded_router, &Method::GET, "/v1/nowhere", Some(&key)).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn each_scope_of_an_api_key_allows_its_own_routes_and_no_other_routes() {
    let endpoints = endpoints();
    for scope in Scope::ALL {
        let (key, keyring) = make_key(vec![scope]);
        let router = router(&make_app(keyring));
        for (path, endpoint) in endpoints.all() {
            let is_allowed = match endpoint.needs {
                RequiredScope::Nothing | RequiredScope::AnyKey => true,
                RequiredScope::OnQueue(needed) | RequiredScope::OnAnyQueue(needed) => needed == scope,
            };
            assert_eq!(path.contains("{queue}"), matches!(endpoint.needs, RequiredScope::OnQueue(_)), "{path}");
            let status = send_request(&router, &endpoint.method, path, Some(&key)).await.status();
            assert_eq!(status != StatusCode::FORBIDDEN, is_allowed, "{} {path} {scope}", endpoint.method);
        }
    }
}

#[tokio::test]
async fn guard_refuses_a_route_without_a_registered_scope_for_every_key() {
    let (key, keyring) = make_key(Scope::ALL.to_vec());
    let path = "/v1/queues/{queue}/secrets";
    let router = || Router::new().route(path, get(|| async { "secret" }));
    let guarded_router = protect(router(), guard(keyring));
    assert_eq!(
        send_request(&guarded_router, &Method::GET, path, Some(&key)).await.status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(send_request(&guarded_router, &Method::GET, path, None).await.status(), StatusCode::UNAUTHORIZED);
    // If no keys are configured, no guard checks the request.
    let open_router = protect(router(), guard(Keyring::default()));
    assert_eq!(send_request(&open_router, &Method::GET, path, None).await.status(), StatusCode::OK);
}
