//! docs/API.md says what is: each of its commands works, and is answered as it shows.
//!
//! A block of JSON is the answer to the last command before it. In it `…` stands for any text, `, …}` for other members.
//! Ids, instants and the like are compared by their kind. A `…` that a command sends is a lease, of which one is received.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::System;

struct Example {
    command: String,
    answer: Option<Value>,
}

/// The commands of the page in their order, each with its answer, by the heading that it stands under.
fn examples(page: &str) -> Vec<(String, Example)> {
    let mut examples: Vec<(String, Example)> = Vec::new();
    let (mut heading, mut fence, mut block) = (String::new(), None::<String>, String::new());
    for line in page.lines() {
        match (&fence, line.strip_prefix("```")) {
            (None, Some(language)) => fence = Some(language.to_owned()),
            (None, None) => {
                if let Some(text) = line.strip_prefix('#') {
                    text.trim_start_matches('#').trim().clone_into(&mut heading);
                }
            }
            (Some(language), Some(_)) => {
                match language.as_str() {
                    "sh" => examples.extend(
                        commands(&block)
                            .into_iter()
                            .map(|command| (heading.clone(), Example { command, answer: None })),
                    ),
                    "json" => {
                        let (under, example) = examples.last_mut().unwrap();
                        assert!(*under == heading && example.answer.is_none(), "an answer without a command: {block}");
                        let json = block.replace(", …}", ", \"…\": null}");
                        example.answer =
                            Some(serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {block}")));
                    }
                    _ => {}
                }
                (fence, block) = (None, String::new());
            }
            (Some(_), None) => block = block + line + "\n",
        }
    }
    examples
}

/// The commands of a block that ask the API.
fn commands(block: &str) -> Vec<String> {
    let joined = block.replace("\\\n", " ").replace("|\n", "| ");
    joined.lines().filter(|line| line.contains("curl ")).map(str::to_owned).collect()
}

/// What a command asks for: its method and path.
fn asked(command: &str) -> (String, String) {
    let words: Vec<&str> = command.split([' ', '"']).collect();
    let url = words.iter().find(|word| word.starts_with("$Q") || word.starts_with("http://")).unwrap();
    let path = url.replace("http://127.0.0.1:8080", "").replace("$Q", "/v1/queues/my-queue");
    let method = words.iter().position(|word| *word == "-X").map_or("GET", |at| words[at + 1]);
    (method.to_lowercase(), path.split('?').next().unwrap().to_owned())
}

fn is_at(path: &str, template: &str) -> bool {
    let (path, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len()
        && path.iter().zip(template).all(|(one, other)| *one == other || other.starts_with('{'))
}

/// What a text is, for those that differ from run to run.
pub(super) fn kind(text: &str) -> &str {
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_id = |text: &str| text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text {
        instant if instant.len() == 24 && instant.ends_with('Z') && instant.as_bytes()[10] == b'T' => "an instant",
        id if is_id(id) => "an id",
        lease if lease.len() == 37 && lease.is_char_boundary(14) && is_id(&lease[..14]) => "a lease",
        consumer if consumer.strip_prefix("c-").is_some_and(is_hex) => "a consumer",
        request if request.len() == 16 && is_hex(request) => "a request's id",
        other => other,
    }
}

/// Members that tell how much there is, which depends on what ran before.
const FIGURES: [&str; 3] = ["counts", "totals", "oldest_waiting_age"];

pub(super) fn compare(shown: &Value, real: &Value, place: &str) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let is_whole = !shown.contains_key("…");
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
            // They are there when the Redis of this test is run as no other should be.
            let (mut expected, mut found) = (keys(shown), keys(real));
            for set in [&mut expected, &mut found] {
                set.remove("…");
                set.remove("warnings");
            }
            if is_whole {
                assert_eq!(expected, found, "{place}");
            }
            for name in expected {
                let (place, there) = (format!("{place}/{name}"), real.get(&name));
                let there = there.unwrap_or_else(|| panic!("{place} is not there"));
                if FIGURES.contains(&name.as_str()) {
                    let keys = |value: &Value| value.as_object().map(keys);
                    assert_eq!(keys(&shown[&name]), keys(there), "{place}");
                } else {
                    compare(&shown[&name], there, &place);
                }
            }
        }
        (Value::Array(shown), Value::Array(real)) => {
            assert_eq!(shown.len(), real.len(), "{place}: {real:?}");
            for (at, (shown, real)) in shown.iter().zip(real).enumerate() {
                compare(shown, real, &format!("{place}/{at}"));
            }
        }
        (Value::String(shown), Value::String(real)) if shown != "…" => assert_eq!(kind(shown), kind(real), "{place}"),
        (Value::String(_), Value::String(_)) => {}
        (shown, real) => assert_eq!(shown, real, "{place}"),
    }
}

