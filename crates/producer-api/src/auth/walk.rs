//! Every registered route is asked, with every method and every scope.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
    response::Response,
    routing::get,
};
use prometheus_client::registry::Registry;
use queue_core::{DeclaredSettings, EventFeed, LongPoll, Millis, Queues, Redis, Subscriber};
use service::{
    Examiner,
    config::{ApiKey, KeyId, QueuePattern, Scope},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;
use tower_http::timeout::TimeoutLayer;

use super::{Keyring, protect, secret::Secret};
use crate::{
    App, Shared,
    budget::Budget,
    metrics::Metrics,
    router::router,
    routes::{self, Needs},
};

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// A key for all queues.
fn key(scopes: Vec<Scope>) -> (String, Keyring) {
    let id: KeyId = "ops".parse().unwrap();
    let secret = Secret::draw(&id).unwrap();
    let scopes = scopes.try_into().unwrap();
    let (queues, rate_limit, expires_at) = (vec![QueuePattern::all()], None, None);
    let key = ApiKey { id, hash: secret.hash(), scopes, queues, rate_limit, expires_at };
    (secret.expose().to_owned(), Keyring::new(vec![key]))
}

/// Nobody listens on this port: what asks Redis is refused at once.
fn no_redis() -> Redis {
    Redis::new("redis://127.0.0.1:1", Duration::from_millis(100)).unwrap()
}

fn app(keyring: Keyring) -> App {
    let redis = no_redis();
    let subscriber = Subscriber::of_all_queues(redis.clone());
    let queues = Queues::new(redis.clone(), DeclaredSettings::default());
    App {
        shared: Arc::new(Shared {
            metrics: Metrics::new(Registry::default(), queues.clone(), Budget::new(10, 10)),
            examiner: Examiner::new(redis, subscriber.clone()),
            description: OnceLock::new(),
            queues,
            receivers: LongPoll::new(subscriber.clone(), CancellationToken::new()),
            listeners: EventFeed::new(subscriber.clone(), CancellationToken::new()),
            listening: Budget::new(10, 10),
            waiting: Budget::new(10, 10),
            body_memory: Budget::new(4_096, 4_096),
            answer_memory: Budget::new(4_096, 4_096),
            subscriber,
            keyring: Arc::new(keyring),
            cors_origins: Vec::new(),
            body_limit: 1_024,
            request_timeout: Millis::from_secs(1),
            max_wait: Millis::ZERO,
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        }),
    }
}

async fn ask(router: &Router, method: &Method, path: &str, key: Option<&str>) -> Response {
    let path = path.replace(['{', '}'], "");
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    router.clone().call(request.body(Body::empty()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn every_route_is_open_or_asks_for_its_scope() {
    let (key, keyring) = key(Scope::ALL.to_vec());
    let limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(1));
    let (_, _, endpoints) = routes::all(limit).split();
    assert!(endpoints.all().count() > 20);
    // Without keys every route answers.
    let (open, guarded) = (router(app(Keyring::default())), router(app(keyring)));
    let paths: BTreeSet<&str> = endpoints.all().map(|(path, _)| path).collect();
    for path in paths {
        for method in METHODS {
            let endpoint = endpoints.find(&method, path);
            let answer = ask(&open, &method, path, None).await;
            assert_eq!(answer.status() == StatusCode::METHOD_NOT_ALLOWED, endpoint.is_none(), "{method} {path}");
            let without = ask(&guarded, &method, path, None).await.status();
            assert_eq!(without == StatusCode::UNAUTHORIZED, !endpoints.is_open(path), "{method} {path}: {without}");
            let with_key = ask(&guarded, &method, path, Some(&key)).await;
            assert_eq!(with_key.status(), answer.status(), "{method} {path}");
            let allowed = |answer: &Response| answer.headers().get(header::ALLOW).cloned();
            assert_eq!(allowed(&with_key), allowed(&answer), "{method} {path}");
        }
    }
    assert_eq!(ask(&guarded, &Method::GET, "/nowhere", None).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&guarded, &Method::GET, "/v1/nowhere", Some(&key)).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn each_scope_opens_its_own_routes_and_no_others() {
    let limit = TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(1));
    let (_, _, endpoints) = routes::all(limit).split();
    for scope in Scope::ALL {
        let (key, keyring) = key(vec![scope]);
        let router = router(app(keyring));
        for (path, endpoint) in endpoints.all() {
            let is_allowed = match endpoint.needs {
                Needs::Nothing => true,
                Needs::OnQueue(needed) | Needs::OnSome(needed) => needed == scope,
            };
            assert_eq!(path.contains("{queue}"), matches!(endpoint.needs, Needs::OnQueue(_)), "{path}");
            let status = ask(&router, &endpoint.method, path, Some(&key)).await.status();
            assert_eq!(status != StatusCode::FORBIDDEN, is_allowed, "{} {path} {scope}", endpoint.method);
        }
    }
}

#[tokio::test]
async fn route_that_is_not_registered_is_refused_to_every_key() {
    let (key, keyring) = key(Scope::ALL.to_vec());
    let path = "/v1/queues/{queue}/secrets";
    let router = || Router::new().route(path, get(|| async { "told" }));
    let guarded = protect(router(), &Arc::new(keyring), Arc::default(), no_redis());
    assert_eq!(ask(&guarded, &Method::GET, path, Some(&key)).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&guarded, &Method::GET, path, None).await.status(), StatusCode::UNAUTHORIZED);
    // Without keys there is no guard.
    let open = protect(router(), &Arc::default(), Arc::default(), no_redis());
    assert_eq!(ask(&open, &Method::GET, path, None).await.status(), StatusCode::OK);
}
