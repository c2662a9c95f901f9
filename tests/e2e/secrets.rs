//! Tests that no secret of the configuration occurs in logs, errors, responses, printed configurations or environments of
//! programs.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
};

use drover_tests::{binary, free_port};
use serde_json::json;

use crate::System;

/// A text that every secret in the tests contains. `SECRET` is valid base64, so that `WEBHOOK_SECRET` is a valid secret of a webhook.
const SECRET: &str = "hunter2hunter2hunter2hunter2hunt";
const WEBHOOK_SECRET: &str = "whsec_hunter2hunter2hunter2hunter2hunt";

fn assert_no_secret(place: &str, text: &str) {
    assert!(!text.contains("hunter2"), "{place} contains a secret: {text}");
}

/// Runs a binary with this environment and configuration file. Returns whether the binary succeeded, and the output of the
/// binary.
fn run_binary(name: &str, args: &[&str], env: &[(&str, &str)], config: &str) -> (bool, String) {
    let config_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config_file.path(), config).unwrap();
    let output = Command::new(binary(name))
        .args(["--config", config_file.path().to_str().unwrap()])
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), output_text)
}

#[test]
fn refused_configuration_is_reported_without_its_secrets() {
    let hook_handler =
        |handler: &str| format!("[[worker.routes]]\nqueue = \"q\"\nhandler = {{ type = \"http\", {handler} }}\n");
    let url = format!("redis://user:{SECRET}@h:1");
    let files = [
        format!("[redis]\nurl = \"{url}"),
        format!("[redis]\nurl = {url}"),
        format!("[redis]\nurl = [\"{url}\"]"),
        format!("[redis]\nurl = \"user:{SECRET}@h:port\""),
        format!("[redis]\nurl = \"http://user:{SECRET}@h\""),
        format!("[auth]\nkeys = [\"drv_ops_{SECRET}\"]"),
        format!("[auth]\nkeys = \"drv_ops_{SECRET}\""),
        format!("[auth]\nmode = \"drv_ops_{SECRET}\""),
        format!(
            "[auth]\nkeys = [{{ id = \"ops\", hash = \"drv_ops_{SECRET}\", scopes = [\"read\"], queues = [\"*\"] }}]"
        ),
        format!("[auth]\nkeys = [{{ id = \"drv ops {SECRET}\" }}]"),
        format!("[traces]\nendpoint = \"ftp://me:{SECRET}@h\""),
        format!("[traces]\nendpoint = \"http://h?token={SECRET}\""),
        format!("[api]\ncors_origins = [\"https://me:{SECRET}@h\"]"),
        format!("[api]\nbind = \"me:{SECRET}@h:1\""),
        format!("[log]\nfilter = \"={SECRET}=\""),
    ];
    let hooks = [
        hook_handler(&format!("url = \"ftp://me:{SECRET}@h\"")),
        hook_handler(&format!("url = \"me:{SECRET}@h\"")),
        hook_handler(&format!("url = \"https://me:{SECRET}@h:port\"")),
        hook_handler(&format!("url = \"http://h\", secret = \"{SECRET}\"")),
        hook_handler(&format!("url = \"http://h\", secret = [\"{WEBHOOK_SECRET}x\"]")),
        hook_handler(&format!("url = \"http://h\", secret = {{ a = \"{WEBHOOK_SECRET}\" }}")),
        hook_handler(&format!("url = \"http://h\", secret_file = \"{WEBHOOK_SECRET}\"")),
        hook_handler(&format!("url = \"https://h\", ca_file = \"-----BEGIN {SECRET}\"")),
        hook_handler(&format!("url_header = \"to\", allowed_hosts = [\"https://me:{SECRET}@h\"]")),
    ];
    for file in &files {
        for name in ["producer-api", "consumer-worker"] {
            let (started, output) = run_binary(name, &[], &[("DROVER__WORKER__BIND", "127.0.0.1:0")], file);
            assert!(!started && !output.is_empty(), "{file}");
            assert_no_secret("an error", &output);
        }
    }
    for file in &hooks {
        let (started, output) = run_binary("consumer-worker", &[], &[("DROVER__WORKER__BIND", "127.0.0.1:0")], file);
        assert!(!started && !output.is_empty(), "{file}");
        assert_no_secret("an error", &output);
        // The API does not read or print the routes of workers.
        let (printed, shown) = run_binary("producer-api", &["--print-config"], &[], file);
        assert!(printed, "{shown}");
        assert_no_secret("the printed configuration", &shown);
    }
    for (variable, value) in [
        ("DROVER__AUTH__KEYS", format!("[\"drv_ops_{SECRET}\"]")),
        ("DROVER__AUTH__KEYS", format!("[{SECRET}")),
        ("DROVER__REDIS__URL_FILE", url.clone()),
        ("DROVER_REDIS_URL", url.clone()),
        ("DROVER__TRACES__ENDPOINT", format!("me:{SECRET}@h")),
        (
            "DROVER__WORKER__ROUTES",
            format!("[{{\"queue\": \"q\", \"handler\": {{\"type\": \"http\", \"secret\": \"{SECRET}\"}}}}]"),
        ),
    ] {
        let (started, output) = run_binary("consumer-worker", &["--print-config"], &[(variable, &value)], "");
        assert!(!started && !output.is_empty(), "{variable}");
        assert_no_secret("an error of the environment", &output);
    }
}

