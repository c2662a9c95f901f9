//! Tests that the documents agree with the code: the tables of endpoints, units of durations, the tests of each promise, links,
//! and the documented worker and consumer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    System,
    markdown::{code, document, root},
    python::PythonProgram,
};

/// Returns the sources of all tests that are not unit tests.
fn test_sources() -> String {
    let mut sources = String::new();
    sources_in(&root().join("tests"), &mut sources);
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let tests_folder = entry.unwrap().path().join("tests");
        if tests_folder.is_dir() {
            sources_in(&tests_folder, &mut sources);
        }
    }
    sources
}

fn sources_in(folder: &Path, sources: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_in(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *sources += &fs::read_to_string(path).unwrap();
        }
    }
}

/// The names of all fields of requests that are durations.
const DURATION_FIELDS: [&str; 12] = [
    "delay",
    "every",
    "timeout",
    "ttl",
    "visibility_timeout",
    "retry_after",
    "idempotency_window",
    "id_window",
    "rate_limit",
    "retention",
    "backoff",
    "sticky_for",
];

#[test]
fn every_table_with_a_field_that_is_a_duration_states_the_unit() {
    let api_document = document("docs/API.md");
    let document_lines: Vec<&str> = api_document.lines().collect();
    let mut stated_count = 0;
    for index in (1..document_lines.len()).filter(|index| document_lines[*index].starts_with("---|")) {
        let header: Vec<&str> = document_lines[index - 1].split('|').collect();
        let rows = document_lines[index + 1..].iter().take_while(|line| line.contains(" | "));
        // In docs/API.md, a table names fields in its first column, and in a column whose title contains "optional".
        let fields = rows.flat_map(|row| {
            let cells = row.split('|').zip(&header).enumerate();
            cells.filter(|(column, (_, title))| *column == 0 || title.contains("optional")).map(|(_, (cell, _))| cell)
        });
        let is_duration = |cell: &str| DURATION_FIELDS.iter().any(|name| cell.contains(&format!("`{name}`")));
        if fields.filter(|cell| is_duration(cell)).count() > 0 {
            let header = document_lines[index - 1];
            assert!(header.contains("durations: milliseconds or text"), "the table states no unit: {header}");
            stated_count += 1;
        }
    }
    assert_eq!(
        stated_count, 7,
        "the tables of a message, its patch, a signal, settings, a schedule, a receive, and settlements"
    );
}

/// Returns the name of the function whose definition begins in this line.
fn function_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?.split_once('(').map(|(name, _)| name)
}

/// Returns the names of the functions with an attribute that makes them tests.
fn names_of_tests(sources: &str) -> BTreeSet<&str> {
    let (mut names, mut is_test) = (BTreeSet::new(), false);
    for line in sources.lines() {
        if line.trim_start().starts_with("#[") {
            is_test |= line.contains("test");
        } else if !line.trim_start().starts_with("//") {
            names.extend(function_name(line).filter(|_| is_test));
            is_test = false;
        }
    }
    names
}

#[test]
fn every_promise_has_tests_in_the_appendix_and_each_of_them_exists() {
    let reliability_document = document("docs/RELIABILITY.md");
    let (promises, appendix) = reliability_document.split_once("\n## Appendix: tests\n").unwrap();
    let numbers: Vec<&str> = promises
        .lines()
        .filter_map(|line| line.strip_prefix("### ")?.split_once(". "))
        .map(|(number, _)| number)
        .collect();
    // A line of the appendix of docs/RELIABILITY.md has the number of a promise, and the names of the promise's tests.
    let rows: Vec<(&str, Vec<&str>)> = appendix
        .lines()
        .filter_map(|line| line.split_once(". "))
        .map(|(number, tests)| (number, tests.split('`').skip(1).step_by(2).collect()))
        .collect();
    assert!(numbers.len() >= 30, "{numbers:?}");
    assert_eq!(
        rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        numbers,
        "the appendix has a line for each promise, in the order of the promises"
    );
    let sources = test_sources();
    let existing_tests = names_of_tests(&sources);
    for (number, tests) in rows {
        assert!(!tests.is_empty(), "promise {number} has no test");
        for test in tests {
            assert!(
                existing_tests.contains(test),
                "docs/RELIABILITY.md names the test {test} for promise {number}, which does not exist"
            );
        }
    }
}

/// Returns the words of a Prometheus expression, such as the names of metrics.
fn words_of(expression: &str) -> impl Iterator<Item = &str> {
    expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
}

