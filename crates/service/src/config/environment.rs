//! Reads the part of the configuration that is set by environment variables, and finds the key that each variable sets.

use std::{collections::HashMap, ffi::OsString, fs};

use super::{
    Config, Section,
    sources::{Sources, Variable},
    tree::ProblemKind,
};

/// The prefix of the names of all of Drover's variables.
const DROVER_PREFIX: &str = "DROVER_";
/// The prefix of the variables that set keys of the configuration.
const CONFIG_PREFIX: &str = "DROVER__";
/// The separator between sections and keys.
const KEY_SEPARATOR: &str = "__";
/// The suffix of a variable whose text is the path of a file that contains the value.
const FILE_SUFFIX: &str = "_file";
/// The section whose keys are names of queues or patterns, which keep upper and lower case.
const QUEUES_SECTION: &str = "queues";
/// The keys of the configuration that themselves end with the suffix `_file`.
const KEYS_WITH_FILE_SUFFIX: [&[&str]; 3] =
    [&["auth", "keys_file"], &["redis", "password_file"], &["redis", "sentinel", "password_file"]];
/// The maximum number of words in the name of a variable for which [`nearest_variable`] searches, because the search tries each
/// combination of separators.
const MAX_WORDS_OF_VARIABLE_NAME: usize = 9;

/// Reads Drover's variables. Variables that set whole tables are sorted before variables that set keys in the tables. The
/// variables of other programs are ignored. Returns an error if a variable of Drover is not UTF-8, sets the same key as another
/// variable, names a file that can't be read, or has the name of a key but with wrong underscores.
pub(super) fn read_variables<W: Section>(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Variable>, String> {
    let mut drover_variables: Vec<_> = variables
        .into_iter()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(DROVER_PREFIX.as_bytes()))
        .collect();
    drover_variables.sort_unstable();
    let mut settings: Vec<Variable> = Vec::new();
    let mut setting_variables: HashMap<Vec<String>, String> = HashMap::new();
    for (name, value) in drover_variables {
        let Some(name) = name.to_str().map(str::to_owned) else {
            if name.as_encoded_bytes().starts_with(CONFIG_PREFIX.as_bytes()) {
                return Err(format!("the name of the variable {} is not UTF-8: correct it", name.display()));
            }
            continue;
        };
        let Some(key_name) = name.strip_prefix(CONFIG_PREFIX) else {
            refuse_wrong_underscores::<W>(&name, None)?;
            continue;
        };
        let (path, is_file) = key_path(key_name);
        refuse_wrong_underscores::<W>(&name, Some(&path))?;
        let value = value.into_string().map_err(|_| format!("{name} is not UTF-8: write its value in UTF-8"))?;
        if let Some(other) = setting_variables.insert(path.clone(), name.clone()) {
            return Err(format!("{other} and {name} set the same key: remove one of them"));
        }
        let text = if is_file { read_file(&name, &value)? } else { value };
        settings.push(Variable { name, path, text });
    }
    settings.sort_by_key(|setting| setting.path.len());
    Ok(settings)
}

/// Returns the path of keys that a variable sets, and whether the variable's text is the path of a file.
fn key_path(key_name: &str) -> (Vec<String>, bool) {
    let mut path: Vec<String> = Vec::new();
    for part in key_name.split(KEY_SEPARATOR) {
        let is_queue = path == [QUEUES_SECTION];
        path.push(if is_queue { part.to_owned() } else { part.to_ascii_lowercase() });
    }
    let is_queue = path.len() == 2 && path[0] == QUEUES_SECTION;
    if let Some(last) = path.last().filter(|_| !is_queue)
        && let Some(key) = last.strip_suffix(FILE_SUFFIX).map(str::to_owned)
        && !KEYS_WITH_FILE_SUFFIX.iter().any(|key_of_file| path == **key_of_file)
    {
        path.pop();
        path.push(key);
        return (path, true);
    }
    (path, false)
}

