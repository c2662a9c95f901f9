//! The handler `http` with real receivers: sockets that answer as a test decides.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use consumer_worker::{Failure, Outcome, Routes, TestJob};
use drover_tests::PATIENCE;
use hmac::{Hmac, KeyInit, Mac};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};

use crate::{failed, result, retried, routes};

const SECRETS: [&str; 2] = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXo="];

/// The request that a receiver got.
struct ReceivedRequest {
    line: String,
    headers: BTreeMap<String, String>,
    body: String,
}

/// A receiver that answers each request with the same bytes.
struct HookServer {
    address: SocketAddr,
    got: Receiver<ReceivedRequest>,
    connections: Arc<AtomicUsize>,
}

impl HookServer {
    fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream| stream.write_all(&answer).is_ok())
    }

    /// `answer` answers a request, and returns whether the connection stays open.
    fn start(answer: impl Fn(&TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (sender, got) = channel();
        let (answer, counted) = (Arc::new(answer), Arc::clone(&connections));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                thread::spawn(move || serve(&stream, &sender, &*answer));
            }
        });
        Self { address, got, connections }
    }

    fn routes(&self, more: &Value) -> Routes {
        let mut handler = json!({"type": "http", "url": format!("http://{}/hook?a=1", self.address)});
        handler.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        routes(&handler)
    }

    async fn post(&self) -> Outcome {
        self.post_with(&json!({})).await
    }

    async fn post_with(&self, more: &Value) -> Outcome {
        self.routes(more).handle(TestJob::new("q", &json!({"n": 1})).job()).await
    }
}

