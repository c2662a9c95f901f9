//! Clients that are slow, silent, many, or speak no HTTP: they are cut off, and others do not notice.

use std::time::{Duration, Instant};

use drover_tests::PATIENCE;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    net::TcpSocket,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    System,
    auth::{config, issue},
    number,
    raw::{LIVEZ, Raw},
};

/// Short times, and a log that tells why a connection was closed.
const CONFIG: &str = r#"
    [api]
    header_timeout = "500ms"
    idle_timeout = "1500ms"
    write_timeout = "500ms"
    [log]
    filter = "info,service=debug"
"#;

/// As much earlier as timers may be; they may be as late as they like.
const EARLY: Duration = Duration::from_millis(20);

async fn raw(system: &System) -> Raw {
    Raw::connect(system.api_port.address()).await
}

#[tokio::test]
async fn who_sends_nothing_or_headers_byte_by_byte_is_cut_off() {
    let system = System::start(CONFIG).await;
    for head in ["", "G", "GET /livez HTTP/1.1\r\nx: "] {
        let mut slow = raw(&system).await;
        let start = Instant::now();
        slow.send(head).await;
        let (mut reader, mut writer) = slow.stream.into_split();
        let drip = async {
            // The second write after the end fails: the first is answered by a reset.
            while head.is_empty() || writer.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let closed = async { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await };
        let answered = tokio::select! {
            () = drip => 0,
            bytes = closed => bytes.unwrap_or(0),
            () = sleep(PATIENCE) => panic!("{head:?} is not cut off"),
        };
        assert_eq!(answered, 0, "{head:?}");
        assert!(start.elapsed() + EARLY >= Duration::from_millis(500), "{head:?}: {:?}", start.elapsed());
        system.api.wait_for_log("headers of its request were not complete in time");
    }
}

/// A client with two answers, for longer than headers may take idle between them; and when it asked for the second.
async fn answered_twice(system: &System) -> (Raw, Instant) {
    let mut client = raw(system).await;
    assert_eq!(client.ask(LIVEZ).await.status, 200);
    sleep(Duration::from_millis(700)).await;
    let asked = Instant::now();
    assert_eq!(client.ask(LIVEZ).await.status, 200);
    (client, asked)
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_slow_headers_after_an_answer_too() {
    let system = System::start(CONFIG).await;
    let (mut slow, _) = answered_twice(&system).await;
    let asked = Instant::now();
    slow.send("GET /livez").await;
    assert!(slow.until_closed().await.is_empty());
    assert!(asked.elapsed() + EARLY >= Duration::from_millis(500), "{:?}", asked.elapsed());
    system.api.wait_for_log("headers of its request were not complete in time");
    let (mut idle, last) = answered_twice(&system).await;
    assert!(idle.until_closed().await.is_empty());
    assert!(last.elapsed() + EARLY >= Duration::from_millis(1_500), "{:?}", last.elapsed());
    system.api.wait_for_log("it was idle");
}

/// A request that proves something, where there are no keys.
const QUEUES: &str = "GET /v1/queues HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn client_that_comes_when_all_places_have_proven_clients_waits_for_one() {
    let system = System::start("[api]\nmax_connections = 8\n").await;
    let mut served = Vec::new();
    let mut waiting = loop {
        let mut client = raw(&system).await;
        client.send(QUEUES).await;
        match client.answer_within(Duration::from_millis(500)).await {
            Some(answer) => assert_eq!(answer.status, 200),
            None => break client,
        }
        served.push(client);
        assert!(served.len() <= 8, "more than may be");
    };
    system.api.wait_for_log("as many connections are open as may be");
    assert_eq!(served[1].ask(LIVEZ).await.status, 200, "those with a place are served");
    drop(served.swap_remove(0));
    assert_eq!(waiting.answer().await.status, 200);
}

/// So many clients that ask `/livez` again and again, and connect anew when they are closed out.
fn poll_livez(system: &System, clients: usize) -> JoinSet<()> {
    let address = system.api_port.address();
    let mut polling = JoinSet::new();
    for _ in 0..clients {
        polling.spawn(async move {
            loop {
                let mut client = Raw::connect(address).await;
                client.send(LIVEZ).await;
                while client.answer_within(PATIENCE).await.is_some() {
                    sleep(Duration::from_secs(1)).await;
                    client.send(LIVEZ).await;
                }
            }
        });
    }
    polling
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_without_a_valid_key_makes_room_for_a_new_one_and_one_with_a_key_is_kept() {
    let ops = issue("--id ops --scopes read --queues *");
    let with_keys = format!("[api]\nmax_connections = 50\n{}", config(&[&ops]));
    for (config, authorization) in [
        (with_keys.as_str(), format!("authorization: Bearer {}\r\n", ops.key)),
        ("[api]\nmax_connections = 50\n", String::new()),
    ] {
        let system = System::start(config).await;
        let ask = format!("GET /v1/queues HTTP/1.1\r\nhost: a\r\n{authorization}\r\n");
        let mut kept = raw(&system).await;
        assert_eq!(kept.ask(&ask).await.status, 200);
        let _polling = poll_livez(&system, 60);
        system.api.wait_for_log("as many connections are open as may be");
        for _ in 0..20 {
            let start = Instant::now();
            assert_eq!(raw(&system).await.ask(&ask).await.status, 200);
            assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        }
        assert_eq!(kept.ask(&ask).await.status, 200, "it is not the oldest that goes, but the oldest stranger");
    }
}

#[tokio::test]
async fn connection_that_makes_room_ends_its_answer_or_is_closed_after_a_second() {
    let config = "[api]\nmax_connections = 2\n[log]\nfilter = \"info,service=debug\"";
    let system = System::start(config).await;
    let mut idle = raw(&system).await;
    assert_eq!(idle.ask(LIVEZ).await.status, 200);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stuck = Raw::over(socket.connect(system.api_port.address()).await.unwrap());
    stuck.send("GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n".repeat(40)).await;
    let start = Instant::now();
    let mut others = [raw(&system).await, raw(&system).await];
    for other in &mut others {
        assert_eq!(other.ask(LIVEZ).await.status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(idle.until_closed().await.is_empty());
    system.api.wait_for_log("closed before its answer was complete");
    // One that does not take its answer is closed after 30 s in any case.
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(start.elapsed() + EARLY >= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn without_a_file_descriptor_left_it_goes_on_with_those_it_has_and_later_with_all() {
    let system = System::start("").await;
    let mut first = raw(&system).await;
    assert_eq!(first.ask(LIVEZ).await.status, 200);
    let pid = Pid::from_raw(system.api.id().try_into().unwrap());
    let before = prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) }).unwrap();
    let mut second = raw(&system).await;
    second.send(LIVEZ).await;
    system.api.wait_for_log("connections can't be accepted");
    assert!(second.answer_within(Duration::from_millis(300)).await.is_none());
    assert_eq!(first.ask(LIVEZ).await.status, 200);
    prlimit(pid, Resource::Nofile, before).unwrap();
    assert_eq!(second.answer().await.status, 200);
    system.api.wait_for_log("connections are accepted again");
    let told = system.api.log().iter().filter(|line| line.contains("can't be accepted")).count();
    assert_eq!(told, 1, "once, not with each pause");
}

#[tokio::test]
async fn a_client_that_closes_its_half_counts_as_gone() {
    let system = System::start("").await;
    let location = system.post("my-queue", number(1)).await;
    let mut half = raw(&system).await;
    half.send(format!("GET {location}?wait=60s HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    half.stream.shutdown().await.unwrap();
    let start = Instant::now();
    assert!(half.until_closed().await.is_empty());
    assert!(start.elapsed() < Duration::from_secs(10), "its wait is over at once, not after a minute");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let system = System::start("").await;
    let mut client = raw(&system).await;
    client.send(format!("{LIVEZ}GET /nowhere HTTP/1.1\r\nhost: a\r\n\r\n{LIVEZ}")).await;
    let statuses = [client.answer().await.status, client.answer().await.status, client.answer().await.status];
    assert_eq!(statuses, [200, 404, 200]);
}

/// The answer to a request, with another one behind it that must not be answered. There is none where a reset overtook it: the server
/// had not read all when it closed.
async fn refused(system: &System, request: &str, statuses: &[u16]) -> Option<crate::raw::Answer> {
    let mut client = raw(system).await;
    client.send(format!("{request}{LIVEZ}")).await;
    let mut answers = client.until_closed().await;
    let told = request.escape_debug().to_string();
    assert!(answers.len() <= 1, "{told:.60}: {answers:?}");
    let answer = answers.pop();
    assert!(answer.iter().all(|answer| statuses.contains(&answer.status)), "{told:.60}: {answer:?}");
    answer
}

#[tokio::test]
async fn what_is_not_http_or_too_large_is_refused_and_the_connection_closed() {
    let system = System::start(CONFIG).await;
    let headers = |count: usize| "x: 1\r\n".repeat(count);
    let get = |headers: &str| format!("GET /livez HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
    for (request, statuses) in [
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".to_owned(), &[400][..]),
        ("\0\0\0\0\r\n\r\n".to_owned(), &[400]),
        ("hello\r\n\r\n".to_owned(), &[400]),
        ("PRI * HTTP/2.0\r\n\r\n".to_owned(), &[400]),
        // As clients that know that a server speaks HTTP/2 begin: with settings after the preface.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(), &[505]),
        (get("content-length: x\r\n"), &[400]),
        (get("content-length: 1\r\ncontent-length: 2\r\n"), &[400]),
        (get("transfer-encoding: identity\r\n"), &[400]),
        (get("transfer-encoding: chunked, identity\r\n"), &[400]),
        (get("transfer-encoding : chunked\r\n"), &[400]),
        (get("x: a\r\n folded\r\n"), &[400]),
        (get(&headers(120)), &[431]),
        (get(&format!("x: {}\r\n", "x".repeat(40_000))), &[431]),
        // Which of both the library says depends on how the bytes come in.
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000)), &[414, 431]),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)), &[414, 431]),
    ] {
        if let Some(answer) = refused(&system, &request, statuses).await {
            assert_eq!(answer.body, "", "the HTTP library refuses it before any part of the service sees it");
        }
    }
    for request in [
        get("transfer-encoding: gzip, chunked\r\n"),
        get("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n"),
        "GET /livez HTTP/1.1\r\n\r\n".to_owned(),
        get("host: a\r\n"),
    ] {
        if let Some(answer) = refused(&system, &request, &[400]).await {
            let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            assert_eq!((&problem["code"], &problem["status"]), (&"malformed_request".into(), &400.into()), "{problem}");
            assert!(answer.head.contains("content-type: application/problem+json"), "{}", answer.head);
            assert!(answer.head.contains(&format!("x-request-id: {}", problem["request_id"].as_str().unwrap())));
        }
    }
    // A request that has been read in full is answered for certain.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (whole, status) in [(preface, 505), ("GET /livez HTTP/1.1\r\n\r\n", 400)] {
        let mut client = raw(&system).await;
        let answer = client.ask(whole).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
        assert!(client.until_closed().await.is_empty());
    }
    assert_eq!(raw(&system).await.ask(&get(&headers(90))).await.status, 200);
    assert_eq!(raw(&system).await.ask(&get(&format!("x: {}\r\n", "x".repeat(30_000)))).await.status, 200);
    assert!(!system.api.log().iter().any(|line| line.contains("panicked")));
}

