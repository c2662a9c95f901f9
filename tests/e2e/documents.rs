//! What the documents name exists.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn sources(folder: &Path, all: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *all += &fs::read_to_string(path).unwrap();
        }
    }
}

/// The fields that are durations.
const DURATIONS: [&str; 11] = [
    "delay",
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
    let page = fs::read_to_string(root().join("docs/API.md")).unwrap();
    let lines: Vec<&str> = page.lines().collect();
    let mut stated = 0;
    for at in (1..lines.len()).filter(|at| lines[*at].starts_with("|---")) {
        let header: Vec<&str> = lines[at - 1].split('|').collect();
        let rows = lines[at + 1..].iter().take_while(|line| line.starts_with('|'));
        // Fields stand in the first column, or in one of those that may be left away.
        let fields = rows.flat_map(|row| {
            let cells = row.split('|').zip(&header).enumerate();
            cells.filter(|(n, (_, title))| *n == 1 || title.contains("optional")).map(|(_, (cell, _))| cell)
        });
        let is_duration = |cell: &str| DURATIONS.iter().any(|name| cell.contains(&format!("`{name}`")));
        if fields.filter(|cell| is_duration(cell)).count() > 0 {
            let header = lines[at - 1];
            assert!(header.contains("a duration without a unit is milliseconds"), "no unit is stated: {header}");
            stated += 1;
        }
    }
    assert_eq!(stated, 3, "the fields of a message, the settings of a queue, the ends of a lease");
}

#[test]
fn every_promise_names_tests_that_exist() {
    let mut all = String::new();
    for folder in ["crates", "tests"] {
        sources(&root().join(folder), &mut all);
    }
    let document = fs::read_to_string(root().join("docs/RELIABILITY.md")).unwrap();
    let (promises, _) = document.split_once("## What is not promised").unwrap();
    // The last column of a row names its tests, or the file that is full of them.
    let rows = promises.lines().filter(|line| line.starts_with("| ") && !line.contains("| tests |"));
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "a promise without a test: {row}");
        for name in names {
            let exists = match name.strip_suffix(".rs") {
                Some(module) => all.contains(&format!("mod {module};")),
                None => all.contains(&format!("fn {name}(")),
            };
            assert!(exists, "docs/RELIABILITY.md names {name}, which there is not");
        }
    }
}
