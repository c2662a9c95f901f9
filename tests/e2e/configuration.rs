//! Tests of the configuration of the real binaries: the command line, the environment, settings by pattern, addresses, and
//! output that can't be written.

use std::{
    ffi::OsString,
    fs::File,
    os::unix::ffi::OsStringExt,
    process::{Command, Output, Stdio},
};

use drover_tests::{Process, binary, free_port};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::System;

const SETTINGS_BY_PATTERN: &str = r#"
    [queues."*"]
    max_attempts = 2
    max_lapses = 2
    retention.completed = { count = 20 }
    [queues."user-*"]
    max_attempts = 4
    retention.completed = { age = "2h" }
    [queues.user-1]
    max_attempts = 6
    [worker]
    routes = []
"#;

/// Returns a command that runs a binary with an empty environment.
fn command_with_empty_environment(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(binary(name));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn read_settings(system: &System, queue: &str) -> Value {
    system.get(&format!("/v1/queues/{queue}")).await["settings"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn new_queue_has_the_settings_of_all_patterns_that_match_it() {
    let mut system = System::start(SETTINGS_BY_PATTERN).await;
    for queue in ["other", "user-2", "user-1"] {
        system.post(queue, json!({"data": 1})).await;
    }
    for (queue, max_attempts, age) in [("other", 2, 86_400_000), ("user-2", 4, 7_200_000), ("user-1", 6, 7_200_000)] {
        let settings = read_settings(&system, queue).await;
        assert_eq!((&settings["max_attempts"], &settings["max_lapses"]), (&json!(max_attempts), &json!(2)), "{queue}");
        let kept_completed = &settings["retention"]["completed"];
        assert_eq!((&kept_completed["count"], &kept_completed["age"]), (&json!(20), &json!(age)), "{queue}");
    }
    // A patched setting stays until a process declares the queue again.
    let patched_settings = system.patch("user-2", json!({"max_attempts": 9, "timeout": "1h"})).await;
    assert_eq!(patched_settings["settings"]["max_attempts"], 9);
    system.post("user-2", json!({"data": 1})).await;
    assert_eq!(read_settings(&system, "user-2").await["max_attempts"], 9);
    assert!(system.api.terminate().success());
    system.relaunch_api();
    system.wait_until_ready(&system.base).await;
    system.post("user-2", json!({"data": 1})).await;
    let declared_settings = read_settings(&system, "user-2").await;
    assert_eq!((&declared_settings["max_attempts"], &declared_settings["timeout"]), (&json!(4), &json!(3_600_000)));
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_by_exact_name_create_a_queue_and_settings_by_pattern_create_none() {
    let system = System::start(SETTINGS_BY_PATTERN).await;
    let queue_names = async || {
        let queue_names = system.queues().names().await.unwrap();
        queue_names.into_iter().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    while queue_names().await.is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(queue_names().await, ["user-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_declares_settings_by_pattern_from_its_environment_case_sensitively() {
    let system = System::start("").await;
    let routes = r#"[{"queue": "User-*", "handler": {"type": "log", "result": 7}}]"#;
    let _worker = system
        .worker_with(&[
            ("DROVER__WORKER__ROUTES", routes),
            ("DROVER__QUEUES__User-*__MAX_ATTEMPTS", "7"),
            ("DROVER__QUEUES__User-*__RATE_LIMIT__MAX", "1000"),
            ("DROVER__QUEUES__User-*__RATE_LIMIT__DURATION", "1s"),
            ("DROVER__QUEUES__user-*__MAX_LAPSES", "9"),
        ])
        .await;
    let message = system.finished(&system.post("User-1", json!({"data": 1})).await).await;
    assert_eq!(message["result"], 7);
    let settings = read_settings(&system, "User-1").await;
    assert_eq!((&settings["max_attempts"], &settings["max_lapses"]), (&json!(7), &json!(3)));
    assert_eq!(settings["rate_limit"], json!({"max": 1_000, "duration": 1_000}));
}

#[test]
fn variable_that_is_not_utf_8_is_refused_by_name_only_if_it_belongs_to_drover() {
    for name in ["producer-api", "consumer-worker"] {
        let invalid_utf_8 = || OsString::from_vec(b"caf\xe9".to_vec());
        let accepted_run =
            command_with_empty_environment(name, &["--print-config"]).env("LEGACY", invalid_utf_8()).output().unwrap();
        assert!(accepted_run.status.success(), "{}", output_text(&accepted_run));
        let refused_run = command_with_empty_environment(name, &["--print-config"])
            .env("DROVER__LOG__FILTER", invalid_utf_8())
            .output()
            .unwrap();
        assert_eq!(refused_run.status.code(), Some(1));
        assert!(
            output_text(&refused_run).contains("DROVER__LOG__FILTER is not UTF-8"),
            "{}",
            output_text(&refused_run)
        );
        let misspelled_run =
            command_with_empty_environment(name, &[]).env("DROVER_REDIS_URL", "redis://cache").output().unwrap();
        assert_eq!(misspelled_run.status.code(), Some(1));
        assert!(
            output_text(&misspelled_run).contains("did you mean DROVER__REDIS__URL?"),
            "{}",
            output_text(&misspelled_run)
        );
    }
}

#[test]
fn unwritable_output_is_reported_as_an_error_and_causes_no_panic() {
    let full_device = || File::options().write(true).open("/dev/full").unwrap();
    for (name, args) in [
        ("producer-api", &["--print-config"][..]),
        ("producer-api", &["--help"]),
        ("producer-api", &["--version"]),
        ("producer-api", &["key", "--help"]),
        ("producer-api", &["key", "--id", "ops", "--scopes", "read"]),
        ("consumer-worker", &["--print-config"]),
        ("consumer-worker", &["--help"]),
        ("consumer-worker", &["--version"]),
    ] {
        let output = command_with_empty_environment(name, args).stdout(full_device()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name} {args:?}: {}", output_text(&output));
        assert!(
            !output_text(&output).is_empty() && !output_text(&output).contains("panicked"),
            "{name} {args:?}: {}",
            output_text(&output)
        );
        let silent_run =
            command_with_empty_environment(name, args).stdout(full_device()).stderr(full_device()).status().unwrap();
        assert_eq!(silent_run.code(), Some(1), "{name} {args:?}");
    }
    for args in [&["--no-such-argument"][..], &["--config", "/nowhere"]] {
        let silent_run = command_with_empty_environment("producer-api", args).stderr(full_device()).status().unwrap();
        assert!(matches!(silent_run.code(), Some(1 | 2)), "{args:?}: {silent_run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn service_works_when_its_log_cannot_be_written() {
    let system = System::start("").await;
    let full_device = || File::options().write(true).open("/dev/full").unwrap();
    let bind_address = format!("localhost:{}", free_port());
    let mut api = command_with_empty_environment("producer-api", &[])
        .env("DROVER__REDIS__URL", &system.redis_url)
        .env("DROVER__API__BIND", &bind_address)
        .stdout(full_device())
        .stderr(full_device())
        .spawn()
        .unwrap();
    system.wait_until_ready(&format!("http://{}", bind_address.replace("localhost", "127.0.0.1"))).await;
    assert!(api.try_wait().unwrap().is_none(), "the API still runs");
    api.kill().unwrap();
    api.wait().unwrap();
}

#[test]
fn malformed_or_unresolvable_bind_address_stops_the_start_with_a_reason() {
    for (bind, expected) in [
        ("8080", "api.bind: expected a host and a port, such as \"127.0.0.1:8080\", \"localhost:8080\""),
        ("nowhere.invalid:0", "can't listen on nowhere.invalid:0"),
    ] {
        let env = [("DROVER__API__BIND", bind), ("DROVER__AUTH__MODE", "none")];
        let mut process = Process::start("producer-api", &[], &env);
        process.wait_for_log(expected);
        assert!(!process.wait().success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_path_on_the_port_of_a_worker_is_answered_with_the_paths_that_it_serves() {
    let system = System::start("").await;
    let (_worker, url) = system.worker_and_url(&[]).await;
    let answer = system.http.get(format!("{url}/v1/queues")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let problem: Value = answer.json().await.unwrap();
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("/livez, /readyz and /metrics") && !detail.contains("/v1"), "{problem}");
    assert_eq!(problem["code"], "not_found");
}

#[test]
fn binaries_print_help_version_and_configuration_and_explain_mistakes() {
    for name in ["producer-api", "consumer-worker"] {
        for (argument, expected) in [("--help", "--config"), ("--version", "0."), ("--print-config", "[worker]")] {
            let mut process = Process::start(name, &[argument], &[("DROVER__REDIS__URL", "redis://:hunter2@h:1")]);
            assert!(process.wait().success(), "{name} {argument}");
            process.wait_for_log(expected);
            assert!(!process.log().join("\n").contains("hunter2"), "no password in {argument}");
        }
        let mut process = Process::start(name, &[], &[("DROVER__WORKER__CONCURENCY", "1")]);
        assert!(!process.wait().success());
        process.wait_for_log("did you mean \"concurrency\"?");
        let mut process = Process::start(name, &[], &[("DROVER__API__BIND", "0.0.0.0:0")]);
        assert!(!process.wait().success());
        process.wait_for_log("auth.mode = \"none\"");
    }
}
