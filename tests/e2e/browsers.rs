//! Tests of the protection of browsers' users: security headers, CORS, and requests of other origins or with other host names.

use crate::{System, number};

#[tokio::test]
async fn answers_have_security_headers_and_cors_is_allowed_only_for_configured_origins() {
    let config = "[api]\ncors_origins = [\"https://admin.example.org\"]\n";
    for (system, is_allowed) in [(System::start("").await, false), (System::start(config).await, true)] {
        let request_with_origin = async |request: &str| {
            let preflight_headers =
                "host: a\r\norigin: https://admin.example.org\r\naccess-control-request-method: POST\r\n\r\n";
            system.connect().await.request(&format!("{request} HTTP/1.1\r\n{preflight_headers}")).await
        };
        for path in ["/livez", "/nowhere"] {
            let answer = request_with_origin(&format!("GET {path}")).await;
            for header in ["x-content-type-options: nosniff", "cache-control: no-store", "referrer-policy: no-referrer"]
            {
                assert!(answer.head.contains(header), "{answer:?}");
            }
            assert!(!answer.head.contains("strict-transport-security"), "{answer:?}");
            let allows_origin = answer.head.contains("access-control-allow-origin: https://admin.example.org\r\n");
            assert_eq!(allows_origin, is_allowed, "{answer:?}");
        }
        assert_eq!(request_with_origin("OPTIONS /v1/queues/q/pause").await.status, if is_allowed { 200 } else { 405 });
    }
}

#[tokio::test]
async fn request_of_a_web_page_of_another_origin_is_refused_unless_configured() {
    let config = "[api]\ncors_origins = [\"https://admin.example.org\"]\n";
    let system = System::start(config).await;
    system.post("q", number(1)).await;
    let purge = async |from: &str| {
        let request_head =
            "POST /v1/queues/q/purge?state=delayed HTTP/1.1\r\nhost: localhost:1\r\ncontent-length: 0\r\n";
        system.connect().await.request(&format!("{request_head}{from}\r\n")).await
    };
    for other in ["https://evil.example.org", "null", "http://localhost:2", "https://admin.example.org.evil"] {
        let answer = purge(&format!("origin: {other}\r\n")).await;
        assert!(answer.status == 403 && answer.body.contains("foreign_origin"), "{other}: {answer:?}");
    }
    for own in ["", "origin: http://localhost:1\r\n", "origin: https://admin.example.org\r\n"] {
        assert_eq!(purge(own).await.status, 200, "{own}");
    }
}

#[tokio::test]
async fn request_with_another_host_name_than_localhost_is_refused() {
    let key = "keys = [{ id = \"a\", hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\", \
               scopes = [\"read\"], queues = [\"*\"] }]";
    for (config, status) in [("", 421), (&*format!("[auth]\n{key}\n"), 401)] {
        let system = System::start(config).await;
        let request_with_host = async |host: &str| {
            let request = format!("GET /v1/queues HTTP/1.1\r\n{host}\r\n");
            system.connect().await.request(&request).await
        };
        let answer = request_with_host("host: evil.example.org\r\norigin: http://evil.example.org\r\n").await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.status != 421 || answer.body.contains("\"code\":\"foreign_host\""), "{answer:?}");
        for (host, status) in [("", 400), ("host: localhost\r\nhost: localhost\r\n", 400)] {
            let answer = request_with_host(host).await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert!(answer.body.contains("malformed_request") && answer.head.contains("x-request-id"), "{answer:?}");
        }
    }
}
