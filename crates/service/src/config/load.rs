//! Loads the configuration: the defaults, a file over them, the environment over both.

use std::{collections::BTreeMap, ffi::OsString, fmt::Display, path::Path};

use queue_core::{DeclaredSettings, Queue, QueuePattern, Settings};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Config, environment,
    mistake::Found,
    source::{Toml, defaults},
    tree::Tree,
};
use crate::wording;

/// The configuration can't be used; says where and why, without any value that may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct InvalidConfig(pub(super) String);

/// The section of one service.
pub trait Section: Serialize + DeserializeOwned {
    /// Checks what its parts can't know, with the declared settings of queues.
    ///
    /// # Errors
    ///
    /// A mistake, as a sentence that names its key.
    fn validate(&self, queues: &DeclaredSettings) -> Result<(), String>;
}

/// Checks that a value lies in its range.
///
/// # Errors
///
/// When it does not; the text names the key and the range.
pub fn must_be_within<T: Copy + PartialOrd + Display>(key: &str, value: T, least: T, most: T) -> Result<(), String> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(format!("{key} must be {least} to {most}, not {value}")) }
}

impl<W: Section> Config<W> {
    /// Loads the defaults, over them `file`, over both the environment.
    ///
    /// # Errors
    ///
    /// When the file can't be read, when a key is unknown or a value not of its kind, when a variable of the environment is
    /// not UTF-8 or sets what another one sets, and when keys contradict each other.
    pub fn load(file: Option<&Path>) -> Result<Self, InvalidConfig> {
        Self::load_with(file, std::env::vars_os())
    }

