//! The section `auth`: the keys of the API, and where more of them stand.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{ApiKey, FilePath, InvalidConfig, source::Toml, tree::Tree};

/// Who may do what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// Defaults to `keys`.
    pub mode: AuthMode,
    /// More keys stand in this file. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<FilePath>,
    /// The keys. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<ApiKey>,
}

/// How callers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// By their keys. While there are none, the API is open to its own machine and serves no other.
    Keys,
    /// Not at all.
    None,
}

/// What stands in `keys_file`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysFile {
    keys: Vec<ApiKey>,
}

impl Auth {
    /// All keys: those of the configuration, and those of the file that it names, which is read now.
    ///
    /// # Errors
    ///
    /// When the file can't be read or has no keys, or keys contradict each other.
    pub fn load_keys(&self) -> Result<Vec<ApiKey>, InvalidConfig> {
        let mut keys = self.keys.clone();
        if let Some(path) = &self.keys_file {
            keys.extend(read(path).map_err(|error| InvalidConfig(format!("auth.keys_file: {error}")))?);
        }
        check(&keys).map_err(InvalidConfig)?;
        Ok(keys)
    }

    /// Whether whoever reaches the API may do everything, because there are no keys but by intent.
    pub(super) fn is_open(&self) -> bool {
        self.mode == AuthMode::Keys && self.has_no_keys()
    }

    /// The file is not read here: a consumer-worker, which has no use for it, may not be able to.
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.mode == AuthMode::None && !self.has_no_keys() {
            return Err(
                "auth.mode = \"none\" lets everybody in, though there are keys; remove the one or the others".into()
            );
        }
        check(&self.keys)
    }

    fn has_no_keys(&self) -> bool {
        self.keys.is_empty() && self.keys_file.is_none()
    }
}

fn read(path: &FilePath) -> Result<Vec<ApiKey>, String> {
    let sources = config::Config::builder().add_source(Toml::of_file(path.as_ref(), &path.to_string())?);
    let tree = Tree::of(sources).map_err(|error| error.to_string())?;
    let KeysFile { keys } = tree.read().map_err(|found| found.to_string())?;
    if keys.is_empty() { Err(format!("{path}: has no keys")) } else { Ok(keys) }
}