#[test]
fn every_alert_has_a_summary_and_names_only_documented_metrics() {
    let observability_document = document("docs/OBSERVABILITY.md");
    // A line in docs/OBSERVABILITY.md has the name and the type of a metric.
    let metric_types: BTreeMap<&str, &str> = observability_document
        .lines()
        .filter_map(|value_of| value_of.strip_prefix("- `")?.split_once("` ("))
        .map(|(name, rest)| (name, rest.split([':', ')']).next().unwrap()))
        .collect();
    let is_documented = |name: &str| {
        let family = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix));
        metric_types.contains_key(name) || family.is_some_and(|family| metric_types.get(family) == Some(&"histogram"))
    };
    let alert_rules = document("docs/alerts.yml");
    let (_, alert_rules) = alert_rules.split_once("    rules:\n").unwrap();
    let mut alert_names = BTreeSet::new();
    for rule in alert_rules.split("      - alert: ").skip(1) {
        let (name, rule) = rule.split_once('\n').unwrap();
        assert!(alert_names.insert(name), "{name} is repeated");
        let value_of = |key: &str| rule.lines().find_map(|value_of| value_of.trim_start().strip_prefix(key));
        let expression = value_of("expr: ").unwrap_or_else(|| panic!("{name} has no expression"));
        let metrics: Vec<&str> =
            words_of(expression).filter(|word| word.starts_with("drover_") || word.starts_with("process_")).collect();
        assert!(!metrics.is_empty() || expression.starts_with("up{"), "{name}: {expression}");
        for metric in metrics {
            assert!(is_documented(metric), "{name} names {metric}, which docs/OBSERVABILITY.md does not");
        }
        assert!(value_of("summary: ").is_some_and(|summary| summary.len() > 20), "{name} does not say what to do");
    }
    assert!(alert_names.len() >= 10, "{alert_names:?}");
    let reasons = alert_rules.split("reason=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    assert_eq!(
        reasons.collect::<BTreeSet<_>>(),
        reasons_of_failed_calls(&observability_document),
        "docs/alerts.yml has an alert for each reason"
    );
}

/// Returns the values of the label `reason` that docs/OBSERVABILITY.md lists for the metric of failed calls to Redis.
pub(crate) fn reasons_of_failed_calls(page: &str) -> BTreeSet<String> {
    let (_, item) = page.split_once("failed calls to Redis: ").unwrap();
    let (reasons, _) = item.split_once("\n- ").unwrap();
    reasons.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The error codes that many endpoints answer, and that docs/API.md therefore names only in its list of all errors.
const COMMON_CODES: [&str; 23] = [
    "malformed_request",
    "bad_request",
    "invalid_json",
    "incomplete_body",
    "unexpected_body",
    "invalid_query",
    "foreign_origin",
    "not_found",
    "queue_not_found",
    "message_not_found",
    "signal_not_found",
    "schedule_not_found",
    "cursor_not_found",
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
    "foreign_host",
    "invalid_queue_name",
    "invalid_id",
    "invalid_signal_key",
    "invalid_schedule_name",
    "internal",
    "unavailable",
];

/// Returns the texts in backticks.
fn texts_in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Returns the sections of a page, each from its heading on.
fn sections_of(page: &str) -> Vec<String> {
    let mut sections = vec![String::new()];
    for line in page.lines() {
        if line.starts_with("## ") || line.starts_with("### ") {
            sections.push(String::new());
        }
        let section = sections.last_mut().unwrap();
        *section += line;
        section.push('\n');
    }
    sections
}

/// Returns the endpoints that a section describes in its tables and lists, each with its method and whole path. docs/API.md shortens
/// `/v1/queues/{queue}/` to `{queue}/`.
fn endpoints_of(section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter(|line| line.contains(" | ") || line.starts_with("- "));
    let endpoint = |text: &str| {
        let (method, path) = text.split_once(' ')?;
        let whole_path = if path.starts_with("{queue}/") { format!("/v1/queues/{path}") } else { path.to_owned() };
        whole_path.starts_with('/').then(|| format!("{method} {whole_path}"))
    };
    rows.flat_map(texts_in_backticks).filter_map(endpoint).collect()
}

#[tokio::test]
async fn api_document_names_the_error_codes_of_each_endpoint() {
    let page = document("docs/API.md");
    let (page, errors) = page.split_once("\n## Errors\n").unwrap();
    // A line of the section "Errors" has a status, error codes, and an instruction.
    let error_lines = errors.lines().filter_map(|line| line.strip_prefix("- ")?.split_once(": "));
    let all_codes: BTreeSet<&str> = error_lines.flat_map(|(codes, _)| texts_in_backticks(codes)).collect();
    assert!(COMMON_CODES.iter().all(|code| all_codes.contains(code)));

    let system = System::start("").await;
    let description = system.get("/openapi.json").await;
    let codes_of = |operation: &Value| -> BTreeSet<String> {
        let answers = operation["responses"].as_object().unwrap().values();
        let texts = answers.filter_map(|answer| answer["description"].as_str());
        texts.flat_map(texts_in_backticks).filter(|word| all_codes.contains(word)).map(str::to_owned).collect()
    };
    let mut described_codes = BTreeSet::new();
    for section in sections_of(page) {
        let endpoints = endpoints_of(&section);
        if endpoints.is_empty() {
            continue;
        }
        let mut possible_codes = BTreeSet::new();
        for endpoint in &endpoints {
            let (method, path) = endpoint.split_once(' ').unwrap();
            let operation = &description["paths"][path][method.to_lowercase()];
            assert!(operation.is_object(), "docs/API.md describes {endpoint}, which does not exist");
            possible_codes.extend(codes_of(operation));
        }
        // docs/API.md may shorten the error codes for the states of a message, such as `message_active`, to `message_…`.
        let is_named = |code: &str| {
            texts_in_backticks(&section).any(|word| {
                word == code || word == "message_…" && code.starts_with("message_") && code != "message_not_found"
            })
        };
        for code in possible_codes.iter().filter(|code| !COMMON_CODES.contains(&code.as_str()) && *code != "overloaded")
        {
            assert!(is_named(code), "docs/API.md does not name {code} beside {endpoints:?}");
        }
        for word in texts_in_backticks(&section).filter(|word| all_codes.contains(word)) {
            assert!(
                possible_codes.contains(word),
                "docs/API.md names {word} beside {endpoints:?}, which do not answer it"
            );
        }
        described_codes.extend(endpoints);
    }
    for (path, item) in description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let endpoint = format!("{} {path}", method.to_uppercase());
            assert!(described_codes.contains(&endpoint), "docs/API.md has no table of {endpoint}");
        }
    }
}