    /// The same with these variables for those of the environment.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub fn load_with(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, InvalidConfig> {
        let file =
            file.map(|path| Toml::of_file(path, &path.display().to_string())).transpose().map_err(InvalidConfig)?;
        let environment = environment::settings::<W>(environment).map_err(InvalidConfig)?;
        let sources = defaults().add_source(Vec::from_iter(file)).add_source(environment);
        let tree = Tree::of(sources).map_err(|error| InvalidConfig(error.to_string()))?;
        let config = Self::read(tree).map_err(|found| InvalidConfig(found.to_string()))?;
        config.validate().map_err(InvalidConfig)?;
        Ok(config)
    }

    /// Reads the tree. The entries of `queues` are merged before they are checked as a whole; here each is checked by itself, so
    /// that a mistake is told with where it stands.
    pub(super) fn read(tree: Tree) -> Result<Self, Found> {
        #[derive(serde::Deserialize)]
        struct Queues {
            #[serde(default, rename = "queues")]
            _queues: BTreeMap<QueuePattern, Settings>,
        }
        let config = tree.clone().read()?;
        match tree.read::<Queues>() {
            // An entry has what it declares.
            Err(found) if !found.is_missing_key() => Err(found),
            _ => Ok(config),
        }
    }

    fn validate(&self) -> Result<(), String> {
        let api = &self.api;
        must_be_within("api.max_connections", api.max_connections, 1, 1_000_000)?;
        must_be_within("api.max_waits_per_key", api.max_waits_per_key, 1, 1_000_000)?;
        must_be_within("api.max_listeners", api.max_listeners, 1, 1_000_000)?;
        must_be_within("api.max_listeners_per_key", api.max_listeners_per_key, 1, 1_000_000)?;
        must_be_within("api.body_limit", api.body_limit, 1, Queue::MAX_BYTES)?;
        must_be_within("traces.sample_ratio", self.traces.sample_ratio, 0.0, 1.0)?;
        let (body_limit, memory) = (api.body_limit, api.max_body_memory);
        if api.max_body_memory_per_client() < body_limit {
            return Err(format!(
                "api.max_body_memory must be 4 times api.body_limit = {body_limit} or more, not {memory}: one client may have a \
                 quarter of it; raise the one or lower the other"
            ));
        }
        let bind = &api.bind;
        if self.auth.is_open() && !bind.is_loopback() {
            return Err(format!(
                "api.bind = \"{bind}\" would open the queue to the network without keys; make one with the \
                 command `producer-api key` (in a clone: target/release/producer-api key) and write its line into auth.keys, bind to 127.0.0.1, or write auth.mode = \"none\" if whoever reaches \
                 that address may do everything"
            ));
        }
        self.auth.validate()?;
        self.queues.validate().map_err(|(pattern, invalid)| {
            let problem = wording::of_data(&invalid.problem);
            // The value may be a secret.
            let problem = problem.rsplit_once(", and ").map_or(&*problem, |(_, expected)| expected);
            format!("queues.{pattern}.{}: {problem}", invalid.setting)
        })?;
        self.worker.validate(&self.queues)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use queue_core::Millis;

    use super::*;
    use crate::{
        Config,
        config::{AuthMode, LogFormat},
    };

    pub(in crate::config) fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(file.as_bytes()).unwrap();
        let environment = environment.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
        Config::load_with(Some(written.path()), environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.redis.url.expose(), "redis://127.0.0.1:6379");
        assert_eq!(config.api.bind.to_string(), "127.0.0.1:8080");
        assert_eq!((config.api.body_limit, config.api.max_body_memory), (1 << 20, 256 << 20));
        assert_eq!((config.auth.mode, config.log.format), (AuthMode::Keys, LogFormat::Pretty));
        assert_eq!(config.log.filter, "info");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = "[api]\nbody_limit = 7\nidle_timeout = \"1h\"\n[queues.My-Queue]\nvisibility_timeout = \"2s\"\n\
                    retention.completed = { count = 5 }\n";
        let env = [("DROVER__API__BODY_LIMIT", "9"), ("DROVER__LOG__FORMAT", "json"), ("OTHER", "x")];
        let config = load(file, &env).unwrap();
        assert_eq!(config.api.body_limit, 9);
        assert_eq!(*config.api.idle_timeout, Millis::from_hours(1));
        assert_eq!(config.log.format, LogFormat::Json);
        let settings = config.queues.of(&"My-Queue".parse().unwrap()).settings().unwrap();
        assert_eq!(*settings.visibility_timeout, Millis::from_secs(2));
    }

    #[test]
    fn an_unknown_key_stops_the_start_and_names_the_nearest() {
        for (file, told) in [
            ("[api]\nbnid = 1", "api.bnid: \"bnid\" is unknown: did you mean \"bind\"?"),
            ("[wroker]\nx = 1", "did you mean \"worker\"?"),
            ("[queues.q]\nmax_atempts = 1", "did you mean \"max_attempts\"?"),
            ("[worker]\nmax_lease = 5", "did you mean \"max_leases\"?"),
            ("[log]\nformat = \"prety\"", "log.format: \"prety\" is unknown: did you mean \"pretty\"?"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let error = load("", &[("DROVER__WORKER__CONCURENCY", "9")]).unwrap_err();
        assert!(error.contains("did you mean \"concurrency\"?"), "{error}");
    }

    #[test]
    fn values_out_of_range_and_contradictions_stop_the_start() {
        for (file, told) in [
            ("[api]\nbody_limit = 5000000", "api.body_limit"),
            ("[api]\nmax_body_memory = 4194303", "api.max_body_memory must be 4 times api.body_limit"),
            ("[api]\nmax_connections = 0", "api.max_connections"),
            ("[api]\nmax_listeners = 0", "api.max_listeners"),
            ("[api]\nheader_timeout = 0", "api.header_timeout"),
            ("[api]\ncors_origins = [\"*\"]", "api.cors_origins[0]"),
            ("[redis]\ntimeout = \"1ms\"", "redis.timeout"),
            ("[queues.q]\nvisibility_timeout = \"1ms\"", "queues.q.visibility_timeout"),
            ("[queues.q]\nmax_attempts = 0", "1 to 1000"),
            ("[queues.\"a b\"]\nmax_attempts = 1", "a queue's name"),
            ("[api]\nbind = \"0.0.0.0:8080\"", "auth.mode = \"none\""),
            ("[api]\nbind = \"0.0.0.0:8080\"", "target/release/producer-api key"),
            ("[api]\nbind = \"here\"", "api.bind"),
            ("not toml", "TOML"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(told), "{told:?} is not in {error}");
        }
        assert!(load("[api]\nbind = \"0.0.0.0:8080\"\n[auth]\nmode = \"none\"", &[]).is_ok());
    }

    #[test]
    fn what_is_printed_loads_again() {
        let file = "[queues.q]\nmax_attempts = 5\n[worker]\nconcurrency = 7\n\
                    [[worker.routes]]\nqueue = \"a\"\nhandler = { type = \"http\", secret = \"hunter2\" }";
        let printed = toml::to_string(&load(file, &[]).unwrap()).unwrap();
        assert!(printed.contains("concurrency = 7") && !printed.contains("hunter2"), "{printed}");
        let again = load(&printed, &[]).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), printed);
    }
}