#[tokio::test]
async fn who_writes_everything_before_reading_sees_the_refusal() {
    let system = System::start("").await;
    // More than the kernels hold for a client.
    let length = 20_000_000;
    let body = vec![b' '; length];
    for (path, content_type, status) in [
        ("/v1/queues/q/messages", "application/json", 413),
        ("/v1/queues/q/messages", "text/plain", 415),
        ("/v1/queues/q/messages?x=1", "application/json", 400),
        ("/nowhere", "application/json", 404),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\n");
        let mut client = raw(&system).await;
        client.send(format!("{head}content-length: {length}\r\n\r\n")).await;
        timeout(PATIENCE, client.stream.write_all(&body)).await.unwrap().expect("all of it is taken");
        assert_eq!(client.answer().await.status, status, "{path} {content_type}");
        assert!(client.until_closed().await.is_empty(), "{path} {content_type}");
        // Nor is it asked for by those that wait to be asked.
        let mut client = raw(&system).await;
        let head = format!("{head}expect: 100-continue\r\n");
        assert_eq!(client.ask(&format!("{head}content-length: {length}\r\n\r\n")).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn who_goes_on_sending_after_a_refusal_is_cut_off() {
    let system = System::start(CONFIG).await;
    let mut client = raw(&system).await;
    let start = Instant::now();
    client.send("POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 404);
    let cut_off = async {
        // The second write after the end fails: the first is answered by a reset.
        while client.stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, cut_off).await.expect("it is cut off");
    assert!(start.elapsed() + EARLY >= Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn no_request_is_smuggled_behind_one_with_two_lengths() {
    let system = System::start("").await;
    let post = |headers: &str, body: &str| {
        format!(
            "POST /v1/queues/q/messages HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}\r\n{body}"
        )
    };
    let chunked = "a\r\n{\"data\":1}\r\n0\r\n\r\n";
    for headers in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 25\r\n",
        "transfer-encoding: chunked\r\n",
    ] {
        let mut client = raw(&system).await;
        client.send(post(headers, &format!("{chunked}{}", post("content-length: 10\r\n", "{\"data\":2}")))).await;
        let answers = client.until_closed().await;
        assert_eq!(answers.len(), 1, "what follows is no request: {answers:?}");
        assert!(answers[0].head.contains("connection: close"), "{answers:?}");
    }
    let queue = system.get("/v1/queues/q").await;
    assert_eq!(queue["counts"]["waiting"], 3, "the body is the chunked one");
}

#[tokio::test]
async fn who_does_not_take_the_answer_is_cut_off() {
    let system = System::start(CONFIG).await;
    let size = 900_000;
    let location = system.post("my-queue", json!({"data": "x".repeat(size)})).await;
    let socket = TcpSocket::new_v4().unwrap();
    // The kernels would hold some of it for the client.
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    let mut client = Raw::over(socket.connect(system.api_port.address()).await.unwrap());
    let asked = 40;
    client.send(format!("GET {location} HTTP/1.1\r\nhost: a\r\n\r\n").repeat(asked)).await;
    system.api.wait_for_log("it did not take its answer");
    let taken = client.until_closed().await.len() * size + client.left();
    assert!(taken < asked * size, "{taken}");
}

#[tokio::test]
async fn a_graceful_stop_does_not_wait_for_connections_that_are_idle() {
    let mut system = System::start("").await;
    let (mut idle, mut new) = (raw(&system).await, raw(&system).await);
    assert_eq!(idle.ask(LIVEZ).await.status, 200);
    let start = Instant::now();
    assert!(system.api.terminate().success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    for client in [&mut idle, &mut new] {
        assert!(client.until_closed().await.is_empty());
    }
    assert!(!system.api.log().iter().any(|line| line.contains("still under way")));
}

#[tokio::test]
async fn answers_carry_what_protects_browsers_and_other_origins_are_let_in_only_if_configured() {
    let config = "[api]\ncors_origins = [\"https://admin.example.org\"]\n";
    for (system, is_let) in [(System::start("").await, false), (System::start(config).await, true)] {
        let ask = async |request: &str| {
            let from = "host: a\r\norigin: https://admin.example.org\r\naccess-control-request-method: POST\r\n\r\n";
            raw(&system).await.ask(&format!("{request} HTTP/1.1\r\n{from}")).await
        };
        for path in ["/livez", "/nowhere"] {
            let answer = ask(&format!("GET {path}")).await;
            for header in ["x-content-type-options: nosniff", "cache-control: no-store", "referrer-policy: no-referrer"]
            {
                assert!(answer.head.contains(header), "{answer:?}");
            }
            assert!(!answer.head.contains("strict-transport-security"), "{answer:?}");
            let told = answer.head.contains("access-control-allow-origin: https://admin.example.org\r\n");
            assert_eq!(told, is_let, "{answer:?}");
        }
        assert_eq!(ask("OPTIONS /v1/queues/q/pause").await.status, if is_let { 200 } else { 405 });
    }
}

#[tokio::test]
async fn a_page_of_another_origin_can_not_act_without_asking_first() {
    let config = "[api]\ncors_origins = [\"https://admin.example.org\"]\n";
    let system = System::start(config).await;
    system.post("q", serde_json::json!({"data": 1})).await;
    let purge = async |from: &str| {
        let head = "POST /v1/queues/q/purge?state=delayed HTTP/1.1\r\nhost: localhost:1\r\ncontent-length: 0\r\n";
        raw(&system).await.ask(&format!("{head}{from}\r\n")).await
    };
    for foreign in ["https://evil.example.org", "null", "http://localhost:2", "https://admin.example.org.evil"] {
        let answer = purge(&format!("origin: {foreign}\r\n")).await;
        assert!(answer.status == 403 && answer.body.contains("foreign_origin"), "{foreign}: {answer:?}");
    }
    for own in ["", "origin: http://localhost:1\r\n", "origin: https://admin.example.org\r\n"] {
        assert_eq!(purge(own).await.status, 200, "{own}");
    }
}

#[tokio::test]
async fn a_page_that_lets_a_name_of_its_own_point_here_reaches_nothing() {
    let key = "keys = [{ id = \"a\", hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\", \
               scopes = [\"read\"], queues = [\"*\"] }]";
    for (config, status) in [("", 421), (&*format!("[auth]\n{key}\n"), 401)] {
        let system = System::start(config).await;
        let ask = async |host: &str| {
            let request = format!("GET /v1/queues HTTP/1.1\r\n{host}\r\n");
            raw(&system).await.ask(&request).await
        };
        let answer = ask("host: evil.example.org\r\norigin: http://evil.example.org\r\n").await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.status != 421 || answer.body.contains("\"code\":\"foreign_host\""), "{answer:?}");
        for (host, status) in [("", 400), ("host: localhost\r\nhost: localhost\r\n", 400)] {
            let answer = ask(host).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(answer.body.contains("malformed_request") && answer.head.contains("x-request-id"), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn json_as_deep_as_a_body_allows_breaks_nothing() {
    let system = System::start("").await;
    let _worker = system.worker().await;
    for (open, close, refused_as) in [("[", "]", 400), (r#"{"a":"#, "}", 422)] {
        let depth = 100_000;
        let inner = format!("{}1{}", open.repeat(depth), close.repeat(depth));
        let bodies = [format!("{{\"data\":{inner}}}"), format!("{{\"data\":1,\"delay\":{inner}}}"), inner];
        for (body, status) in bodies.into_iter().zip([201, 422, refused_as]) {
            let head = "content-type: application/json\r\nhost: a";
            let length = body.len();
            let post = format!(
                "POST /v1/queues/my-queue/messages?wait=20s HTTP/1.1\r\n{head}\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            let answer = raw(&system).await.ask(&post).await;
            assert_eq!(answer.status, status, "{:.200}", answer.body);
        }
    }
    let message = system.finished(&system.post("my-queue", number(1)).await).await;
    assert_eq!(message["state"], "completed");
}
