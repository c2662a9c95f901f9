//! The part of the configuration that stands in the environment: which variable sets which key.

use std::{collections::HashMap, ffi::OsString, fs};

use super::{
    Config, Section,
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
pub(super) fn settings<W: Section>(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Setting>, String> {
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
            refuse_what_is_near::<W>(variable, None)?;
            continue;
        };
        let (path, is_file) = path_of(rest);
        refuse_what_is_near::<W>(variable, Some(&path))?;
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
fn refuse_what_is_near<W: Section>(variable: &str, path: Option<&[String]>) -> Result<(), String> {
    if path.is_some_and(is_key::<W>) {
        return Ok(());
    }
    let Some(meant) = nearest_variable::<W>(variable) else { return Ok(()) };
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
fn nearest_variable<W: Section>(variable: &str) -> Option<String> {
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
        is_key::<W>(&path_of(&rest).0).then(|| format!("DROVER__{rest}"))
    })
}

fn is_section(word: &str) -> bool {
    word == QUEUES || Tree::of(defaults()).is_ok_and(|tree| tree.has(word))
}

/// Whether a path leads to a key: whether a text there is found wrong for its value at most.
fn is_key<W: Section>(path: &[String]) -> bool {
    // One level below `queues` any name may stand.
    let least = if path.first().is_some_and(|section| section == QUEUES) { 3 } else { 2 };
    if path.len() < least {
        return false;
    }
    let empty = Setting { variable: String::new(), path: path.to_vec(), text: String::new() };
    let Ok(tree) = Tree::of(defaults().add_source(empty)) else { return false };
    match Config::<W>::read(tree) {
        Ok(_) => true,
        Err(found) if found.is_unknown_key() => false,
        Err(found) => found.is_missing_key() || found.path == path.join("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::tests::load;

    type Config = crate::Config;

    #[test]
    fn lists_and_tables_of_the_environment_are_json_or_toml_and_replace_or_extend_what_is_in_the_file() {
        let file = "[queues.q]\nmax_attempts = 9\nexclusive = true\nretention.failed = { count = 5 }\n";
        let hash = format!("sha256:{}", "a".repeat(64));
        let key = format!("[{{ id = \"ops\", hash = \"{hash}\", scopes = [\"read\"], queues = [\"*\"] }},]");
        let config = load(
            file,
            &[
                ("DROVER__AUTH__KEYS", &key),
                ("DROVER__API__CORS_ORIGINS", r#"["https://a", "https://b"]"#),
                ("DROVER__QUEUES__q__RETENTION", r#"{"failed": {"age": "1h"}}"#),
                ("DROVER__QUEUES__q__RETENTION__COMPLETED__COUNT", "7"),
                ("DROVER__QUEUES__q__EXCLUSIVE__PARALLEL", "4"),
                ("DROVER__QUEUES", r#"{"a__b": {"max_attempts": 4}, "x.y": {"max_lapses": 2}}"#),
                ("DROVER__QUEUES__MAILS__MAX_ATTEMPTS", "5"),
                ("DROVER__QUEUES__My-Queue__VISIBILITY_TIMEOUT", "2s"),
                ("DROVER__QUEUES__user-*__MAX_LAPSES", "8"),
                ("DROVER__QUEUES__v1.user:7__EXCLUSIVE", "true"),
            ],
        )
        .unwrap();
        assert_eq!(config.auth.keys[0].id.as_str(), "ops");
        assert_eq!(config.api.cors_origins.len(), 2);
        let of = |queue: &str| serde_json::to_value(config.queues.of(&queue.parse().unwrap())).unwrap();
        assert_eq!(
            of("q"),
            serde_json::json!({"max_attempts": 9, "exclusive": {"parallel": 4},
                "retention": {"failed": {"count": 5, "age": "1h"}, "completed": {"count": 7}}})
        );
        for (queue, settings) in [
            ("MAILS", serde_json::json!({"max_attempts": 5})),
            ("mails", serde_json::json!({})),
            ("My-Queue", serde_json::json!({"visibility_timeout": "2s"})),
            ("my-queue", serde_json::json!({})),
            ("a__b", serde_json::json!({"max_attempts": 4})),
            ("x.y", serde_json::json!({"max_lapses": 2})),
            ("user-1", serde_json::json!({"max_lapses": 8})),
            ("v1.user:7", serde_json::json!({"exclusive": true})),
        ] {
            assert_eq!(of(queue), settings, "{queue}");
        }
    }

    #[test]
    fn variables_that_are_not_utf_8_are_refused_if_they_are_ours_and_else_not_looked_at() {
        use std::os::unix::ffi::OsStringExt;
        let bad = || OsString::from_vec(b"caf\xe9".to_vec());
        let load =
            |name: OsString, value: OsString| Config::load_with(None, [(name, value)]).map_err(|e| e.to_string());
        assert!(load("LEGACY".into(), bad()).is_ok());
        assert!(load("DROVER_LEGACY".into(), bad()).is_ok());
        assert!(load(bad(), "x".into()).is_ok());
        let error = load("DROVER__REDIS__URL".into(), bad()).unwrap_err();
        assert_eq!(error, "configuration: DROVER__REDIS__URL is not UTF-8: write its value in UTF-8");
        let name = OsString::from_vec(b"DROVER__LOG__\xe9".to_vec());
        assert!(load(name, "x".into()).unwrap_err().contains("is not UTF-8"));
    }

    #[test]
    fn a_key_that_two_variables_set_is_refused_and_both_are_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (one, other) in [
            (("DROVER__REDIS__URL", "redis://a"), ("DROVER__REDIS__URL_FILE", path)),
            (("DROVER__REDIS__URL", "redis://a"), ("DROVER__Redis__Url", "redis://b")),
        ] {
            let error = load("", &[one, other]).unwrap_err();
            assert!(error.contains(one.0) && error.contains(other.0) && error.contains("remove one"), "{error}");
        }
        // Keys may stand in the configuration and in a file of their own.
        assert!(load("", &[("DROVER__AUTH__KEYS", "[]"), ("DROVER__AUTH__KEYS_FILE", path)]).is_ok());
    }

    #[test]
    fn a_variable_with_one_underscore_for_two_is_refused_with_the_one_that_was_meant() {
        for (written, meant) in [
            ("DROVER_REDIS_URL", "DROVER__REDIS__URL"),
            ("DROVER_REDIS_URL_FILE", "DROVER__REDIS__URL_FILE"),
            ("DROVER__REDIS_URL", "DROVER__REDIS__URL"),
            ("DROVER_WORKER__MAX_LEASES", "DROVER__WORKER__MAX_LEASES"),
            ("DROVER_API_TLS_KEY", "DROVER__API__TLS__KEY"),
            ("DROVER_AUTH_KEYS_FILE", "DROVER__AUTH__KEYS_FILE"),
            ("DROVER_QUEUES_My-Queue_MAX_ATTEMPTS", "DROVER__QUEUES__My-Queue__MAX_ATTEMPTS"),
            ("DROVER__QUEUES__a__b__MAX_ATTEMPTS", "is set with DROVER__QUEUES, as JSON"),
        ] {
            let error = load("", &[(written, "hunter2")]).unwrap_err();
            assert!(error.contains(&format!("{written} sets no key")) && error.contains(meant), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        // The variables that programs are given, and those in which Kubernetes describes services.
        for foreign in [
            "DROVER_QUEUE",
            "DROVER_MESSAGE_ID",
            "DROVER_PORT",
            "DROVER_REDIS_PORT",
            "DROVER_API_SERVICE_HOST",
            "DROVER_QUEUES_SERVICE_HOST",
            "DROVER_FAULTS_SEED",
        ] {
            assert!(load("", &[(foreign, "x")]).is_ok(), "{foreign}");
        }
    }
}
