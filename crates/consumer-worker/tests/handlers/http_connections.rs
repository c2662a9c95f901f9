//! Tests of the connections of the handler `http`: receivers that do not answer, are slow or send too much; reuse of
//! connections, limits and TLS.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    thread,
    time::{Duration, Instant},
};

use consumer_worker::{Failure, TestJob};
use drover_tests::TIME_LIMIT;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::json;

use crate::{
    completed_result, failure_for_good, failure_with_retry,
    hook_server::{HookServer, answer},
    routes,
};

#[tokio::test]
async fn closed_connections_and_invalid_http_responses_are_failed_attempts() {
    let parts = |failure: Failure| (failure.code, failure.message);
    let closed_error = "the connection was closed before the answer was whole";
    assert_eq!(
        parts(failure_with_retry(HookServer::start(|_| false).post().await)),
        ("no_answer".into(), closed_error.into())
    );
    for garbage in ["\0\x01garbage\r\n\r\n", "HTTP/9.9 200 OK\r\n\r\n"] {
        let failure = failure_with_retry(HookServer::with_answer(garbage).post().await);
        assert_eq!(parts(failure), ("no_answer".into(), "the answer is not HTTP".into()));
    }
    let odd_status_failure = failure_with_retry(HookServer::with_answer(answer("999 Odd", "", "")).post().await);
    assert_eq!(parts(odd_status_failure), ("http_999".into(), "the answer was 999".into()));
    let broken_server = HookServer::start(|mut stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").unwrap();
        false
    });
    let failure = parts(failure_with_retry(broken_server.post().await));
    assert_eq!(failure, ("no_answer".into(), format!("the answer 200 OK broke off: {closed_error}")));
    let unused_address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let routes = routes(&json!({"type": "http", "url": format!("http://{unused_address}/")}));
    let failure = failure_with_retry(routes.handle(TestJob::new("q", &1).job()).await);
    let refused_error = "the connection was refused: nothing listens there";
    assert_eq!(parts(failure), ("not_connected".into(), refused_error.into()));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let plain_http_routes = crate::routes(&json!({"type": "http", "url": url}));
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
            // The receiver reads until the client closes the connection, because unread bytes would reset the connection.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let failure = parts(failure_with_retry(plain_http_routes.handle(TestJob::new("q", &1).job()).await));
    assert_eq!(failure.0, "not_connected");
    assert!(failure.1.contains("is not TLS"), "{failure:?}");
}

