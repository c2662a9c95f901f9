//! Tests of API keys: scopes, queues, rotation, rate limits, and the maximum number of waiting requests of a key.

use std::{collections::BTreeSet, time::Instant};

use drover_tests::{Process, ReservedPort, eventually};
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::{System, number, redis_outage::MAX_REFUSAL_TIME, start_api};

/// An API key that the command `producer-api key` created, and its line for the configuration.
pub(crate) struct IssuedKey {
    pub(crate) key: String,
    line: String,
}

pub(crate) fn issue(arguments: &str) -> IssuedKey {
    let arguments: Vec<&str> = ["key"].into_iter().chain(arguments.split(' ')).collect();
    let mut process = Process::start("producer-api", &arguments, &[]);
    assert!(process.wait().success(), "{:?}", process.log());
    let line_with_start = |start: &str| {
        eventually("the key is printed", || {
            process.log().into_iter().find(|line_with_start| line_with_start.starts_with(start))
        })
    };
    IssuedKey { key: line_with_start("drv_"), line: line_with_start("{ id") }
}

pub(crate) fn config(keys: &[&IssuedKey]) -> String {
    let key_lines: Vec<&str> = keys.iter().map(|issued| issued.line.as_str()).collect();
    format!("[auth]\nkeys = [\n{}\n]\n[log]\nfilter = \"debug\"", key_lines.join("\n"))
}

/// Returns a key with all scopes whose `expires_at` is in the past.
fn expired_key(id: &str) -> IssuedKey {
    issue(&format!("--id {id} --scopes enqueue,read,consume,manage --expires-at 2020-01-01T00:00:00Z"))
}

impl System {
    async fn with_key(&self, method: &str, path: &str, key: Option<&str>) -> Response {
        let mut request = self.http.request(Method::from_bytes(method.as_bytes()).unwrap(), self.url(path));
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        request.send().await.unwrap()
    }

    async fn status(&self, method: &str, path: &str, key: &str) -> u16 {
        self.with_key(method, path, Some(&format!("Bearer {key}"))).await.status().as_u16()
    }

    /// Returns the status of an answer, and the answer's problem document (JSON) without the request id.
    async fn problem(&self, method: &str, path: &str, key: &str) -> (u16, Value) {
        problem(self.with_key(method, path, Some(&format!("Bearer {key}"))).await).await
    }
}

async fn problem(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let mut problem_document: Value = answer.json().await.unwrap();
    assert!(problem_document.as_object_mut().unwrap().remove("request_id").unwrap().is_string());
    (status, problem_document)
}

/// Returns the operations that need a key, each with its method, path and scope, as `/openapi.json` describes them.
fn documented_operations(description: &Value) -> Vec<(String, String, String)> {
    let paths = description["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(template, item)| {
        let path = template.replace("{queue}", "user-1").replace("{id}", "x").replace("{key}", "paid");
        item.as_object().unwrap().iter().filter_map(move |(method, operation)| {
            let scope = operation["security"][0]["key"][0].as_str()?;
            Some((method.to_uppercase(), path.clone(), scope.to_owned()))
        })
    });
    operations.collect()
}

/// Returns the scope that docs/API.md states for an operation.
fn documented_scope(method: &str, path: &str) -> &'static str {
    match method {
        "GET" => "read",
        "POST" if path.ends_with("/messages") || path.ends_with("/batch") => "enqueue",
        _ if path.contains("/signals/") => "enqueue",
        _ if path.contains("/leases") => "consume",
        _ => "manage",
    }
}

const SCOPES: [&str; 4] = ["enqueue", "read", "consume", "manage"];

