//! The description agrees with the routes, the sources and the documents.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use super::{Access, CODES, Instance, describe};
use crate::routes;
use queue_core::Millis;

fn described(access: Access) -> Value {
    let v1 = routes::v1().merge(routes::v1_without_time_limit());
    let (_, described) = utoipa_axum::router::OpenApiRouter::default().merge(v1).split_for_parts();
    describe(described, Instance { max_wait: Millis::from_secs(60), access })
}

/// All operations with their methods and paths.
fn operations(description: &Value) -> Vec<(String, String, &Value)> {
    let paths = description["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object().unwrap().iter().map(|(method, operation)| (method.to_uppercase(), path.clone(), operation))
    });
    operations.collect()
}

/// Every `$ref` of the description.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// The sources of the API and of what both services share, without their tests.
fn sources() -> String {
    fn read(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                all.push_str(text.split("#[cfg(test)]\nmod tests").next().unwrap());
            }
        }
    }
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = String::new();
    read(&crates.join("producer-api/src"), &mut all);
    read(&crates.join("service/src"), &mut all);
    all
}

/// The first word in quotes.
fn quoted(text: &str) -> Option<&str> {
    text.split('"').nth(1)
}

/// The codes that sources refuse with.
fn codes_of(sources: &str) -> BTreeSet<&str> {
    let mut codes = BTreeSet::new();
    for made in ["Problem::new(", "invalid_fields("] {
        for call in sources.split(made).skip(1) {
            let arguments = call.split(';').next().unwrap();
            if arguments.contains("StatusCode::") {
                codes.extend(quoted(arguments));
            }
        }
    }
    // Those that are chosen before they are made.
    let chosen = sources.lines().filter(|line| line.contains("=> (\"") || line.contains("=> \"message_"));
    codes.extend(chosen.filter_map(quoted));
    let is_code = |word: &&str| word.len() > 3 && word.chars().all(|char| char.is_ascii_lowercase() || char == '_');
    codes.into_iter().filter(is_code).collect()
}

#[test]
fn every_code_of_the_sources_is_documented_and_no_other() {
    let sources = sources();
    let found = codes_of(&sources);
    let documented: BTreeSet<&str> = CODES.iter().map(|code| code.word).collect();
    let entries: BTreeSet<(u16, &str)> = CODES.iter().map(|code| (code.status, code.word)).collect();
    assert_eq!(entries.len(), CODES.len(), "a code stands twice");
    assert!(found.len() > 30, "{found:?}");
    let missing: Vec<_> = found.difference(&documented).collect();
    assert!(missing.is_empty(), "say in openapi/codes.rs what these mean: {missing:?}");
    let gone: Vec<_> = documented.iter().filter(|word| !sources.contains(&format!("\"{word}\""))).collect();
    assert!(gone.is_empty(), "{gone:?}");
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/API.md")).unwrap();
    let table = page.split("| status | code |").nth(1).expect("docs/API.md has the table of codes");
    for code in CODES {
        let row = table.lines().find(|line| line.contains(&format!("`{}`", code.word)));
        let row = row.unwrap_or_else(|| panic!("docs/API.md says nothing of {}", code.word));
        let statuses = row.split('|').nth(1).unwrap();
        assert!(statuses.contains(&code.status.to_string()), "{row}");
    }
}

#[test]
fn every_code_is_the_answer_of_some_operation() {
    let description = described(Access::Keys);
    let text = description["paths"].to_string();
    // No operation answers so, for there is none at all at that path, or none of that method.
    let codes = CODES.iter().filter(|code| code.word != "method_not_allowed");
    let never: Vec<_> = codes.filter(|code| !text.contains(&format!("problem:{}\"", code.word))).collect();
    assert!(never.is_empty(), "{never:?}");
}

#[test]
fn every_name_beside_a_handler_is_one_that_there_is() {
    let description = described(Access::Keys);
    let mut found = BTreeSet::new();
    references(&description, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for reference in found {
        assert!(description.pointer(&reference[1..]).is_some(), "{reference}");
    }
    for (method, path, operation) in operations(&description) {
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
        assert!(operation["operationId"].is_string() && operation["tags"][0].is_string(), "{method} {path}");
        let text = operation.to_string();
        for name in ["queue", "id", "key"].into_iter().filter(|name| path.contains(&format!("{{{name}}}"))) {
            assert!(text.contains(&format!("#/components/parameters/{name}\"")), "{method} {path} {name}");
        }
        assert!(!text.contains("\"x-"), "{method} {path}: {text}");
    }
}

#[test]
fn every_refusal_that_a_handler_names_has_a_code() {
    let sources = sources();
    let named = sources.split("\"x-refusals\" = json!([").skip(1).filter_map(|rest| rest.split(']').next());
    let words: BTreeSet<&str> = named.flat_map(|list| list.split('"').skip(1).step_by(2)).collect();
    assert!(words.contains("lease_gone"), "{words:?}");
    for word in words {
        assert!(super::codes::of_word(word).next().is_some(), "{word}");
    }
}

#[test]
fn keys_are_asked_for_where_there_are_any() {
    let (open, keys) = (described(Access::Open), described(Access::Keys));
    assert!(open["components"]["securitySchemes"].is_null() && !open["paths"].to_string().contains("unauthorized"));
    for (method, path, operation) in operations(&keys) {
        assert_eq!(operation["security"].is_array(), path.starts_with("/v1/"), "{method} {path}");
    }
    let post = &keys["paths"]["/v1/queues/{queue}/messages"]["post"];
    assert_eq!(post["security"], json!([{"key": ["enqueue"]}]));
    assert!(post["responses"]["401"]["headers"]["WWW-Authenticate"].is_object());
}

/// The methods and paths that are described.
pub(crate) fn described_routes() -> BTreeSet<(String, String)> {
    operations(&described(Access::Open)).into_iter().map(|(method, path, _)| (method, path)).collect()
}