#[tokio::test]
async fn slow_http_response_is_given_up_at_the_time_out() {
    let start_time = Instant::now();
    let silent_server = HookServer::start(|_| {
        thread::sleep(TIME_LIMIT);
        false
    });
    assert_eq!(failure_with_retry(silent_server.post_with_keys(&json!({"timeout": "300ms"})).await).code, "timed_out");
    let slow_server = |status: &'static str| {
        HookServer::start(move |mut stream| {
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 1000\r\n\r\n").as_bytes()).unwrap();
            while stream.write_all(b"1").is_ok() {
                thread::sleep(Duration::from_millis(20));
            }
            false
        })
    };
    assert_eq!(
        failure_with_retry(slow_server("200 OK").post_with_keys(&json!({"timeout": "300ms"})).await).code,
        "timed_out"
    );
    // The handler does not wait for the rest of an error response, or of an ignored response.
    let patient_handler = json!({"timeout": "20s", "response": "ignore"});
    assert_eq!(
        failure_for_good(slow_server("400 Bad Request").post_with_keys(&patient_handler).await).code,
        "http_400"
    );
    assert_eq!(completed_result(slow_server("200 OK").post_with_keys(&patient_handler).await), "null");
    assert!(start_time.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn http_response_of_100_mb_is_not_read_to_its_end() {
    const ANSWER_BYTES: usize = 100_000_000;
    let written_bytes = Arc::new(AtomicUsize::new(0));
    let flooding_server = |head: String| {
        let written_bytes = Arc::clone(&written_bytes);
        HookServer::start(move |mut stream| {
            stream.write_all(head.as_bytes()).unwrap();
            let http_chunk = [b"2000\r\n".as_slice(), &[b'1'; 0x2000], b"\r\n"].concat();
            for _ in 0..ANSWER_BYTES / http_chunk.len() {
                if stream.write_all(&http_chunk).is_err() {
                    return false;
                }
                written_bytes.fetch_add(http_chunk.len(), Ordering::SeqCst);
            }
            false
        })
    };
    for framing in [format!("content-length: {ANSWER_BYTES}"), "transfer-encoding: chunked".to_owned()] {
        let failure = failure_for_good(flooding_server(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).post().await);
        assert_eq!(failure.code, "result_too_large");
        assert!(failure.message.contains("response = \"ignore\""), "{failure:?}");
        let ignoring_server = flooding_server(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"));
        assert_eq!(completed_result(ignoring_server.post_with_keys(&json!({"response": "ignore"})).await), "null");
        let refusing_server = flooding_server(format!("HTTP/1.1 500 Broken\r\n{framing}\r\n\r\n"));
        assert_eq!(failure_with_retry(refusing_server.post().await).code, "http_500");
    }
    // The kernel buffers a few megabytes for each connection.
    assert!(written_bytes.load(Ordering::SeqCst) < ANSWER_BYTES, "{written_bytes:?}");
    let max_answer = answer("200 OK", "", &"1".repeat(65_536));
    assert_eq!(completed_result(HookServer::with_answer(max_answer).post().await).len(), 65_536);
}

#[tokio::test]
async fn connections_to_receivers_are_kept_and_used_again() {
    let hook_server = HookServer::with_answer(answer("200 OK", "", "1"));
    let routes = hook_server.routes(&json!({}));
    for _ in 0..5 {
        assert_eq!(completed_result(routes.handle(TestJob::new("q", &1).job()).await), "1");
    }
    assert_eq!(hook_server.connection_count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn concurrent_requests_to_a_host_stay_within_its_limit() {
    let (running_count, max_running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hook_server = HookServer::start({
        let max_running = Arc::clone(&max_running);
        move |mut stream| {
            max_running.fetch_max(running_count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            running_count.fetch_sub(1, Ordering::SeqCst);
            stream.write_all(answer("200 OK", "", "1").as_bytes()).is_ok()
        }
    });
    let routes = hook_server.routes(&json!({"concurrency": 3}));
    let runs = (0..20).map(|n| routes.handle(TestJob::new("q", &n).job()));
    for outcome in futures_util::future::join_all(runs).await {
        assert_eq!(completed_result(outcome), "1");
    }
    assert_eq!(max_running.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn dropped_run_of_a_handler_drops_its_http_request() {
    let (sender, closed) = channel();
    let hook_server = HookServer::start(move |mut stream| {
        // The receiver reads until the client closes the connection.
        let _ = sender.send(stream.read(&mut [0]).unwrap_or(0));
        false
    });
    let routes = hook_server.routes(&json!({}));
    let running_request = tokio::spawn(async move { routes.handle(TestJob::new("q", &1).job()).await });
    let body =
        tokio::task::spawn_blocking(move || hook_server.requests.recv_timeout(TIME_LIMIT).map(|request| request.body))
            .await
            .unwrap();
    assert_eq!(body.unwrap(), "1");
    running_request.abort();
    let close_result = tokio::task::spawn_blocking(move || closed.recv_timeout(TIME_LIMIT)).await.unwrap();
    assert_eq!(close_result.unwrap(), 0);
}

#[tokio::test]
async fn requests_over_tls_use_http_2_and_go_only_to_trusted_receivers() {
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
    let connection_count = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let connection_count = Arc::clone(&connection_count);
        async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not trust the certificate closes the connection.
                let Ok(stream) = TlsAcceptor::from(Arc::new(tls.clone())).accept(stream).await else { continue };
                connection_count.fetch_add(1, Ordering::SeqCst);
                let service = hyper::service::service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                    let http_version = format!("{:?}", request.version());
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(http_version))
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                tokio::spawn(hyper::server::conn::http2::Builder::new(executor).serve_connection(io, service));
            }
        }
    });
    let url = format!("https://localhost:{port}/");
    let trusting_routes = routes(&json!({"type": "http", "url": url, "ca_file": ca_file}));
    let first_outcome = trusting_routes.handle(TestJob::new("q", &0).job()).await;
    assert_eq!(completed_result(first_outcome), "\"HTTP/2.0\"");
    let runs = (0..20).map(|n| trusting_routes.handle(TestJob::new("q", &n).job()));
    for outcome in futures_util::future::join_all(runs).await {
        assert_eq!(completed_result(outcome), "\"HTTP/2.0\"");
    }
    assert_eq!(connection_count.load(Ordering::SeqCst), 1, "all requests share one connection");
    let failure =
        failure_with_retry(routes(&json!({"type": "http", "url": url})).handle(TestJob::new("q", &1).job()).await);
    assert_eq!(
        (failure.code.as_str(), failure.message.contains("certificate is not trusted")),
        ("not_connected", true),
        "{failure:?}"
    );
    // The receiver's certificate is for the host name `localhost` and not for the address 127.0.0.1.
    let handler_by_address = json!({"type": "http", "url": format!("https://127.0.0.1:{port}/"), "ca_file": ca_file});
    let failure = failure_with_retry(routes(&handler_by_address).handle(TestJob::new("q", &1).job()).await);
    assert!(failure.message.contains("for another name"), "{failure:?}");
}
