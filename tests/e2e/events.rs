//! Streams of what happens in a queue.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use drover_tests::PATIENCE;
use futures_util::future::join_all;
use queue_core::Action;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    System,
    auth::{config, issue},
    number,
};

/// A client, as browsers are.
struct Client {
    response: Response,
    /// What came in and was not asked for yet.
    text: String,
    /// What it would send as Last-Event-ID.
    last: String,
}

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

impl Event {
    fn message(&self) -> &str {
        self.data["id"].as_str().unwrap()
    }
}

impl System {
    async fn ask_for_events(&self, path: &str, last: Option<&str>) -> Response {
        let mut request = self.http.get(self.url(path));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    }

    async fn listen_to(&self, path: &str, last: Option<&str>) -> Client {
        let response = self.ask_for_events(path, last).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut client = Client { response, text: String::new(), last: last.unwrap_or_default().to_owned() };
        // It learns at once where it is.
        assert_eq!(client.block().await.unwrap(), None);
        client
    }

    async fn listen(&self, last: Option<&str>) -> Client {
        self.listen_to("/v1/queues/q/events", last).await
    }

    /// A queue, with settings only.
    async fn begin(&self, queue: &str) {
        self.patch(queue, json!({"max_attempts": 3})).await;
    }

    async fn post_many(&self, queue: &str, ids: &[String]) {
        let messages: Vec<Value> = ids.iter().map(|id| json!({"data": 1, "id": id})).collect();
        let body = json!({ "messages": messages });
        let (status, answer) = self.ask(Method::POST, &format!("/v1/queues/{queue}/messages/batch"), Some(body)).await;
        assert_eq!(status, 201, "{answer}");
    }
}

impl Client {
    /// What stands before the next empty line, if it is an event; `Err` at the end of the stream.
    async fn block(&mut self) -> Result<Option<Event>, ()> {
        let end = loop {
            if let Some(end) = self.text.find("\n\n") {
                break end + 2;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("the stream goes on or ends");
            match chunk {
                Ok(Some(bytes)) => self.text.push_str(std::str::from_utf8(&bytes).unwrap()),
                Ok(None) | Err(_) => return Err(()),
            }
        };
        let rest = self.text.split_off(end);
        let block = std::mem::replace(&mut self.text, rest);
        let mut event = Event { id: String::new(), kind: String::new(), data: Value::Null };
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("id", id) => id.clone_into(&mut self.last),
                ("event", kind) => kind.clone_into(&mut event.kind),
                ("data", data) => event.data = serde_json::from_str(data).unwrap(),
                ("retry", _) | (":", "") => {}
                other => panic!("{other:?} in {block}"),
            }
        }
        event.id.clone_from(&self.last);
        Ok((!event.data.is_null()).then_some(event))
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            match self.block().await {
                Ok(None) => {}
                Ok(event) => return event,
                Err(()) => return None,
            }
        }
    }

    async fn event(&mut self) -> Event {
        self.next().await.expect("the stream goes on")
    }

    async fn kinds(&mut self, count: usize) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.event().await.kind);
        }
        kinds
    }
}

fn ids(batch: usize, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("m{batch}-{n}")).collect()
}

#[tokio::test]
async fn client_receives_each_event_of_each_message_in_order_while_workers_are_busy() {
    let system = System::start("[[worker.routes]]\nqueue = \"q\"\nhandler = { type = \"log\" }").await;
    system.begin("q").await;
    let mut client = system.listen(None).await;
    let _workers = (system.worker().await, system.worker().await);
    let posting = async {
        for batch in 0..20 {
            system.post_many("q", &ids(batch, 100)).await;
        }
    };
    let hearing = async {
        let mut steps: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for _ in 0..6_000 {
            let event = client.event().await;
            steps.entry(event.message().to_owned()).or_default().push(event.kind);
        }
        steps
    };
    let ((), steps) = tokio::join!(posting, hearing);
    assert_eq!(steps.len(), 2_000);
    for (message, steps) in &steps {
        assert_eq!(steps, &["enqueued", "started", "completed"], "{message}");
    }
    system.assert_clean().await;
}

