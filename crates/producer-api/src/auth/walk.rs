//! Every route of the real router is asked, with every method.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{Method, Request, StatusCode, header},
    response::Response,
    routing::get,
};
use queue_core::{Listeners, Millis, Queues, Quota, Receivers, Redis, Subscriber};
use service::config::{ApiKey, KeyId, QueuePattern, Scope};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Service;

use super::{Keyring, endpoint, protect, secret::Secret};
use crate::{App, Shared, budget::Budget, metrics::Measure, openapi::agreement::described_routes, router::router};

const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// A key that may do everything everywhere.
fn key() -> (String, Keyring) {
    let id: KeyId = "ops".parse().unwrap();
    let secret = Secret::draw(&id).unwrap();
    let scopes = Scope::ALL.to_vec().try_into().unwrap();
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
    App {
        shared: Arc::new(Shared {
            queues: Queues::new(redis, [].into()),
            receivers: Receivers::new(subscriber.clone(), CancellationToken::new()),
            listeners: Listeners::new(subscriber.clone(), CancellationToken::new()),
            listening: Budget::new(10, 10),
            waiting: Budget::new(10, 10),
            body_memory: Budget::new(4_096, 4_096),
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

/// The paths of a router, from its description for debugging: there is no other list.
fn paths(router: &Router) -> BTreeSet<String> {
    let text = format!("{router:?}");
    let text = text.split("fallback_router").next().unwrap();
    let quoted = text.split('"').skip(1).step_by(2).filter(|word| word.starts_with('/') && !word.contains("__private"));
    quoted.map(str::to_owned).collect()
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
async fn every_route_says_what_it_needs_and_answers_nobody_without_a_key() {
    let health = || {
        ["/livez", "/readyz", "/metrics"].into_iter().fold(Router::new(), |all, path| all.route(path, get(|| async {})))
    };
    let (key, keyring) = key();
    // Without keys every route answers, listed or not.
    let (open, guarded) = (
        router(app(Keyring::default()), health(), &[], Measure::default()),
        router(app(keyring), health(), &[], Measure::default()),
    );
    let paths = paths(&open);
    assert!(paths.len() > 12 && paths.contains("/v1/queues/{queue}/messages"), "the routes are found: {paths:?}");
    let described = described_routes();
    let mut routes = 0;
    for path in &paths {
        for method in METHODS {
            let answer = ask(&open, &method, path, None).await;
            let is_there = answer.status() != StatusCode::METHOD_NOT_ALLOWED;
            routes += usize::from(is_there);
            let is_listed = endpoint::needed(&method, path).is_some();
            assert_eq!(is_there, is_listed, "say in endpoint.rs what {method} {path} needs, and only what there is");
            // The parts of a page are no part of the interface, and HEAD goes where GET goes.
            if method != Method::HEAD && path != "/docs/{file}" {
                let is_described = described.contains(&(method.to_string(), path.clone()));
                assert_eq!(
                    is_there, is_described,
                    "describe {method} {path} beside its handler, and only what there is"
                );
            }
            let without = ask(&guarded, &method, path, None).await.status();
            assert_eq!(without == StatusCode::UNAUTHORIZED, !endpoint::is_open(path), "{method} {path}: {without}");
            let with_key = ask(&guarded, &method, path, Some(&key)).await;
            assert_eq!(with_key.status(), answer.status(), "{method} {path}");
            let allowed = |answer: &Response| {
                let allow = answer.headers().get(header::ALLOW).map(|allow| allow.to_str().unwrap().to_owned());
                allow.map(|allow| allow.split(',').map(str::to_owned).collect::<BTreeSet<_>>())
            };
            assert_eq!(allowed(&with_key), allowed(&answer), "{method} {path}");
        }
    }
    assert!(routes > 20, "{routes}");
    let nowhere: Vec<_> = described.iter().filter(|(_, path)| !paths.contains(path)).collect();
    assert!(nowhere.is_empty(), "{nowhere:?}");
    assert_eq!(ask(&guarded, &Method::GET, "/nowhere", None).await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&guarded, &Method::GET, "/v1/nowhere", Some(&key)).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_route_that_nobody_has_listed_is_refused_to_every_key() {
    let (key, keyring) = key();
    let router = Router::new().route("/v1/queues/{queue}/secrets", get(|| async { "told" }));
    let router = protect(router, &Arc::new(keyring), Quota::new(no_redis()));
    let path = "/v1/queues/{queue}/secrets";
    assert_eq!(ask(&router, &Method::GET, path, Some(&key)).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(ask(&router, &Method::GET, path, None).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn without_keys_there_is_no_guard() {
    let router = Router::new().route("/v1/queues/{queue}/secrets", get(|| async { "told" }));
    let router = protect(router, &Arc::default(), Quota::new(no_redis()));
    assert_eq!(ask(&router, &Method::GET, "/v1/queues/q/secrets", None).await.status(), StatusCode::OK);
}
