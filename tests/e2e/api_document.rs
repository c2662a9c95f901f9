//! Tests that each command of docs/API.md works and is answered as shown, and that the page `/docs` loads nothing from other
//! hosts.
//!
//! In the document, a block of JSON is the answer to the last command before the block. A `…` in a command stands for the token
//! of a lease, which the test receives before it runs the command.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    System,
    markdown::{Block, blocks, compare, document, shown_json},
};

/// A command of docs/API.md and the answer that the document shows for the command.
struct DocumentedExample {
    command: String,
    answer: Option<Value>,
}

/// Returns the commands of the document in their order, each with its answer and the heading above it.
fn documented_examples(document: &str) -> Vec<(String, DocumentedExample)> {
    let mut examples: Vec<(String, DocumentedExample)> = Vec::new();
    for Block { heading, language, text } in blocks(document) {
        match language {
            "sh" => examples.extend(
                request_commands(&text)
                    .into_iter()
                    .map(|command| (heading.to_owned(), DocumentedExample { command, answer: None })),
            ),
            "json" => {
                let (command_heading, example) = examples.last_mut().unwrap();
                assert!(*command_heading == heading && example.answer.is_none(), "an answer has no command: {text}");
                example.answer = Some(shown_json(&text));
            }
            _ => {}
        }
    }
    examples
}

/// Returns the commands of a block that send requests to the API.
fn request_commands(block: &str) -> Vec<String> {
    let joined_lines = block.replace("\\\n", " ").replace("|\n", "| ");
    joined_lines.lines().filter(|line| line.contains("curl ")).map(str::to_owned).collect()
}

/// Returns the method and path of a command. Without `-X`, curl sends a POST if the command has a body, otherwise a GET.
fn method_and_path(command: &str) -> (String, String) {
    let command_words: Vec<&str> = command.split([' ', '"']).collect();
    let url = command_words.iter().find(|word| word.starts_with("$Q") || word.starts_with("http://")).unwrap();
    let path = url.replace("http://127.0.0.1:8080", "").replace("$Q", "/v1/queues/my-queue");
    let default_method = if command_words.contains(&"-d") { "POST" } else { "GET" };
    let method =
        command_words.iter().position(|word| *word == "-X").map_or(default_method, |index| command_words[index + 1]);
    (method.to_lowercase(), path.split('?').next().unwrap().to_owned())
}

/// Returns whether a path matches a path template of the `OpenAPI` document, which has names in braces.
fn path_matches_template(path: &str, template: &str) -> bool {
    let (path, template): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len()
        && path.iter().zip(template).all(|(one, other)| *one == other || other.starts_with('{'))
}

/// Runs a command of the document in a shell, as a reader does. Returns whether the answer is a success, and the text of the
/// answer.
fn run_command(command: &str, base: &str) -> (bool, String) {
    let is_stream = command.contains("curl -N");
    let max_secs = if is_stream { "1" } else { "60" };
    let script = format!(
        "curl() {{ command curl --silent --show-error --fail-with-body --max-time {max_secs} \"$@\"; }}\n\
         Q={base}/v1/queues/my-queue\nJ='content-type: application/json'\n{}",
        command.replace("http://127.0.0.1:8080", base)
    );
    let curl_output = Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    let answer_text = String::from_utf8(curl_output.stdout).unwrap();
    // An event stream has no end, so curl ends the command with exit code 28 when its time limit is over.
    let is_success = curl_output.status.success() || is_stream && curl_output.status.code() == Some(28);
    (is_success, answer_text)
}

async fn receive_lease_token(system: &System) -> String {
    system.post("my-queue", json!({"data": 1, "priority": -1})).await;
    let leases = "/v1/queues/my-queue/leases";
    let (status, received) = system.request(reqwest::Method::POST, leases, Some(json!({"max": 1}))).await;
    assert_eq!(status, 200, "{received}");
    received["messages"][0]["lease"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_command_of_the_api_document_works_and_is_answered_as_shown() {
    let examples = documented_examples(&document("docs/API.md"));
    let system = System::start("").await;
    let mut worker = Some(system.worker().await);
    for (heading, DocumentedExample { command, answer }) in &examples {
        // The commands of the section "Consume over HTTP" lease messages, so no worker may run that would lease the messages first.
        if heading == "Consume over HTTP"
            && let Some(mut worker) = worker.take()
        {
            worker.terminate();
        }
        let mut command = command.clone();
        if command.contains("\"lease\": \"…\"") {
            command = command.replace('…', &receive_lease_token(&system).await);
        }
        let (base, script) = (system.base.clone(), command.clone());
        let (is_success, answer_text) = tokio::task::spawn_blocking(move || run_command(&script, &base)).await.unwrap();
        let is_refusal = answer.as_ref().is_some_and(|answer| answer["status"].as_u64() >= Some(400));
        assert_eq!(is_success, !is_refusal, "{command}: {answer_text}");
        if let Some(answer) = answer {
            let real_answer =
                serde_json::from_str(&answer_text).unwrap_or_else(|error| panic!("{command}: {error}: {answer_text}"));
            compare(answer, &real_answer, &command);
        }
    }
    let description = system.get("/openapi.json").await;
    let shown_endpoints: Vec<(String, String)> =
        examples.iter().map(|(_, example)| method_and_path(&example.command)).collect();
    for (template, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let is_shown =
                shown_endpoints.iter().any(|(name, path)| name == method && path_matches_template(path, template));
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
        let content_security_policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(
            content_security_policy.starts_with("default-src 'none'") && !content_security_policy.contains("http"),
            "{content_security_policy}"
        );
        let page_text = answer.text().await.unwrap();
        assert!(!page_text.contains("://"), "{path}: {page_text}");
        // Each file that the page /docs loads exists and has the right content type.
        for part in page_text.split('"').filter(|part| part.starts_with('/') && !part.contains(' ')) {
            let answer = system.http.get(system.url(part)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{part}");
            let content_type = match part.rsplit('.').next().unwrap() {
                "js" => "text/javascript",
                "css" => "text/css",
                "png" => "image/png",
                _ => "application/json",
            };
            assert!(answer.headers()["content-type"].to_str().unwrap().starts_with(content_type), "{part}");
        }
    }
    let original_page = system.http.get(system.url("/docs/index.html")).send().await.unwrap();
    assert_eq!(original_page.status(), 404, "the original page of Swagger UI loads from other hosts");
}