/// Reads requests and has them answered until either side closes.
fn serve(stream: &TcpStream, sender: &Sender<ReceivedRequest>, answer: &dyn Fn(&TcpStream) -> bool) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        // The test may have ended.
        let _ = sender.send(ReceivedRequest {
            line: line.trim_end().to_owned(),
            headers,
            body: String::from_utf8(body).unwrap(),
        });
        if !answer(stream) {
            return;
        }
    }
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn request_describes_its_message_and_has_a_signature_by_each_secret() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secrets");
    std::fs::write(&file, format!("{}\n", SECRETS[1])).unwrap();
    let hook = HookServer::answering(answer("200 OK", "", r#"{"ok": true}"#));
    let routes = hook.routes(&json!({"secret": SECRETS[0], "secret_file": file}));
    let job = TestJob::new("q", &json!({"to": "a@b.c"})).name("welcome").id("order-1").attempt(2);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let job = job.header("traceparent", trace).header("tenant", "7");
    assert_eq!(result(routes.handle(job.job()).await), r#"{"ok": true}"#);

    let ReceivedRequest { line, headers, body } = hook.got.recv().unwrap();
    assert_eq!(line, "POST /hook?a=1 HTTP/1.1");
    assert_eq!(body, r#"{"to":"a@b.c"}"#);
    let expected = [
        ("content-type", "application/json"),
        ("user-agent", concat!("drover/", env!("CARGO_PKG_VERSION"))),
        ("drover-message-id", "order-1"),
        ("drover-queue", "q"),
        ("drover-name", "welcome"),
        ("drover-attempt", "2"),
        ("drover-headers", r#"{"tenant":"7","traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}"#),
        ("traceparent", trace),
        ("webhook-id", "q:order-1"),
    ];
    for (name, value) in expected {
        assert_eq!(headers[name], value, "{name}");
    }
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now - 60..=now).contains(&headers["webhook-timestamp"].parse().unwrap()));
    let signed = format!("q:order-1.{}.{body}", headers["webhook-timestamp"]);
    let signatures = SECRETS.map(|secret| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(&secret[6..]).unwrap()).unwrap();
        mac.update(signed.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    assert_eq!(headers["webhook-signature"], signatures.join(" "));
}

#[tokio::test]
async fn status_decides_the_outcome() {
    for status in ["200 OK", "201 Created", "202 Accepted", "204 No Content", "299 Fine"] {
        assert_eq!(result(HookServer::answering(answer(status, "", "")).post().await), "null", "{status}");
    }
    for (status, code) in
        [("400 Bad Request", "http_400"), ("401 No", "http_401"), ("410 Gone", "http_410"), ("422 No", "http_422")]
    {
        let failure = failed(HookServer::answering(answer(status, "", "no such user")).post().await);
        assert_eq!((failure.code.as_str(), failure.message.contains("no such user")), (code, true), "{failure:?}");
    }
    for (status, code) in [
        ("500 Internal Server Error", "http_500"),
        ("502 Bad Gateway", "http_502"),
        ("503 Service Unavailable", "http_503"),
        ("429 Too Many Requests", "http_429"),
        ("408 Request Timeout", "http_408"),
        ("425 Too Early", "http_425"),
    ] {
        assert_eq!(retried(HookServer::answering(answer(status, "", "")).post().await).code, code);
    }
}

#[tokio::test]
async fn busy_receiver_decides_the_pause_before_the_next_attempt() {
    for (status, asked, pause) in [("429 Slow", "7", 7), ("503 Busy", "7", 7), ("429 Slow", "9999999", 86_400)] {
        let outcome = HookServer::answering(answer(status, &format!("retry-after: {asked}\r\n"), "")).post().await;
        let Outcome::RetryAfter(_, after) = outcome else { panic!("{outcome:?}") };
        assert_eq!(after, Duration::from_secs(pause));
    }
    // A pause of zero, an invalid value, and the header with another status are ignored.
    for (status, asked) in [("429 Slow", "0"), ("429 Slow", "soon"), ("500 Broken", "7")] {
        retried(HookServer::answering(answer(status, &format!("retry-after: {asked}\r\n"), "")).post().await);
    }
}

#[tokio::test]
async fn answer_that_is_no_json_is_a_result_too() {
    assert_eq!(
        result(HookServer::answering(answer("200 OK", "content-type: text/plain\r\n", "OK\n")).post().await),
        "\"OK\""
    );
    let broken = answer("200 OK", "content-type: application/json\r\n", "{\"a\":");
    assert_eq!(result(HookServer::answering(broken).post().await), r#""{\"a\":""#);
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = HookServer::answering(answer("200 OK", "", ""));
    for status in ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let location = format!("location: http://{}/\r\n", elsewhere.address);
        let failure = retried(HookServer::answering(answer(status, &location, "")).post().await);
        assert_eq!(failure.code, format!("http_{}", &status[..3]));
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn user_and_password_of_a_url_are_sent_as_a_header_and_no_secret_of_it_is_in_a_failure() {
    let hook = HookServer::answering(answer("200 OK", "", "1"));
    let url = format!("http://me:pa%20ss@{}/hook?key=hunter2", hook.address);
    assert_eq!(result(hook.post_with(&json!({"url": url})).await), "1");
    let ReceivedRequest { line, headers, .. } = hook.got.recv().unwrap();
    assert_eq!(
        (line.as_str(), headers["authorization"].as_str()),
        ("POST /hook?key=hunter2 HTTP/1.1", "Basic bWU6cGEgc3M=")
    );
    // The listener is dropped at once, so no program listens on this port.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = json!({"type": "http", "url": format!("http://me:hunter2@{closed}/?key=hunter2")});
    let failure = retried(routes(&away).handle(TestJob::new("q", &1).job()).await);
    assert_eq!(failure.code, "not_connected");
    assert!(!failure.message.contains("hunter2"), "{failure:?}");
}

#[tokio::test]
async fn no_answer_and_garbage_are_failed_attempts() {
    let parts = |failure: Failure| (failure.code, failure.message);
    let closed = "the connection was closed before the answer was whole";
    assert_eq!(parts(retried(HookServer::start(|_| false).post().await)), ("no_answer".into(), closed.into()));
    for garbage in ["\0\x01garbage\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n"] {
        let failure = retried(HookServer::answering(garbage).post().await);
        assert_eq!(parts(failure), ("no_answer".into(), "the answer is not HTTP".into()));
    }
    let odd = retried(HookServer::answering(answer("999 Odd", "", "")).post().await);
    assert_eq!(parts(odd), ("http_999".into(), "the answer was 999".into()));
    let broken_off = HookServer::start(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").unwrap();
        false
    });
    let failure = parts(retried(broken_off.post().await));
    assert_eq!(failure, ("no_answer".into(), format!("the answer 200 OK broke off: {closed}")));
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routes = routes(&json!({"type": "http", "url": format!("http://{unused}/")}));
    let failure = retried(routes.handle(TestJob::new("q", &1).job()).await);
    let refused = "the connection was refused: nothing listens there";
    assert_eq!(parts(failure), ("not_connected".into(), refused.into()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let not_tls = crate::routes(&json!({"type": "http", "url": url}));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            // Until the client closes the connection: unread bytes would reset it.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let failure = parts(retried(not_tls.handle(TestJob::new("q", &1).job()).await));
    assert_eq!(failure.0, "not_connected");
    assert!(failure.1.contains("is not TLS"), "{failure:?}");
}

#[tokio::test]
async fn slow_answer_is_given_up_at_the_time_out() {
    let start = Instant::now();
    let silent = HookServer::start(|_| {
        thread::sleep(PATIENCE);
        false
    });
    assert_eq!(retried(silent.post_with(&json!({"timeout": "300ms"})).await).code, "timed_out");
    let drip = |status: &'static str| {
        HookServer::start(move |mut stream| {
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 1000\r\n\r\n").as_bytes()).unwrap();
            while stream.write_all(b"1").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            false
        })
    };
    assert_eq!(retried(drip("200 OK").post_with(&json!({"timeout": "300ms"})).await).code, "timed_out");
    // The handler does not wait for the rest of an error response, or of an ignored response.
    let patient = json!({"timeout": "20s", "response": "ignore"});
    assert_eq!(failed(drip("400 Bad Request").post_with(&patient).await).code, "http_400");
    assert_eq!(result(drip("200 OK").post_with(&patient).await), "null");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn answer_of_100_mb_is_cut_without_being_read() {
    const MANY: usize = 100_000_000;
    let written = Arc::new(AtomicUsize::new(0));
    let flood = |head: String| {
        let written = Arc::clone(&written);
        HookServer::start(move |mut stream| {
            stream.write_all(head.as_bytes()).unwrap();
            let chunk = [b"2000\r\n".as_slice(), &[b'1'; 0x2000], b"\r\n"].concat();
            for _ in 0..MANY / chunk.len() {
                if stream.write_all(&chunk).is_err() {
                    return false;
                }
                written.fetch_add(chunk.len(), Ordering::SeqCst);
            }
            false
        })
    };
    for framing in [format!("content-length: {MANY}"), "transfer-encoding: chunked".to_owned()] {
        let failure = failed(flood(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).post().await);
        assert_eq!(failure.code, "result_too_large");
        assert!(failure.message.contains("response = \"ignore\""), "{failure:?}");
        let ignoring = flood(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        assert_eq!(result(ignoring.post_with(&json!({"response": "ignore"})).await), "null");
        let refusing = flood(format!("HTTP/1.1 500 Broken\r\n{framing}\r\n\r\n"));
        assert_eq!(retried(refusing.post().await).code, "http_500");
    }
    // The kernel buffers a few megabytes for each connection.
    assert!(written.load(Ordering::SeqCst) < MANY, "{written:?}");
    let most = answer("200 OK", "", &"1".repeat(65_536));
    assert_eq!(result(HookServer::answering(most).post().await).len(), 65_536);
}

#[tokio::test]
async fn connections_are_kept_and_used_again() {
    let hook = HookServer::answering(answer("200 OK", "", "1"));
    let routes = hook.routes(&json!({}));
    for _ in 0..5 {
        assert_eq!(result(routes.handle(TestJob::new("q", &1).job()).await), "1");
    }
    assert_eq!(hook.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_under_way_to_a_host_stay_within_its_limit() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hook = HookServer::start({
        let most = Arc::clone(&most);
        move |mut stream| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            now.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(answer("200 OK", "", "1").as_bytes()).is_ok()
        }
    });
    let routes = hook.routes(&json!({"concurrency": 3}));
    let runs = (0..20).map(|n| routes.handle(TestJob::new("q", &n).job()));
    for outcome in futures_util::future::join_all(runs).await {
        assert_eq!(result(outcome), "1");
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn dropped_run_drops_its_request() {
    let (sender, closed) = channel();
    let hook = HookServer::start(move |mut stream| {
        // Reads until the client closes the connection.
        let _ = sender.send(stream.read(&mut [0]).unwrap_or(0));
        false
    });
    let routes = hook.routes(&json!({}));
    let running = tokio::spawn(async move { routes.handle(TestJob::new("q", &1).job()).await });
    let got = tokio::task::spawn_blocking(move || hook.got.recv_timeout(PATIENCE).map(|got| got.body)).await.unwrap();
    assert_eq!(got.unwrap(), "1");
    running.abort();
    let closed = tokio::task::spawn_blocking(move || closed.recv_timeout(PATIENCE)).await.unwrap();
    assert_eq!(closed.unwrap(), 0);
}

#[tokio::test]
async fn tls_speaks_http_2_and_only_with_trusted_receivers() {
    use tokio_rustls::{TlsAcceptor, rustls};
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let connections = Arc::clone(&connections);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust the certificate closes the connection.
                let Ok(stream) = TlsAcceptor::from(Arc::new(tls.clone())).accept(stream).await else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    let version = format!("{:?}", request.version());
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(version))
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                tokio::spawn(hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service));
            }
        }
    });
    let url = format!("https://localhost:{port}/");
    let trusting = routes(&json!({"type": "http", "url": url, "ca_file": ca_file}));
    let first = trusting.handle(TestJob::new("q", &0).job()).await;
    assert_eq!(result(first), "\"HTTP/2.0\"");
    let runs = (0..20).map(|n| trusting.handle(TestJob::new("q", &n).job()));
    for outcome in futures_util::future::join_all(runs).await {
        assert_eq!(result(outcome), "\"HTTP/2.0\"");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1, "all share a connection");
    let failure = retried(routes(&json!({"type": "http", "url": url})).handle(TestJob::new("q", &1).job()).await);
    assert_eq!(
        (failure.code.as_str(), failure.message.contains("certificate is not trusted")),
        ("not_connected", true),
        "{failure:?}"
    );
    // The certificate is for the name and not for the address.
    let by_address = json!({"type": "http", "url": format!("https://127.0.0.1:{port}/"), "ca_file": ca_file});
    let failure = retried(routes(&by_address).handle(TestJob::new("q", &1).job()).await);
    assert!(failure.message.contains("for another name"), "{failure:?}");
}

#[tokio::test]
async fn message_can_choose_only_allowed_hosts_and_no_private_address() {
    let hook = HookServer::answering(answer("200 OK", "", "1"));
    let port = hook.address.port();
    let allowed =
        json!([format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::ffff:127.0.0.1]:{port}")]);
    let handler = json!({"type": "http", "url_header": "to", "allowed_hosts": allowed});
    let to = |routes: &Routes, url: &str| {
        let (routes, job) = (routes.clone(), TestJob::new("q", &1).header("to", url).job());
        async move { routes.handle(job).await }
    };
    let strict = routes(&handler);
    // `localhost` is resolved by DNS; the other hosts are addresses in different notations.
    for host in ["localhost", "127.0.0.1", "0x7f.1", "2130706433", "[::ffff:127.0.0.1]"] {
        let failure = failed(to(&strict, &format!("http://{host}:{port}/")).await);
        assert_eq!(failure.code, "address_refused", "{host}");
        assert!(failure.message.contains("allowed_networks"), "{failure:?}");
    }
    for url in [
        "http://example.org/",
        "http://localhost/",
        "not a url",
        "file:///etc/passwd",
        &format!("ftp://localhost:{port}/"),
        &format!("http://me@localhost:{port}/"),
        &format!("http://localhost:{port}@example.org/"),
    ] {
        assert_eq!(failed(to(&strict, url).await).code, "url_refused", "{url}");
    }
    assert_eq!(failed(strict.handle(TestJob::new("q", &1).job()).await).code, "url_refused");
    assert_eq!(hook.connections.load(Ordering::SeqCst), 0, "no connection was made");

    let mut handler = handler;
    handler["allowed_networks"] = json!(["127.0.0.0/8"]);
    let lax = routes(&handler);
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(result(to(&lax, &format!("http://{host}:{port}/a")).await), "1");
    }
    assert_eq!(hook.got.recv().unwrap().line, "POST /a HTTP/1.1");
}