/// Each configuration of the test has a secret in place of the path of a file or an argument.
#[test]
fn secret_in_place_of_a_path_in_the_configuration_is_not_shown() {
    let key = format!("drv_ops_{SECRET}");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{SECRET}\n-----END PRIVATE KEY-----");
    let hook_handler = format!("url = \"http://h\", secret_file = \"{WEBHOOK_SECRET}\"");
    let hook_route = format!("[[worker.routes]]\nqueue = \"q\"\nhandler = {{ type = \"http\", {hook_handler} }}\n");
    let command = format!(
        "[[worker.routes]]\nqueue = \"q\"\nhandler = {{ type = \"exec\", command = [\"env\", \"TOKEN={SECRET}\"] }}"
    );
    let certificate_file = tempfile::NamedTempFile::new().unwrap();
    let certificate = ("DROVER__API__TLS__CERTIFICATE", certificate_file.path().to_str().unwrap());
    for (env, config, expected) in [
        (vec![("DROVER__AUTH__KEYS_FILE", &*key)], "", Some(("producer-api", "auth.keys_file: can't read ***"))),
        (
            vec![certificate, ("DROVER__API__TLS__KEY", &*pem)],
            "",
            Some(("producer-api", "api.tls.key: can't read ***")),
        ),
        (vec![], &*hook_route, Some(("consumer-worker", "secret_file: ***"))),
        (vec![], &*command, None),
    ] {
        let env = [env, vec![("DROVER__WORKER__BIND", "127.0.0.1:0"), ("DROVER__API__BIND", "127.0.0.1:0")]].concat();
        if let Some((name, expected)) = expected {
            let (started, output) = run_binary(name, &[], &env, config);
            assert!(!started && output.contains(expected), "{output}");
            assert_no_secret("an error", &output);
        }
        for name in ["producer-api", "consumer-worker"] {
            let (printed, output) = run_binary(name, &["--print-config"], &env, config);
            assert!(printed, "{output}");
            assert_no_secret("the printed configuration", &output);
        }
    }
}

/// Starts a collector that answers each request with an error.
fn failing_collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let _ = client.read(&mut [0; 4_096]);
            let _ = client.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n");
        }
    });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_log_an_answer_the_printed_configuration_or_the_environment_of_a_program() {
    let collector = failing_collector();
    let secret_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret_file.path(), WEBHOOK_SECRET).unwrap();
    let config = format!(
        r#"
        [log]
        filter = "trace"
        [traces]
        endpoint = "http://me:{SECRET}@{collector}"
        [queues."*"]
        max_attempts = 1
        [[worker.routes]]
        queue = "program"
        handler = {{ type = "exec", command = ["env"] }}
        [[worker.routes]]
        queue = "away"
        handler = {{ type = "http", url = "http://me:{SECRET}@127.0.0.1:{}/?token={SECRET}", secret = "{WEBHOOK_SECRET}", secret_file = "{}" }}
        [[worker.routes]]
        queue = "refusing"
        handler = {{ type = "http", url = "http://me:{SECRET}@{collector}/?token={SECRET}", secret = ["{WEBHOOK_SECRET}"] }}
        "#,
        free_port(),
        secret_file.path().display(),
    );
    let redis = drover_tests::RedisServer::start();
    // The default user of Redis accepts any password.
    let url = redis.url().replace("redis://", &format!("redis://default:{SECRET}@"));
    let system = System::launch(redis, url.clone(), &config);
    system.wait_until_ready(&system.base).await;
    let secrets = [
        ("OTEL_EXPORTER_OTLP_HEADERS", format!("authorization={SECRET}")),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", format!("authorization={SECRET}")),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://me:{SECRET}@{collector}")),
        ("DROVER_SOMETHING", SECRET.to_owned()),
        // The worker gets the password of Redis in a variable of its own, not in the URL.
        ("DROVER__REDIS__URL", system.redis.url()),
        ("DROVER__REDIS__USERNAME", "default".to_owned()),
        ("DROVER__REDIS__PASSWORD", SECRET.to_owned()),
    ];
    let secrets: Vec<(&str, &str)> = secrets.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let worker = system.worker_with(&secrets).await;

    for (queue, state) in [("program", "completed"), ("away", "failed"), ("refusing", "failed")] {
        let message = system.finished(&system.post(queue, json!({"data": 1})).await).await;
        assert_eq!(message["state"], state, "{message}");
        assert_no_secret("a message", &message.to_string());
    }
    worker.wait_for_log("traces can't be sent");
    let request = system.http.get(system.url("/v1/queues")).header("authorization", format!("Bearer drv_ops_{SECRET}"));
    request.send().await.unwrap();
    for path in ["/metrics", "/readyz", "/openapi.json"] {
        assert_no_secret(path, &system.http.get(system.url(path)).send().await.unwrap().text().await.unwrap());
    }
    for name in ["producer-api", "consumer-worker"] {
        let passwords_beside_the_url =
            [("DROVER__REDIS__PASSWORD", SECRET), ("DROVER__REDIS__SENTINEL__PASSWORD", SECRET)];
        for env in [&[("DROVER__REDIS__URL", url.as_str())][..], &passwords_beside_the_url] {
            let (printed, output) = run_binary(name, &["--print-config"], env, &config);
            assert!(printed, "{output}");
            assert_no_secret("the printed configuration", &output);
        }
    }
    let mut system = system;
    system.redis.kill();
    system.api.wait_for_log("the subscription to Redis broke");
    for log in [worker.log(), system.api.log()] {
        assert_no_secret("a log", &log.join("\n"));
    }
}