/// Returns the lines of a page that are not in a fenced block.
fn lines_outside_of_blocks(page: &str) -> impl Iterator<Item = &str> {
    let mut is_inside = false;
    page.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        is_inside ^= is_fence;
        !is_inside && !is_fence
    })
}

/// Returns the anchors of the headings of a page.
fn anchors_of(page: &str) -> BTreeSet<String> {
    let is_kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    let headings = lines_outside_of_blocks(page)
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim());
    let heading_anchors =
        headings.map(|text| text.to_lowercase().chars().filter(is_kept).collect::<String>().replace(' ', "-"));
    let explicit_anchors = page.split("<a name=\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
    heading_anchors.chain(explicit_anchors).collect()
}

#[test]
fn links_between_documents_lead_to_files_and_headings_that_exist() {
    let folders = [root(), root().join("docs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
    let pages: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|extension| extension == "md")).collect();
    let mut checked_link_count = 0;
    for page in &pages {
        let page_text = fs::read_to_string(page).unwrap();
        let links = lines_outside_of_blocks(&page_text)
            .flat_map(|line| line.split("](").skip(1))
            .map(|rest| rest.split(')').next().unwrap());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target_file = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(target_file.exists(), "{} links to {link}, which does not exist", page.display());
            let anchor_exists =
                anchor.is_empty() || anchors_of(&fs::read_to_string(&target_file).unwrap()).contains(anchor);
            assert!(anchor_exists, "{} links to {link}, where there is no such heading", page.display());
            checked_link_count += 1;
        }
    }
    assert!(checked_link_count > 20, "{checked_link_count} links were checked");
}

#[tokio::test]
async fn shortest_documented_worker_completes_messages_with_the_output_of_its_program() {
    let readme = document("README.md");
    let system = System::start(code(&readme, "toml")).await;
    let _worker = system.worker().await;
    let message = system.finished(&system.post("shout", json!({"data": "hello"})).await).await;
    assert_eq!(message["result"], "HELLO", "{message}");
}

#[tokio::test]
async fn documented_consumer_completes_messages_over_http() {
    let system = System::start("").await;
    let program = document("examples/consumer.py").replace("http://127.0.0.1:8080", &system.base);
    let _consumer = PythonProgram::start(&program, &[]);
    for name in ["ada", "bob"] {
        let message = system.finished(&system.post("letters", json!({"data": {"to": name}})).await).await;
        assert_eq!(message["result"], json!({"welcomed": name}), "{message}");
    }
    system.assert_clean().await;
}