#[tokio::test]
async fn reconnecting_client_receives_each_event_exactly_once() {
    let mut system = System::start("").await;
    system.begin("q").await;
    let mut client = system.listen(None).await;
    let mut heard = Vec::new();
    for batch in 0..30 {
        system.post_many("q", &ids(batch, 1 + batch % 13)).await;
        // It goes in the middle of a batch, or before it has heard of it.
        for _ in 0..batch % 5 {
            heard.push(client.event().await.message().to_owned());
        }
        if batch == 20 {
            // So does the server.
            system.api.kill();
            system.relaunch_api();
            system.until_ready(&system.base).await;
        }
        let last = client.last.clone();
        client = system.listen(Some(&last)).await;
    }
    let expected: Vec<String> = (0..30).flat_map(|batch| ids(batch, 1 + batch % 13)).collect();
    while heard.len() < expected.len() {
        heard.push(client.event().await.message().to_owned());
    }
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn events_of_one_message_are_selected_by_either_id_before_it_is_posted() {
    let system = System::start("").await;
    system.begin("q").await;
    let mut own = system.listen_to("/v1/queues/q/events?message=order-42", None).await;
    system.post("q", number(1)).await;
    system.post("q", json!({"data": 1, "id": "order-42", "name": "welcome", "priority": -1, "delay": "1h"})).await;
    let enqueued = own.event().await;
    assert_eq!((enqueued.kind.as_str(), &enqueued.data["name"]), ("enqueued", &json!("welcome")));
    assert_eq!(enqueued.data["state"], "delayed");
    let message = system.queues().queue(&"q".parse().unwrap()).list("delayed".parse().unwrap(), 1, None).await.unwrap();
    assert_eq!(enqueued.data["due_at"], json!(message.messages[0].due_at));

    let location = system.post("q", number(2)).await;
    let id = location.rsplit('/').next().unwrap();
    let mut others = system.listen_to(&format!("/v1/queues/q/events?message={id}"), None).await;
    system.act("/v1/queues/q/messages/order-42/promote").await;
    system.settle_all("q", Action::Release(None)).await;
    assert_eq!(own.kinds(3).await, ["promoted", "started", "released"]);
    assert_eq!(others.kinds(2).await, ["started", "released"]);
    for (query, status, code) in [
        ("?message=", 422, "invalid_id"),
        ("?message=a/b", 422, "invalid_id"),
        ("?mesage=a", 400, "invalid_query"),
        ("?message=a&message=b", 400, "invalid_query"),
    ] {
        let (was, problem) = system.ask(Method::GET, &format!("/v1/queues/q/events{query}"), None).await;
        assert_eq!((was, &problem["code"]), (status, &json!(code)), "{query}");
    }
}

#[tokio::test]
async fn client_that_resumes_after_a_lost_event_receives_a_reset_and_a_bad_event_id_is_refused() {
    let system = System::start("").await;
    let (status, problem) = system.ask(Method::GET, "/v1/queues/q/events", None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("queue_not_found")));
    assert!(system.redis.command("EXISTS drover:{q}:meta").contains(":0"), "to listen begins no queue");

    system.begin("q").await;
    let mut client = system.listen(None).await;
    system.post("q", number(1)).await;
    let posted = client.event().await;
    assert_eq!(posted.kind, "enqueued");
    let status = system.ask(Method::DELETE, "/v1/queues/q?confirm=q", None).await.0;
    assert_eq!(status, 204);
    let reset = client.event().await;
    assert_eq!((reset.kind.as_str(), reset.id.as_str()), ("reset", ""));
    // The stream goes on with the next queue of that name.
    system.begin("q").await;
    let reset = client.event().await;
    assert_eq!(reset.kind, "reset");
    system.post("q", json!({"data": 1, "id": "new"})).await;
    assert_eq!(client.event().await.message(), "new");
    let mut back = system.listen(Some(&posted.id)).await;
    assert_eq!(back.event().await.kind, "reset");
    let mut back = system.listen(Some(&reset.id)).await;
    assert_eq!(back.event().await.message(), "new", "what a reset names is a place to come back to");
    system.redis.command("FLUSHALL");
    assert_eq!(client.event().await.kind, "reset");

    system.begin("q").await;
    for nonsense in ["x", "1", "-1-1-1", "1-2-3-4", "99999999999999999999-1-1", "1-1-\u{661}", "1-1795424400000-1 x"] {
        let refused = system.ask_for_events("/v1/queues/q/events", Some(nonsense)).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{nonsense}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "invalid_last_event_id", "{nonsense}");
    }
    let mut back = system.listen(Some("999999999999999-999999999999999-999999999999999")).await;
    assert_eq!(back.event().await.kind, "reset");
}