#[tokio::test]
async fn every_route_accepts_only_a_valid_key_with_its_scope_on_its_queue() {
    let keys_with_one_scope: Vec<IssuedKey> =
        SCOPES.iter().map(|scope| issue(&format!("--id only-{scope} --scopes {scope} --queues user-*"))).collect();
    let all_but_one_scope =
        |missing: &str| SCOPES.iter().filter(|scope| **scope != missing).copied().collect::<Vec<_>>().join(",");
    let keys_without_one_scope: Vec<IssuedKey> = SCOPES
        .iter()
        .map(|scope| issue(&format!("--id no-{scope} --scopes {} --queues *", all_but_one_scope(scope))))
        .collect();
    let key_of_other_queues =
        issue("--id elsewhere --scopes enqueue,read,consume,manage --queues users,user,an-user-*");
    let (expired, unknown) = (expired_key("only-read"), issue("--id only-read --scopes enqueue,read,consume,manage"));
    let mut keys: Vec<&IssuedKey> = keys_with_one_scope.iter().chain(&keys_without_one_scope).collect();
    keys.extend([&key_of_other_queues, &expired]);
    let system = System::start(&config(&keys)).await;
    let unknown_owner = format!("drv_nobody_{}", &unknown.key["drv_only-read_".len()..]);
    let bearer_value = |key: &str| Some(format!("Bearer {key}"));
    let invalid_credentials = [
        None,
        Some(String::new()),
        bearer_value(""),
        bearer_value("x"),
        bearer_value(&unknown_owner),
        bearer_value(&unknown.key),
        bearer_value(&expired.key),
        Some(format!("Basic {}", keys_with_one_scope[1].key)),
        Some(keys_with_one_scope[1].key.clone()),
    ];
    let mut refusals = BTreeSet::new();
    let operations = documented_operations(&system.get("/openapi.json").await);
    assert!(operations.len() > 25, "{operations:?}");
    for (method, path, scope) in &operations {
        assert_eq!(scope, documented_scope(method, path), "{method} {path}");
    }
    let operations = operations.iter().map(|(method, path, scope)| (&**method, &**path, &**scope));
    let other_requests = [("POST", "/v1/queues/user-1/messages?wait=1s", "enqueue"), ("GET", "/v1/nowhere", "")];
    for (method, path, scope) in operations.chain(other_requests) {
        for key in &invalid_credentials {
            let answer = system.with_key(method, path, key.as_deref()).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer realm=\"drover\"", "{method} {path} {key:?}");
            let (status, body) = problem(answer).await;
            assert_eq!((status, &body["code"]), (401, &json!("unauthorized")), "{method} {path} {key:?}");
            refusals.insert(body.to_string());
        }
        let Some(index) = SCOPES.iter().position(|known| *known == scope) else { continue };
        let (status, body) = system.problem(method, path, &keys_without_one_scope[index].key).await;
        assert_eq!(
            (status, &body["code"], &body["scope"]),
            (403, &json!("forbidden"), &json!(scope)),
            "{method} {path}"
        );
        assert!(body["detail"].as_str().unwrap().contains(&format!("the scope {scope}")), "{body}");
        let status = system.status(method, path, &key_of_other_queues.key).await;
        assert_eq!(status, if path == "/v1/queues" { 200 } else { 403 }, "{method} {path} with a key for other queues");
        let status = system.status(method, path, &keys_with_one_scope[index].key).await;
        assert!(![401, 403, 405].contains(&status) && status < 500, "{method} {path} is served: {status}");
    }
    assert_eq!(refusals.len(), 1, "all invalid keys are refused with the same answer: {refusals:?}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(system.with_key("GET", path, None).await.status(), 200, "{path}");
    }
    // The API reports unknown paths and methods only to clients with a valid key.
    assert_eq!(system.status("GET", "/v1/nowhere", &keys_with_one_scope[0].key).await, 404);
    assert_eq!(system.status("PUT", "/v1/queues/user-1", &keys_with_one_scope[0].key).await, 405);
    let log = system.api.log().join("\n");
    assert!(log.contains("key=only-enqueue") || log.contains("key=\"only-enqueue\""), "the log names the key's owner");
    for issued in keys.iter().copied().chain([&unknown]) {
        assert!(!log.contains(&issued.key), "no key is logged");
    }
}

#[tokio::test]
async fn refusal_of_an_api_key_does_not_reveal_whether_a_queue_exists() {
    let (ops, poor) = (issue("--id ops --scopes enqueue,manage"), issue("--id poor --scopes consume --queues mine-*"));
    let system = System::start(&config(&[&ops, &poor])).await;
    assert_eq!(post_with_key(&system, "there", &ops.key).await, 201);
    for (method, path) in
        [("GET", ""), ("GET", "/messages"), ("GET", "/messages/x"), ("POST", "/pause"), ("DELETE", "")]
    {
        let [existing, missing] = ["there", "never"].map(|queue| format!("/v1/queues/{queue}{path}"));
        let (existing, missing) =
            (system.problem(method, &existing, &poor.key).await, system.problem(method, &missing, &poor.key).await);
        assert_eq!(existing.1.to_string().replace("there", "never"), missing.1.to_string(), "{method} {path}");
        assert_eq!((existing.0, missing.0), (403, 403));
    }
    // The API reports an invalid queue name only to a client with a key for all queues.
    assert_eq!(system.status("POST", "/v1/queues/%FF/pause", &poor.key).await, 403);
    assert_eq!(system.status("POST", "/v1/queues/%FF/pause", &ops.key).await, 422);
    assert_eq!(system.status("POST", "/v1/queues/mine-%2Fx/pause", &ops.key).await, 422);
    // A path with a percent-encoded letter names the same queue as the path with the letter itself.
    assert_eq!(system.status("POST", "/v1/queues/%74here/pause", &poor.key).await, 403);
    assert_eq!(system.status("POST", "/v1/queues/%74here/pause", &ops.key).await, 200);
}