fn read_file(variable: &str, file: &str) -> Result<String, String> {
    // The error does not repeat the value of the variable, which should be a path but may be a misplaced secret.
    let content = fs::read_to_string(file).map_err(|error| {
        let reason =
            if error.kind() == std::io::ErrorKind::InvalidData { "it is not UTF-8".into() } else { error.to_string() };
        format!("{variable} must be the path of a file that has the value; the file can't be read: {reason}")
    })?;
    Ok(content.trim_end().to_owned())
}

/// Refuses the name of a variable with one underscore where two are needed. A variable with wrong underscores that was not
/// refused would be ignored or set an unknown key.
fn refuse_wrong_underscores<W: Section>(variable: &str, path: Option<&[String]>) -> Result<(), String> {
    if path.is_some_and(is_key::<W>) {
        return Ok(());
    }
    let Some(meant) = nearest_variable::<W>(variable) else { return Ok(()) };
    let queue_advice = if meant.starts_with("DROVER__QUEUES__") {
        "; a queue whose name has two underscores is set with DROVER__QUEUES, as JSON"
    } else {
        ""
    };
    Err(format!(
        "{variable} sets no key: did you mean {meant}? A section's name has two underscores before and after it{queue_advice}"
    ))
}

/// Returns the name that has the words of `variable` but correct underscores between the words, if an environment variable of
/// that name sets a key.
fn nearest_variable<W: Section>(variable: &str) -> Option<String> {
    let words: Vec<&str> = variable.strip_prefix(DROVER_PREFIX)?.split('_').filter(|word| !word.is_empty()).collect();
    if !(2..=MAX_WORDS_OF_VARIABLE_NAME).contains(&words.len()) || !is_section(&words[0].to_ascii_lowercase()) {
        return None;
    }
    // Each number in `separator_bits` is a bit set: bit n is 1 if a separator (two underscores) follows word n of the
    // variable's name. Bit 0 of `separator_bits` is 1, because word 0 is the section's name, which a separator always follows.
    let mut separator_bits: Vec<u32> =
        (1..1 << (words.len() - 1)).filter(|separator_bits| separator_bits & 1 == 1).collect();
    separator_bits.sort_by_key(|separator_bits| separator_bits.count_ones());
    separator_bits.into_iter().find_map(|separator_bits| {
        let mut key_name = words[0].to_owned();
        for (gap, word) in words[1..].iter().enumerate() {
            key_name.push_str(if separator_bits >> gap & 1 == 1 { KEY_SEPARATOR } else { "_" });
            key_name.push_str(word);
        }
        is_key::<W>(&key_path(&key_name).0).then(|| format!("{CONFIG_PREFIX}{key_name}"))
    })
}

fn is_section(word: &str) -> bool {
    word == QUEUES_SECTION || Sources::defaults().is_ok_and(|defaults| defaults.has_section(word))
}

/// Returns whether a path is the path of a key of the configuration. `is_key` reads a configuration with an empty value at the
/// path: if the path is a key, the only mistake is a wrong value of the key or a missing key beside it.
fn is_key<W: Section>(path: &[String]) -> bool {
    // The second part of a path in `queues` is the name of a queue and not a key.
    let min_length = if path.first().is_some_and(|section| section == QUEUES_SECTION) { 3 } else { 2 };
    if path.len() < min_length {
        return false;
    }
    let empty_variable = Variable { name: String::new(), path: path.to_vec(), text: String::new() };
    let Ok(defaults) = Sources::defaults() else { return false };
    match Config::<W>::read(&defaults.overlaid_with_variable(empty_variable)) {
        Ok(_) => true,
        Err(mistake) => match mistake.problem.kind {
            ProblemKind::UnknownKey => false,
            ProblemKind::MissingKey => true,
            ProblemKind::Type | ProblemKind::Value => mistake.path.to_string() == path.join("."),
        },
    }
}
