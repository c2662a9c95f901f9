//! Reads examples in the documents: fenced blocks of code, and the comparison of a shown answer with a real answer.
//!
//! In a shown answer `…` stands for any text and `, …}` for other members. Values that differ from run to run, such as ids and
//! instants, are compared only by their kind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// Returns the folder of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the text of a document.
pub(crate) fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the text of a document's section with a heading `##`.
pub(crate) fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let (_, after) =
        document.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    after.split_once("\n## ").map_or(after, |(section, _)| section)
}

/// Returns the first fenced code block of a language in a text.
pub(crate) fn code<'a>(text: &'a str, language: &str) -> &'a str {
    let (_, code) = text.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no block of {language}"));
    code.split_once("```").unwrap().0
}

/// A fenced block of a document.
pub(crate) struct Block<'a> {
    /// The heading above the block.
    pub(crate) heading: &'a str,
    pub(crate) language: &'a str,
    pub(crate) text: String,
}

pub(crate) fn blocks(document: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut heading, mut is_inside) = ("", false);
    for line in document.lines() {
        match line.strip_prefix("```") {
            Some(language) => {
                if !is_inside {
                    blocks.push(Block { heading, language, text: String::new() });
                }
                is_inside = !is_inside;
            }
            None if is_inside => {
                let block_text = &mut blocks.last_mut().unwrap().text;
                *block_text += line;
                block_text.push('\n');
            }
            None if line.starts_with('#') => heading = line.trim_start_matches('#').trim(),
            None => {}
        }
    }
    blocks
}

/// Returns the JSON of a shown answer, with a member `…` where other members are left out.
pub(crate) fn shown_json(text: &str) -> Value {
    let json = text.replace(", …}", ", \"…\": null}");
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Returns the kind of a text that differs from run to run; other texts are returned as they are.
pub(crate) fn kind(text: &str) -> &str {
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

/// The fields of answers whose values depend on earlier requests, so that only the names inside these fields are compared.
const COUNTER_FIELDS: [&str; 3] = ["counts", "totals", "oldest_waiting_age"];

/// Asserts that a real answer is equal to the shown answer.
pub(crate) fn compare(shown: &Value, real: &Value, pointer: &str) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            let is_complete_list = !shown.contains_key("…");
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<BTreeSet<_>>();
            // The Redis of a test is not durable, so real answers have warnings.
            let (mut expected, mut found) = (keys(shown), keys(real));
            for set in [&mut expected, &mut found] {
                set.remove("…");
                set.remove("warnings");
            }
            if is_complete_list {
                assert_eq!(expected, found, "{pointer}");
            }
            for name in expected {
                let (pointer, member) = (format!("{pointer}/{name}"), real.get(&name));
                let member = member.unwrap_or_else(|| panic!("{pointer} is missing"));
                if COUNTER_FIELDS.contains(&name.as_str()) {
                    let keys = |value: &Value| value.as_object().map(keys);
                    assert_eq!(keys(&shown[&name]), keys(member), "{pointer}");
                } else {
                    compare(&shown[&name], member, &pointer);
                }
            }
        }
        (Value::Array(shown), Value::Array(real)) => {
            assert_eq!(shown.len(), real.len(), "{pointer}: {real:?}");
            for (index, (shown, real)) in shown.iter().zip(real).enumerate() {
                compare(shown, real, &format!("{pointer}/{index}"));
            }
        }
        (Value::String(shown), Value::String(real)) if shown != "…" => {
            assert_eq!(kind(shown), kind(real), "{pointer}");
        }
        (Value::String(_), Value::String(_)) => {}
        (shown, real) => assert_eq!(shown, real, "{pointer}"),
    }
}