#[tokio::test]
async fn list_of_queues_has_only_queues_that_the_api_key_may_read() {
    let keys = [
        issue("--id ops --scopes enqueue,read"),
        issue("--id user --scopes read --queues user-*,mails"),
        issue("--id none --scopes read --queues none"),
    ];
    let system = System::start(&config(&keys.each_ref())).await;
    for queue in ["user-1", "user-2", "mails", "secret"] {
        assert_eq!(post_with_key(&system, queue, &keys[0].key).await, 201);
    }
    let all = ["mails", "secret", "user-1", "user-2"];
    for (issued, expected) in keys.iter().zip([&all[..], &["mails", "user-1", "user-2"], &[]]) {
        let answer = system.with_key("GET", "/v1/queues", Some(&format!("Bearer {}", issued.key))).await;
        let list_of_queues: Value = answer.json().await.unwrap();
        let queue_names: Vec<&str> =
            list_of_queues["queues"].as_array().unwrap().iter().map(|queue| queue["queue"].as_str().unwrap()).collect();
        assert_eq!(queue_names, expected);
    }
}

#[tokio::test]
async fn two_api_keys_of_one_owner_are_valid_during_a_rotation() {
    let (old, new) = (issue("--id ops --scopes enqueue"), issue("--id ops --scopes enqueue"));
    let mut system = System::start(&config(&[&old])).await;
    for (keys, old_is_valid, new_is_valid) in
        [(vec![&old], true, false), (vec![&old, &new], true, true), (vec![&new], false, true)]
    {
        std::fs::write(system.config.path(), config(&keys)).unwrap();
        system.api.terminate();
        system.relaunch_api();
        system.wait_until_ready(&system.base).await;
        for (issued, is_valid) in [(&old, old_is_valid), (&new, new_is_valid)] {
            assert_eq!(post_with_key(&system, "q", &issued.key).await, if is_valid { 201 } else { 401 });
        }
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn api_keys_come_from_a_file_that_only_the_api_reads() {
    let ops = issue("--id ops --scopes enqueue");
    let keys_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(keys_file.path(), format!("keys = [\n{}\n]", ops.line)).unwrap();
    let system = System::start(&format!("[auth]\nkeys_file = \"{}\"", keys_file.path().display())).await;
    system.api.wait_for_log("every request needs an API key");
    assert_eq!(system.with_key("GET", "/v1/queues", None).await.status(), 401);
    assert_eq!(post_with_key(&system, "my-queue", &ops.key).await, 201);
    drop(keys_file);
    let _worker = system.worker().await;
    let mut api = start_api(&ReservedPort::reserve(), &system.redis_url, &system.config);
    assert!(!api.wait().success());
    api.wait_for_log("auth.keys_file");
}

#[tokio::test]
async fn rate_limit_of_an_api_key_applies_over_all_processes_and_its_error_states_when_to_retry() {
    let limited_key = issue("--id batch --scopes enqueue,read --queues q --rate-limit 20/1m");
    let unlimited_key = issue("--id free --scopes enqueue,read");
    let second_key = issue("--id batch --scopes read --queues q --rate-limit 20/1m");
    let system = System::start(&config(&[&limited_key, &unlimited_key, &second_key])).await;
    let port = ReservedPort::reserve();
    let _other_api_process = start_api(&port, &system.redis_url, &system.config);
    let other_api = format!("http://{}", port.address());
    system.wait_until_ready(&other_api).await;
    let list_queues = async |base: &str, key: &str| {
        let request = system.http.get(format!("{base}/v1/queues")).header("authorization", format!("Bearer {key}"));
        request.send().await.unwrap()
    };
    for count in 0..20 {
        // The requests alternate between two API processes and two keys of the same owner. A refused request counts towards the
        // rate limit, too.
        let base_url = if count % 2 == 0 { &system.base } else { &other_api };
        let answer = match count {
            7 => system.with_key("GET", "/v1/queues/other", Some(&format!("Bearer {}", limited_key.key))).await,
            _ => list_queues(base_url, if count % 3 == 0 { &limited_key.key } else { &second_key.key }).await,
        };
        assert_eq!(answer.status(), if count == 7 { 403 } else { 200 }, "{count}");
        assert_eq!(answer.headers()["ratelimit-policy"], "\"key\";q=20;w=60");
        let remaining_quota = answer.headers()["ratelimit"].to_str().unwrap();
        assert!(remaining_quota.starts_with(&format!("\"key\";r={};t=", 19 - count)), "{remaining_quota}");
    }
    for base in [&system.base, &other_api] {
        let answer = list_queues(base, &limited_key.key).await;
        let retry_after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((40..=63).contains(&retry_after), "{retry_after}");
        assert_eq!(answer.headers()["ratelimit"], format!("\"key\";r=0;t={retry_after}"));
        assert_eq!(answer.headers()["ratelimit-policy"], "\"key\";q=20;w=60");
        let (status, body) = problem(answer).await;
        assert_eq!((status, &body["code"]), (429, &json!("rate_limited")));
        let answer = list_queues(base, &unlimited_key.key).await;
        assert_eq!((answer.status().as_u16(), answer.headers().get("ratelimit")), (200, None));
    }
    assert_eq!(system.with_key("GET", "/livez", Some(&format!("Bearer {}", limited_key.key))).await.status(), 200);
}

#[tokio::test]
async fn request_with_a_rate_limited_key_is_refused_in_time_while_redis_does_not_answer() {
    let limited_key = issue("--id batch --scopes enqueue,read,manage --rate-limit 1000/1m");
    let mut system = System::start(&config(&[&limited_key])).await;
    assert_eq!(post_with_key(&system, "q", &limited_key.key).await, 201);
    system.redis.suspend();
    let started_at = Instant::now();
    let (status, body) = system.problem("GET", "/v1/queues/q", &limited_key.key).await;
    assert_eq!((status, &body["code"]), (503, &json!("unavailable")));
    assert!(started_at.elapsed() < MAX_REFUSAL_TIME, "{:?}", started_at.elapsed());
    system.redis.resume();
    system.redis.kill();
    assert_eq!(system.status("GET", "/v1/queues/q", &limited_key.key).await, 503);
    assert_eq!(
        system.status("GET", "/v1/queues/q", "drv_batch_x").await,
        401,
        "an invalid key is refused without Redis"
    );
}

async fn post_with_key(system: &System, queue: &str, key: &str) -> u16 {
    let path = system.url(&format!("/v1/queues/{queue}/messages"));
    system.http.post(path).bearer_auth(key).json(&number(1)).send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn number_of_waiting_requests_of_an_api_key_is_limited() {
    let (waiting, other) = (issue("--id wait --scopes enqueue,read,consume"), issue("--id other --scopes consume"));
    let system = System::start(&format!("{}\n[api]\nmax_waits_per_key = 2", config(&[&waiting, &other]))).await;
    let send_lease_request = |key: &str, wait: &str| {
        let request = system.http.post(system.url("/v1/queues/q/leases")).bearer_auth(key);
        request.json(&json!({ "wait": wait })).send()
    };
    // Each client repeats its lease request until the API lets the request wait: this test's requests with a short wait may use the key's
    // limit for a moment.
    let waiting_clients = [(); 2].map(|()| {
        let (http, url, key) = (system.http.clone(), system.url("/v1/queues/q/leases"), waiting.key.clone());
        tokio::spawn(async move {
            loop {
                let request = http.post(&url).bearer_auth(&key).json(&json!({"wait": "60s"}));
                if request.send().await.unwrap().status() != 429 {
                    return;
                }
            }
        })
    });
    // While two requests with the key wait, a third request with the key is refused at once.
    let (answer, refused) = loop {
        let answer = send_lease_request(&waiting.key, "10ms").await.unwrap();
        if answer.status() == 429 {
            assert_eq!(answer.headers()["retry-after"], "1");
            break problem(answer).await;
        }
    };
    assert_eq!((answer, &refused["code"]), (429, &json!("too_many_waits")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("api.max_waits_per_key"), "{refused}");
    assert_eq!(system.status("GET", "/v1/queues/q/messages/x?wait=5s", &waiting.key).await, 429);
    // While two lease requests with the key `waiting` wait, the API answers requests that do not wait, and requests with the key `other`.
    assert_eq!(system.status("GET", "/v1/queues/q/messages/x", &waiting.key).await, 404);
    assert_eq!(send_lease_request(&other.key, "10ms").await.unwrap().status(), 200);
    // A client that disconnects no longer counts as waiting.
    for client in waiting_clients {
        client.abort();
    }
    wait_until_a_wait_is_allowed(&system, &waiting.key).await;
}

async fn wait_until_a_wait_is_allowed(system: &System, key: &str) {
    for _ in 0..1_000 {
        if system.status("GET", "/v1/queues/q/messages/x?wait=10ms", key).await == 404 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the quota is not freed");
}