#[tokio::test]
async fn listener_that_does_not_read_is_disconnected_while_others_continue_and_memory_stays_bounded() {
    let config = "[api]\nwrite_timeout = \"500ms\"\n[log]\nfilter = \"info,service=debug,producer_api=debug\"";
    let system = System::start(config).await;
    system.begin("q").await;
    let mut client = system.listen(None).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let mut raw = system.connect_from(1).await;
        raw.send("GET /v1/queues/q/events HTTP/1.1\r\nhost: a\r\n\r\n").await;
        silent.push(raw);
    }
    let url = format!("{}/metrics", system.base);
    for _ in 0..200 {
        let page = system.http.get(&url).send().await.unwrap().text().await.unwrap();
        if page.contains("\ndrover_event_listeners 21\n") {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let before = system.api_memory();
    let start = Instant::now();
    let mut posted = 0;
    // Until the last of them is cut, however much their sockets take.
    loop {
        let batch = ids(posted, 1_000);
        system.post_many("q", &batch).await;
        posted += 1;
        for id in &batch {
            assert_eq!(client.event().await.message(), id);
        }
        let page = system.http.get(&url).send().await.unwrap().text().await.unwrap();
        if page.contains("\ndrover_event_listeners 1\n") {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "they are not cut after {posted} batches");
    }
    let grown = system.api_memory().saturating_sub(before);
    assert!(grown < 64 * 1_024, "the API grew by {grown} KiB");
    let log = system.api.log().join("\n");
    assert!(log.contains("did not take its answer") || log.contains("fell too far behind"), "{log}");
}

#[tokio::test]
async fn two_thousand_clients_receive_the_same_events_over_one_connection_to_redis() {
    let system = System::start("").await;
    system.begin("q").await;
    let connections = || {
        let info = system.redis.command("INFO clients");
        let line = info.lines().find(|line| line.starts_with("connected_clients:")).unwrap().to_owned();
        line["connected_clients:".len()..].trim().parse::<u64>().unwrap()
    };
    let before = connections();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.extend(join_all((0..100).map(|_| system.listen(None))).await);
    }
    // The services' connections to Redis are as many as their lanes and one subscription, whoever listens.
    assert!(connections() <= before + 2, "{} connections, {before} before", connections());
    assert!(system.redis.command("PUBSUB NUMPAT").contains(":2"));
    for n in 0..3 {
        system.post("q", json!({"data": n, "id": format!("m{n}")})).await;
    }
    let heard = join_all(clients.iter_mut().map(async |client| {
        let mut heard = Vec::new();
        for _ in 0..3 {
            heard.push(client.event().await);
        }
        heard
    }));
    let heard = heard.await;
    assert_eq!(heard.len(), 2_000);
    let of_one: Vec<&str> = heard[0].iter().map(Event::message).collect();
    assert_eq!(of_one, ["m0", "m1", "m2"]);
    assert!(heard.iter().all(|of_another| *of_another == heard[0]));
}

