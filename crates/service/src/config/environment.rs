//! The part of the configuration that stands in the environment: which variable sets which key.

use std::{collections::HashMap, ffi::OsString, fs};

use super::{
    Config,
    source::{Setting, defaults},
    tree::Tree,
};

/// The start of the names of all of Drover's own variables.
const OURS: &str = "DROVER_";
/// The start of the names of the configuration's variables, and the separator between sections and keys.
const SEPARATOR: &str = "__";
/// The variable names a file that has the value.
const FROM_FILE: &str = "_file";
/// The section whose next part is the name of a queue or a pattern, as it was written.
const QUEUES: &str = "queues";
/// A key of the configuration that ends like a variable that names a file.
const KEYS_FILE: [&str; 2] = ["auth", "keys_file"];
/// A name with more words is no key of the configuration.
const MOST_WORDS: usize = 9;

/// The settings from Drover's variables, whole tables before keys within them. Other variables are not looked at.
///
/// # Errors
///
/// A variable of Drover that is not UTF-8, that sets a key which another one sets too, that names a file which can't be
/// read, or that is near the name of a key but not it. No value is told.
pub(super) fn settings(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Vec<Setting>, String> {
    let mut ours: Vec<_> =
        variables.into_iter().filter(|(name, _)| name.as_encoded_bytes().starts_with(OURS.as_bytes())).collect();
    ours.sort_unstable();
    let mut settings: Vec<Setting> = Vec::new();
    let mut set_by: HashMap<Vec<String>, String> = HashMap::new();
    for (name, value) in ours {
        let Some(variable) = name.to_str() else {
            if name.as_encoded_bytes().starts_with(b"DROVER__") {
                return Err(format!("the name of the variable {} is not UTF-8: correct it", name.display()));
            }
            continue;
        };
        let Some(rest) = variable.strip_prefix("DROVER__") else {
            refuse_what_is_near(variable, None)?;
            continue;
        };
        let (path, is_file) = path_of(rest);
        refuse_what_is_near(variable, Some(&path))?;
        let variable = variable.to_owned();
        let value = value.into_string().map_err(|_| format!("{variable} is not UTF-8: write its value in UTF-8"))?;
        if let Some(other) = set_by.insert(path.clone(), variable.clone()) {
            return Err(format!("{other} and {variable} set the same key: remove one of them"));
        }
        let text = if is_file { read_file(&variable, &value)? } else { value };
        settings.push(Setting { variable, path, text });
    }
    settings.sort_by_key(|setting| setting.path.len());
    Ok(settings)
}

/// The path of keys that a variable names, and whether its value stands in a file.
fn path_of(rest: &str) -> (Vec<String>, bool) {
    let mut path: Vec<String> = Vec::new();
    for part in rest.split(SEPARATOR) {
        let is_name = path.len() == 1 && path[0] == QUEUES;
        path.push(if is_name { part.to_owned() } else { part.to_ascii_lowercase() });
    }
    let is_name = path.len() == 2 && path[0] == QUEUES;
    if is_name || path == KEYS_FILE {
        return (path, false);
    }
    let last = path.pop().unwrap_or_default();
    let (key, is_file) = last.strip_suffix(FROM_FILE).map_or((last.as_str(), false), |key| (key, true));
    path.push(key.to_owned());
    (path, is_file)
}

fn read_file(variable: &str, file: &str) -> Result<String, String> {
    // The value is not told: it may be the secret itself.
    let content = fs::read_to_string(file).map_err(|error| {
        let reason =
            if error.kind() == std::io::ErrorKind::InvalidData { "it is not UTF-8".into() } else { error.to_string() };
        format!("{variable} must be the path of a file that has the value; the file can't be read: {reason}")
    })?;
    Ok(content.trim_end().to_owned())
}

/// Refuses a name with one underscore where two belong: it would be passed over, or be unknown.
fn refuse_what_is_near(variable: &str, path: Option<&[String]>) -> Result<(), String> {
    if path.is_some_and(is_key) {
        return Ok(());
    }
    let Some(meant) = nearest_variable(variable) else { return Ok(()) };
    let queues = if meant.starts_with("DROVER__QUEUES__") {
        "; a queue whose name has two underscores is set with DROVER__QUEUES, as JSON"
    } else {
        ""
    };
    Err(format!(
        "{variable} sets no key: did you mean {meant}? Two underscores stand before and after a section's name{queues}"
    ))
}

/// The variable of the configuration that has the same words, with other underscores between them.
fn nearest_variable(variable: &str) -> Option<String> {
    let words: Vec<&str> = variable.strip_prefix(OURS)?.split('_').filter(|word| !word.is_empty()).collect();
    if !(2..=MOST_WORDS).contains(&words.len()) || !is_section(&words[0].to_ascii_lowercase()) {
        return None;
    }
    let gaps = words.len() - 1;
    let mut separated: Vec<u32> = (1..1 << gaps).filter(|separated| separated & 1 == 1).collect();
    separated.sort_by_key(|separated| separated.count_ones());
    separated.into_iter().find_map(|separated| {
        let mut rest = words[0].to_owned();
        for (gap, word) in words[1..].iter().enumerate() {
            rest.push_str(if separated >> gap & 1 == 1 { SEPARATOR } else { "_" });
            rest.push_str(word);
        }
        is_key(&path_of(&rest).0).then(|| format!("DROVER__{rest}"))
    })
}

fn is_section(word: &str) -> bool {
    word == QUEUES || Tree::of(defaults()).is_ok_and(|tree| tree.has(word))
}

/// Whether a path leads to a key: whether a text there is found wrong for its value at most.
fn is_key(path: &[String]) -> bool {
    // One level below `queues` any name may stand.
    let least = if path.first().is_some_and(|section| section == QUEUES) { 3 } else { 2 };
    if path.len() < least {
        return false;
    }
    let empty = Setting { variable: String::new(), path: path.to_vec(), text: String::new() };
    let Ok(tree) = Tree::of(defaults().add_source(empty)) else { return false };
    match tree.read::<Config>() {
        Ok(_) => true,
        Err(found) if found.is_unknown_key() => false,
        Err(found) => found.is_missing_key() || found.path == path.join("."),
    }
}