/// Runs a command as a reader does; its answer, and whether that is one of success.
fn run(command: &str, base: &str) -> (bool, String) {
    let is_stream = command.contains("curl -N");
    let most_secs = if is_stream { "1" } else { "60" };
    let script = format!(
        "curl() {{ command curl --silent --show-error --fail-with-body --max-time {most_secs} \"$@\"; }}\n\
         Q={base}/v1/queues/my-queue\n{}",
        command.replace("http://127.0.0.1:8080", base)
    );
    let output = Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // A stream is cut off by the time limit of curl.
    let is_success = output.status.success() || is_stream && output.status.code() == Some(28);
    (is_success, text)
}

async fn received_lease(system: &System) -> String {
    system.post("my-queue", json!({"data": 1, "priority": -1})).await;
    let leases = "/v1/queues/my-queue/leases";
    let (status, received) = system.ask(reqwest::Method::POST, leases, Some(json!({"max": 1}))).await;
    assert_eq!(status, 200, "{received}");
    received["messages"][0]["lease"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_command_of_the_api_document_works_and_is_answered_as_shown() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/API.md")).unwrap();
    let examples = examples(&page);
    let system = System::start("").await;
    let mut worker = Some(system.worker().await);
    for (heading, Example { command, answer }) in &examples {
        // What is consumed there is not for a worker.
        if heading == "Consume over HTTP"
            && let Some(mut worker) = worker.take()
        {
            worker.terminate();
        }
        let mut command = command.clone();
        if command.contains("\"lease\": \"…\"") {
            command = command.replace('…', &received_lease(&system).await);
        }
        let (base, asked) = (system.base.clone(), command.clone());
        let (is_success, real) = tokio::task::spawn_blocking(move || run(&asked, &base)).await.unwrap();
        let is_refusal = answer.as_ref().is_some_and(|answer| answer["status"].as_u64() >= Some(400));
        assert_eq!(is_success, !is_refusal, "{command}: {real}");
        if let Some(answer) = answer {
            let real = serde_json::from_str(&real).unwrap_or_else(|error| panic!("{command}: {error}: {real}"));
            compare(answer, &real, &command);
        }
    }
    let description = system.get("/openapi.json").await;
    let asked: Vec<(String, String)> = examples.iter().map(|(_, example)| asked(&example.command)).collect();
    for (template, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let is_shown = asked.iter().any(|(shown, path)| shown == method && is_at(path, template));
            assert!(is_shown, "docs/API.md has no command for {method} {template}");
        }
    }
}

#[tokio::test]
async fn docs_page_loads_nothing_from_another_host() {
    let system = System::start("").await;
    for path in ["/docs", "/docs/start.js"] {
        let answer = system.http.get(system.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("http"), "{policy}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains("://"), "{path}: {text}");
        // What the page loads is there, and is told as what it is.
        for part in text.split('"').filter(|part| part.starts_with('/') && !part.contains(' ')) {
            let answer = system.http.get(system.url(part)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{part}");
            let kind = match part.rsplit('.').next().unwrap() {
                "js" => "text/javascript",
                "css" => "text/css",
                "png" => "image/png",
                _ => "application/json",
            };
            assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(kind), "{part}");
        }
    }
    let nothing = system.http.get(system.url("/docs/index.html")).send().await.unwrap();
    assert_eq!(nothing.status(), 404, "the page that Swagger UI brings along asks other hosts");
}
