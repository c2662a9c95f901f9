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
