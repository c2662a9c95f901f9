//! Event streams: order, reconnection, resets, limits, slow listeners and outages of Redis.

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

/// A client of a stream, as a browser is.
struct Listener {
    response: Response,
    /// The text that was received and not yet parsed.
    text: String,
    /// The id that it would send as Last-Event-ID.
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
    async fn request_events(&self, path: &str, last: Option<&str>) -> Response {
        let mut request = self.http.get(self.url(path));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        request.send().await.unwrap()
    }

    async fn listen_to(&self, path: &str, last: Option<&str>) -> Listener {
        let response = self.request_events(path, last).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut client = Listener { response, text: String::new(), last: last.unwrap_or_default().to_owned() };
        // The first block has the current event id.
        assert_eq!(client.block().await.unwrap(), None);
        client
    }

    async fn listen(&self, last: Option<&str>) -> Listener {
        self.listen_to("/v1/queues/q/events", last).await
    }

    /// Begins a queue by its settings.
    async fn begin(&self, queue: &str) {
        self.patch(queue, json!({"max_attempts": 3})).await;
    }

    async fn post_ids(&self, ids: &[String]) {
        self.post_batch("q", ids.iter().map(|id| json!({"data": 1, "id": id}))).await;
    }
}

impl Listener {
    /// Reads to the next empty line. Returns the event if the block is one, and `Err` at the end of the stream.
    async fn block(&mut self) -> Result<Option<Event>, ()> {
        let end = loop {
            if let Some(end) = self.text.find("\n\n") {
                break end + 2;
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("the stream has a next block or ends");
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
        self.next().await.expect("the stream has a next event")
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
            system.post_ids(&ids(batch, 100)).await;
        }
    };
    let receiving = async {
        let mut steps: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for _ in 0..6_000 {
            let event = client.event().await;
            steps.entry(event.message().to_owned()).or_default().push(event.kind);
        }
        steps
    };
    let ((), steps) = tokio::join!(posting, receiving);
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
    let mut received = Vec::new();
    for batch in 0..30 {
        system.post_ids(&ids(batch, 1 + batch % 13)).await;
        // The client disconnects in the middle of a batch or before its first event.
        for _ in 0..batch % 5 {
            received.push(client.event().await.message().to_owned());
        }
        if batch == 20 {
            // The API restarts once.
            system.api.kill();
            system.relaunch_api();
            system.wait_until_ready(&system.base).await;
        }
        let last = client.last.clone();
        client = system.listen(Some(&last)).await;
    }
    let expected: Vec<String> = (0..30).flat_map(|batch| ids(batch, 1 + batch % 13)).collect();
    while received.len() < expected.len() {
        received.push(client.event().await.message().to_owned());
    }
    assert_eq!(received, expected);
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
    system.post_empty("/v1/queues/q/messages/order-42/promote").await;
    system.settle_all("q", Action::Release(None)).await;
    assert_eq!(own.kinds(3).await, ["promoted", "started", "released"]);
    assert_eq!(others.kinds(2).await, ["started", "released"]);
    for (query, status, code) in [
        ("?message=", 422, "invalid_id"),
        ("?message=a/b", 422, "invalid_id"),
        ("?mesage=a", 400, "invalid_query"),
        ("?message=a&message=b", 400, "invalid_query"),
    ] {
        let (found, problem) = system.request(Method::GET, &format!("/v1/queues/q/events{query}"), None).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{query}");
    }
}

#[tokio::test]
async fn client_that_resumes_after_a_lost_event_receives_a_reset_and_a_bad_event_id_is_refused() {
    let system = System::start("").await;
    let (status, problem) = system.request(Method::GET, "/v1/queues/q/events", None).await;
    assert_eq!((status, &problem["code"]), (404, &json!("queue_not_found")));
    assert!(system.redis.command("EXISTS drover:{q}:meta").contains(":0"), "a listener does not begin a queue");

    system.begin("q").await;
    let mut client = system.listen(None).await;
    system.post("q", number(1)).await;
    let posted = client.event().await;
    assert_eq!(posted.kind, "enqueued");
    let status = system.request(Method::DELETE, "/v1/queues/q?confirm=q", None).await.0;
    assert_eq!(status, 204);
    let reset = client.event().await;
    assert_eq!((reset.kind.as_str(), reset.id.as_str()), ("reset", ""));
    // The stream continues with the next queue of that name.
    system.begin("q").await;
    let reset = client.event().await;
    assert_eq!(reset.kind, "reset");
    system.post("q", json!({"data": 1, "id": "new"})).await;
    assert_eq!(client.event().await.message(), "new");
    let mut back = system.listen(Some(&posted.id)).await;
    assert_eq!(back.event().await.kind, "reset");
    let mut back = system.listen(Some(&reset.id)).await;
    assert_eq!(back.event().await.message(), "new", "a client can resume at the id of a reset");
    system.redis.command("FLUSHALL");
    assert_eq!(client.event().await.kind, "reset");

    system.begin("q").await;
    for bad_id in ["x", "1", "-1-1-1", "1-2-3-4", "99999999999999999999-1-1", "1-1-\u{661}", "1-1795424400000-1 x"] {
        let refused = system.request_events("/v1/queues/q/events", Some(bad_id)).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{bad_id}");
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["code"], "invalid_last_event_id", "{bad_id}");
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
    for _ in 0..200 {
        if system.metric("drover_event_listeners").await == 21 {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    let before = system.api_memory();
    let start = Instant::now();
    let mut posted = 0;
    // The posts continue until the last silent listener is disconnected, however much the sockets buffer.
    loop {
        let batch = ids(posted, 1_000);
        system.post_ids(&batch).await;
        posted += 1;
        for id in &batch {
            assert_eq!(client.event().await.message(), id);
        }
        if system.metric("drover_event_listeners").await == 1 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the silent listeners are not disconnected after {posted} batches");
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
    // The number of connections to Redis does not depend on the number of listeners.
    assert!(connections() <= before + 2, "{} connections, {before} before", connections());
    assert!(system.redis.command("PUBSUB NUMPAT").contains(":2"));
    for n in 0..3 {
        system.post("q", json!({"data": n, "id": format!("m{n}")})).await;
    }
    let received = join_all(clients.iter_mut().map(async |client| {
        let mut events = Vec::new();
        for _ in 0..3 {
            events.push(client.event().await);
        }
        events
    }))
    .await;
    assert_eq!(received.len(), 2_000);
    let messages: Vec<&str> = received[0].iter().map(Event::message).collect();
    assert_eq!(messages, ["m0", "m1", "m2"]);
    assert!(received.iter().all(|events| *events == received[0]));
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
    assert_eq!(client.block().await, Ok(None), "a heartbeat");
    assert!(start.elapsed() > Duration::from_secs(10), "{:?}", start.elapsed());
    assert_ne!(client.last, first, "the heartbeat has the current event id, also for a listener to one message");
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
    let open_stream = |key: &str, method: Method| {
        let request = system.http.request(method, system.url("/v1/queues/q/events"));
        request.header("authorization", format!("Bearer {key}")).send()
    };
    assert_eq!(open_stream(&admin.key, Method::GET).await.unwrap().status(), StatusCode::FORBIDDEN);
    assert_eq!(open_stream(&ours.key, Method::GET).await.unwrap().status(), StatusCode::NOT_FOUND);
    let patch = system.http.patch(system.url("/v1/queues/q")).bearer_auth(&admin.key).json(&json!({"max_attempts": 3}));
    let begun = patch.send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::OK);
    let first = open_stream(&ours.key, Method::GET).await.unwrap();
    let second = open_stream(&ours.key, Method::GET).await.unwrap();
    assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::OK));
    let refused = open_stream(&ours.key, Method::GET).await.unwrap();
    assert_eq!(
        (refused.status(), refused.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::TOO_MANY_REQUESTS, "10")
    );
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_listeners");
    let third = open_stream(&theirs.key, Method::GET).await.unwrap();
    assert_eq!(third.status(), StatusCode::OK);
    let refused = open_stream(&theirs.key, Method::GET).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.json::<Value>().await.unwrap()["code"], "too_many_listeners");
    // A disconnected listener frees its quota.
    drop((first, second));
    for _ in 0..500 {
        let answer = open_stream(&ours.key, Method::HEAD).await.unwrap();
        if answer.status() == StatusCode::OK {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("the quota is not freed");
}

#[tokio::test]
async fn event_streams_continue_without_a_gap_after_an_outage_of_redis() {
    let mut system = System::start_on(drover_tests::RedisServer::start_durable(), "").await;
    system.begin("q").await;
    let mut client = system.listen(None).await;
    system.post("q", json!({"data": 1, "id": "before"})).await;
    assert_eq!(client.event().await.message(), "before");
    system.redis.kill();
    let refused = system.request_events("/v1/queues/q/events", None).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    system.redis.restart();
    system.wait_until_ready(&system.base).await;
    system.post("q", json!({"data": 1, "id": "after"})).await;
    assert_eq!(client.event().await.message(), "after");
    let log = system.api.log().join("\n");
    // The outage is logged once, or not at all if Redis was back before the next read of the events.
    let reported =
        ["events can't be read, trying on", "events can be read again"].map(|line| log.matches(line).count());
    assert!(reported == [0, 0] || reported == [1, 1], "{reported:?}: {log}");
}