fn check(keys: &[ApiKey]) -> Result<(), String> {
    let invalid = |what: String| format!("auth.keys: {what}");
    let mut hashes = HashMap::new();
    let mut limits = HashMap::new();
    for key in keys {
        key.validate().map_err(invalid)?;
        if let Some(other) = hashes.insert(&key.hash, &key.id) {
            return Err(invalid(format!("one hash stands twice, for {other} and {}; make a key for each", key.id)));
        }
        if *limits.entry(&key.id).or_insert(key.rate_limit) != key.rate_limit {
            return Err(invalid(format!(
                "the keys of {} share one rate_limit; write the same for each of them",
                key.id
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::config::Scope;

    type Config = crate::Config;

    const A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn load(text: &str) -> Result<Config, String> {
        Config::load(Some(file(text).path())).map_err(|error| error.to_string())
    }

    fn key(id: &str, hash: &str, more: &str) -> String {
        format!("{{ id = \"{id}\", hash = \"{hash}\", scopes = [\"read\"], queues = [\"*\"]{more} }},")
    }

    #[test]
    fn keys_are_read_and_open_the_way_beyond_loopback() {
        let key = key("ops", A, ", rate_limit = { max = 5, duration = \"1m\" }, expires_at = 2030-01-31T00:00:00Z");
        let config = load(&format!("[api]\nbind = \"0.0.0.0:1\"\n[auth]\nkeys = [\n{key}\n]")).unwrap();
        let keys = config.auth.load_keys().unwrap();
        assert!(keys[0].allows(Scope::Read, "q") && !keys[0].allows(Scope::Enqueue, "q"));
        assert_eq!(keys[0].expires_at.unwrap().to_string(), "2030-01-31T00:00:00.000Z");
        let printed = toml::to_string(&config).unwrap();
        assert_eq!(toml::to_string(&load(&printed).unwrap()).unwrap(), printed);
    }

    #[test]
    fn more_keys_come_from_a_file_of_their_own() {
        let more = file(&format!("keys = [{}]", key("mail", B, "")));
        let path = more.path().display();
        let config = load(&format!("[auth]\nkeys_file = \"{path}\"\nkeys = [{}]", key("ops", A, ""))).unwrap();
        let ids: Vec<_> = config.auth.load_keys().unwrap().into_iter().map(|key| key.id.to_string()).collect();
        assert_eq!(ids, ["ops", "mail"]);
        let secret = "drv_ops_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for (text, told) in [
            (String::new(), "the key keys is missing"),
            ("keys = []".into(), "has no keys"),
            (format!("keys = [{}]", key("mail", A, "")), "one hash stands twice, for ops and mail"),
            (format!("keys = [{}]", key("mail", secret, "")), "keys[0].hash: not the hash of a key"),
            (format!("keys = [{}]", key("mail", B, ", scope = 1")), "did you mean \"scopes\"?"),
            (format!("keys = [ {secret}"), ""),
        ] {
            std::fs::write(more.path(), text).unwrap();
            let error = config.auth.load_keys().unwrap_err().to_string();
            assert!(
                error.contains(told) && error.starts_with("configuration: auth.keys"),
                "{told:?} is not in {error}"
            );
            assert!(!error.contains(secret), "{error}");
        }
        drop(more);
        assert!(config.auth.load_keys().unwrap_err().to_string().contains("can't read"));
    }

    #[test]
    fn the_file_is_named_in_the_environment_too_and_read_only_by_who_needs_it() {
        let environment = [("DROVER__AUTH__KEYS_FILE".into(), "/nowhere/keys".into())];
        let config = Config::load_with(None, environment).unwrap();
        assert_eq!(config.auth.keys_file.as_ref().unwrap().to_string(), "/nowhere/keys");
        assert!(config.auth.load_keys().is_err());
    }

    #[test]
    fn keys_that_make_no_sense_stop_the_start() {
        let keys = |keys: &[String]| format!("[auth]\nkeys = [{}]", keys.concat());
        let limit = ", rate_limit = { max = 5, duration = \"1m\" }";
        for (text, told) in [
            (keys(&[key("o p", A, "")]), "auth.keys[0].id: a key's id is"),
            (keys(&[key("ops", "drv_ops_x", "")]), "auth.keys[0].hash: not the hash of a key"),
            (keys(&[key("ops", A, ", rate_limit = { max = 5, duration = 1500 }")]), "whole seconds"),
            (keys(&[key("ops", A, ", rate_limit = { max = 0, duration = 1000 }")]), "max: must be 1 to 1000000"),
            (keys(&[key("ops", A, ""), key("ops", A, "")]), "one hash stands twice"),
            (keys(&[key("ops", A, limit), key("ops", B, "")]), "share one rate_limit"),
            (keys(&[key("ops", A, "").replace("\"read\"", "")]), "a key without a scope is for nothing"),
            (keys(&[key("ops", A, "").replace("read", "raed")]), "did you mean \"read\"?"),
            (keys(&[key("ops", A, "").replace("\"*\"", "")]), "is for no queue"),
            (keys(&[key("ops", A, "").replace('*', "a*b")]), "neither the name of a queue"),
            (keys(&[key("ops", A, "")]) + "\nmode = \"none\"", "lets everybody in, though there are keys"),
        ] {
            let error = load(&text).unwrap_err();
            assert!(error.contains(told), "{told:?} is not in {error}");
            assert!(!error.contains("drv_ops_x"), "{error}");
        }
        assert!(load(&keys(&[key("ops", A, limit), key("ops", B, limit)])).is_ok());
    }
}