#[tokio::test]
async fn a_quiet_stream_outlives_every_time_limit_and_ends_when_the_server_stops() {
    let limits = "request_timeout = \"1s\"\nmax_wait = \"1s\"\nidle_timeout = \"1s\"\nwrite_timeout = \"1s\"";
    let mut system = System::start(&format!("[api]\n{limits}\nheader_timeout = \"1s\"")).await;
    system.begin("q").await;
    let mut client = system.listen_to("/v1/queues/q/events?message=mine", None).await;
    let first = client.last.clone();
    system.post("q", number(1)).await;
    let start = Instant::now();
    assert_eq!(client.block().await, Ok(None), "a sign of life");
    assert!(start.elapsed() > Duration::from_secs(10), "{:?}", start.elapsed());
    assert_ne!(client.last, first, "it says how far a client is that hears of one message only");
    system.post("q", json!({"data": 1, "id": "mine"})).await;
    assert_eq!(client.event().await.kind, "enqueued");
    let start = Instant::now();
    assert!(system.api.terminate().success());
    assert_eq!(client.next().await, None);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn listeners_are_limited_per_api_and_per_key() {
    let (ours, theirs) = (issue("--id ours --scopes read --queues q"), issue("--id theirs --scopes read --queues q"));
    let admin = issue("--id admin --scopes manage,enqueue --queues *");
    let keys = config(&[&ours, &theirs, &admin]);
    let system = System::start(&format!("[api]\nmax_listeners = 3\nmax_listeners_per_key = 2\n{keys}")).await;
    let ask = |key: &str, method: Method| {
        let request = system.http.request(method, system.url("/v1/queues/q/events"));
        request.header("authorization", format!("Bearer {key}")).send()
    };
    assert_eq!(ask(&admin.key, Method::GET).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(ask(&ours.key, Method::GET).await.unwrap().status(), StatusCode::NOT_FOUND);
    let patch = system
        .http
        .patch(system.url("/v1/queues/q"))
        .header("content-type", "application/json")
        .body(r#"{"max_attempts":3}"#);
    let begun = patch.header("authorization", format!("Bearer {}", admin.key)).send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::OK);
    let first = ask(&ours.key, Method::GET).await.unwrap();
    let second = ask(&ours.key, Method::GET).await.unwrap();
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let refused = ask(&ours.key, Method::GET).await.unwrap();
    assert_eq!(
        (refused.status(), refused.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::TOO_MANY_REQUESTS, "10")
    );
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_listeners");
    let third = ask(&theirs.key, Method::GET).await.unwrap();
    assert_eq!(third.status(), StatusCode::OK);
    let refused = ask(&theirs.key, Method::GET).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_listeners");
    // A place is free as soon as its client has gone.
    drop((first, second));
    for _ in 0..500 {
        let answer = ask(&ours.key, Method::HEAD).await.unwrap();
        if answer.status() == StatusCode::OK {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("no place is free");
}

#[tokio::test]
async fn event_streams_continue_without_a_gap_after_an_outage_of_redis() {
    let mut system = System::start_on(drover_tests::RedisServer::start_durable(), "").await;
    system.begin("q").await;
    let mut client = system.listen(None).await;
    system.post("q", json!({"data": 1, "id": "before"})).await;
    assert_eq!(client.event().await.message(), "before");
    system.redis.kill();
    let refused = system.ask_for_events("/v1/queues/q/events", None).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    system.redis.restart();
    system.until_ready(&system.base).await;
    system.post("q", json!({"data": 1, "id": "after"})).await;
    assert_eq!(client.event().await.message(), "after");
    let log = system.api.log().join("\n");
    // Not at all if Redis was back before they were read again, and once if not, however often that was tried.
    let told = ["events can't be read, trying on", "events can be read again"].map(|line| log.matches(line).count());
    assert!(told == [0, 0] || told == [1, 1], "{told:?}: {log}");
}
