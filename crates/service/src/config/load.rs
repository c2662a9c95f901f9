use std::{collections::HashMap, fs, path::Path};

use config::{Environment, File, FileFormat};
use queue_core::{MAX_BYTES_PER_CALL, Millis};

use super::Config;
use crate::nearest::unknown;

const DEFAULT: &str = include_str!("../../../../config/default.toml");
const PREFIX: &str = "DROVER__";
const FROM_FILE: &str = "_FILE";
/// A key of the configuration that has such a name itself: the file is read by whoever needs what is in it.
const KEYS_FILE: &str = "DROVER__AUTH__KEYS_FILE";

/// The configuration can't be used; says where and why.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct InvalidConfig(pub(super) String);

impl Config {
    /// Loads the defaults, over them `file`, over both the environment.
    ///
    /// # Errors
    ///
    /// When the file can't be read, when a key is unknown or a value not of its kind, and when keys contradict each
    /// other.
    pub fn load(file: Option<&Path>) -> Result<Self, InvalidConfig> {
        Self::load_with(file, std::env::vars().collect())
    }

    pub(super) fn load_with(file: Option<&Path>, environment: HashMap<String, String>) -> Result<Self, InvalidConfig> {
        let invalid = |error: config::ConfigError| InvalidConfig(error.to_string());
        let mut builder = config::Config::builder().add_source(File::from_str(DEFAULT, FileFormat::Toml));
        if let Some(file) = file {
            // Read here, so that the error names the file as it was given.
            let text = fs::read_to_string(file)
                .map_err(|error| InvalidConfig(format!("can't read {}: {error}", file.display())))?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let environment = Environment::with_prefix("DROVER")
            .prefix_separator("__")
            .separator("__")
            .source(Some(with_secrets_from_files(environment)?));
        let merged = builder.add_source(environment).build().map_err(invalid)?;
        let config: Self = serde_path_to_error::deserialize(merged).map_err(|error| {
            let path = error.path().to_string();
            InvalidConfig(explain(&path, &error.into_inner().to_string()))
        })?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> Result<(), InvalidConfig> {
        let must = |holds: bool, what: String| if holds { Ok(()) } else { Err(InvalidConfig(what)) };
        let within = |key: &str, value: Millis, least: Millis, most: Millis| {
            must((least..=most).contains(&value), format!("{key} must be {least} to {most}, not {value}"))
        };
        let (second, hour, day) = (Millis::from_secs(1), Millis::from_hours(1), Millis::from_days(1));
        within("redis.timeout", self.redis.timeout, Millis::new(100), Millis::from_secs(60))?;
        within("api.request_timeout", self.api.request_timeout, second, hour)?;
        within("api.max_wait", self.api.max_wait, Millis::ZERO, hour)?;
        within("api.shutdown_grace", self.api.shutdown_grace, Millis::ZERO, day)?;
        within("api.header_timeout", self.api.header_timeout, Millis::new(100), hour)?;
        within("api.idle_timeout", self.api.idle_timeout, Millis::new(100), day)?;
        within("api.write_timeout", self.api.write_timeout, Millis::new(100), hour)?;
        for (key, count) in [
            ("max_connections", self.api.max_connections),
            ("max_waits_per_key", self.api.max_waits_per_key),
            ("max_listeners", self.api.max_listeners),
            ("max_listeners_per_key", self.api.max_listeners_per_key),
        ] {
            must((1..=1_000_000).contains(&count), format!("api.{key} must be 1 to 1000000, not {count}"))?;
        }
        within("worker.poll_interval", self.worker.poll_interval, Millis::new(100), day)?;
        within("worker.shutdown_grace", self.worker.shutdown_grace, Millis::ZERO, day)?;
        self.worker.validate(&self.queues).map_err(InvalidConfig)?;
        let body_limit = self.api.body_limit;
        must(
            (1..=MAX_BYTES_PER_CALL).contains(&body_limit),
            format!("api.body_limit must be 1 to {MAX_BYTES_PER_CALL}, not {body_limit}"),
        )?;
        let bind = self.api.bind;
        must(
            bind.ip().is_loopback() || !self.auth.is_open(),
            format!(
                "api.bind = \"{bind}\" would open the queue to the network without keys; make one with `producer-api key` \
                 and write its line into auth.keys, bind to 127.0.0.1, or write auth.mode = \"none\" if whoever reaches \
                 that address may do everything"
            ),
        )?;
        let ratio = self.traces.sample_ratio;
        must((0.0..=1.0).contains(&ratio), format!("traces.sample_ratio must be 0 to 1, not {ratio}"))?;
        self.auth.validate()?;
        for (queue, settings) in &self.queues {
            settings.validate().map_err(|error| InvalidConfig(format!("queues.{queue}.{error}")))?;
        }
        Ok(())
    }
}

/// Takes what stands in a file where `…_FILE` names one.
fn with_secrets_from_files(environment: HashMap<String, String>) -> Result<HashMap<String, String>, InvalidConfig> {
    environment
        .into_iter()
        .filter(|(key, _)| key.starts_with(PREFIX))
        .map(|(key, value)| match key.strip_suffix(FROM_FILE) {
            _ if key == KEYS_FILE => Ok((key, value)),
            None => Ok((key, value)),
            Some(secret) => {
                let content = fs::read_to_string(&value)
                    .map_err(|error| InvalidConfig(format!("{key}: can't read {value}: {error}")))?;
                Ok((secret.to_owned(), content.trim_end().to_owned()))
            }
        })
        .collect()
}

/// Turns what serde says of an unknown key into what was probably meant.
pub(super) fn explain(path: &str, error: &str) -> String {
    // The library repeats the key; the path before it says more.
    let error = error.split(" for key `").next().unwrap_or(error);
    let quoted: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
    let at = if path == "." { String::new() } else { format!("{path}: ") };
    match quoted.split_first() {
        Some((word, known)) if error.starts_with("unknown field") || error.starts_with("unknown variant") => {
            format!("{at}\"{word}\" is {}", unknown(word, known.iter().copied()))
        }
        _ => format!("{at}{error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::{AuthMode, Handler, LogFormat, Order};

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let mut written = tempfile::NamedTempFile::new().unwrap();
        written.write_all(file.as_bytes()).unwrap();
        let environment = environment.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Config::load_with(Some(written.path()), environment).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_contract() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.redis.url.expose(), "redis://127.0.0.1:6379");
        assert_eq!(config.api.bind.to_string(), "127.0.0.1:8080");
        assert_eq!(config.api.body_limit, 1 << 20);
        assert_eq!(config.worker.bind.to_string(), "127.0.0.1:8081");
        assert_eq!(config.worker.concurrency, 100);
        assert_eq!((config.worker.max_leases, config.worker.max_bytes), (10_000, 64 << 20));
        assert_eq!(config.worker.order, Order::Weighted);
        assert_eq!(config.worker.poll_interval, Millis::from_secs(5));
        assert_eq!(config.worker.shutdown_grace, Millis::from_secs(25));
        let route = &config.worker.routes[0];
        assert_eq!(route.queue.as_str(), "my-queue");
        assert_eq!(route.handler, Handler::Log { result: "processed ✅".into() });
        assert_eq!((config.auth.mode, config.log.format), (AuthMode::Keys, LogFormat::Pretty));
        assert_eq!(config.log.filter, "info");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
        let file = "[worker]\nconcurrency = 7\npoll_interval = \"1h\"\n[queues.My-Queue]\nvisibility_timeout = \"2s\"\n\
                    retention.completed = { count = 5 }\n";
        let env = [("DROVER__WORKER__CONCURRENCY", "9"), ("DROVER__LOG__FORMAT", "json"), ("OTHER", "x")];
        let config = load(file, &env).unwrap();
        assert_eq!(config.worker.concurrency, 9);
        assert_eq!(config.worker.poll_interval, Millis::from_hours(1));
        assert_eq!(config.log.format, LogFormat::Json);
        let settings = &config.queues[&"My-Queue".parse().unwrap()];
        assert_eq!(settings.visibility_timeout, Some(Millis::from_secs(2)));
    }

    #[test]
    fn an_unknown_key_stops_the_start_and_names_the_nearest() {
        for (file, told) in [
            ("[api]\nbnid = 1", "api.bnid: \"bnid\" is unknown: did you mean \"bind\"?"),
            ("[wroker]\nx = 1", "did you mean \"worker\"?"),
            ("[queues.q]\nmax_atempts = 1", "did you mean \"max_attempts\"?"),
            ("[[worker.routes]]\nqueue = \"q\"\nhandler = { type = \"loog\" }", "did you mean \"log\"?"),
            (
                "[[worker.routes]]\nqueue = \"q\"\nhandler = { type = \"http\", urll = \"http://a\" }",
                "worker.routes[0].handler: \"urll\" is unknown: did you mean \"url\"?",
            ),
            ("[worker]\norder = \"strickt\"", "worker.order: \"strickt\" is unknown: did you mean \"strict\"?"),
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
            ("[worker]\nconcurrency = 0", "worker.concurrency"),
            ("[worker]\nconcurrency = 20000", "worker.concurrency must be 1 to worker.max_leases = 10000"),
            ("[worker]\nmax_leases = 50", "worker.concurrency must be 1 to worker.max_leases = 50"),
            ("[worker]\nmax_bytes = 1000", "worker.max_bytes must be 4194304"),
            (
                "[[worker.routes]]\nqueue = \"q\"\nconcurrency = 0\nhandler = { type = \"log\" }",
                "routes[0].concurrency",
            ),
            ("[[worker.routes]]\nqueue = \"q\"\nweight = 0\nhandler = { type = \"log\" }", "worker.routes[0].weight"),
            ("[[worker.routes]]\nqueue = \"a*b\"\nhandler = { type = \"log\" }", "neither the name of a queue"),
            ("[api]\nbody_limit = 5000000", "api.body_limit"),
            ("[api]\nmax_connections = 0", "api.max_connections"),
            ("[api]\nmax_listeners = 0", "api.max_listeners"),
            ("[api]\nheader_timeout = 0", "api.header_timeout"),
            ("[api]\ncors_origins = [\"*\"]", "api.cors_origins[0]"),
            ("[redis]\ntimeout = \"1ms\"", "redis.timeout"),
            ("[queues.q]\nvisibility_timeout = \"1ms\"", "queues.q.visibility_timeout"),
            ("[queues.q]\nmax_attempts = 0", "1 to 1000"),
            ("[queues.\"a b\"]\nmax_attempts = 1", "a queue's name"),
            ("[api]\nbind = \"0.0.0.0:8080\"", "auth.mode = \"none\""),
            ("[api]\nbind = \"here\"", "api.bind"),
            ("not toml", "TOML"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(told), "{told:?} is not in {error}");
        }
        assert!(load("[api]\nbind = \"0.0.0.0:8080\"\n[auth]\nmode = \"none\"", &[]).is_ok());
    }

    #[test]
    fn handlers_that_can_not_work_stop_the_start() {
        for (handler, told) in [
            ("type = \"http\"", "needs url"),
            ("type = \"http\", url = \"ftp://a\"", "not by ftp:"),
            ("type = \"http\", url = \"http://a\", url_header = \"to\"", "exclude each other"),
            ("type = \"http\", url_header = \"to\"", "allowed_hosts"),
            ("type = \"http\", url = \"http://a\", allowed_hosts = [\"a\"]", "go with url_header"),
            ("type = \"http\", url = \"http://a\", secret = \"hunter2\"", "whsec_"),
            ("type = \"http\", url = \"http://a\", secret = [\"hunter2\"]", "whsec_"),
            ("type = \"http\", url = \"http://a\", timeout = 0", "handler.timeout must be 100ms to 7days"),
            ("type = \"http\", url = \"http://a\", concurrency = 0", "handler.concurrency"),
            ("type = \"http\", url = \"http://a\", response = \"keep\"", "there are result, ignore"),
            ("type = \"http\", url_header = \"to\", allowed_hosts = [\"a/b\"]", "\"a/b\" is no host"),
            ("type = \"http\", url = \"http://a\", timeout = \"10s\"", "queues.q.timeout must not be shorter than"),
            (
                "type = \"http\", url_header = \"to\", allowed_hosts = [\"a\"], allowed_networks = [\"10.1.0.0\"]",
                "\"10.1.0.0\" is no network",
            ),
            ("type = \"exec\"", "command"),
            ("type = \"exec\", command = []", "names no program"),
            ("type = \"exec\", command = \"python3 job.py\"", "write command = [\"python3\", \"job.py\"]"),
            ("type = \"exec\", command = [\"\"]", "names no program"),
            ("type = \"exec\", command = [\"a\"], timeout = \"10s\"", "queues.q.timeout"),
            ("type = \"exec\", command = [\"a\"], stop_grace = \"2m\"", "handler.stop_grace"),
        ] {
            let file =
                format!("[queues.q]\ntimeout = \"5s\"\n[[worker.routes]]\nqueue = \"q\"\nhandler = {{ {handler} }}");
            let error = load(&file, &[]).unwrap_err();
            assert!(error.contains("worker.routes[0].handler") && error.contains(told), "{told:?} is not in {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_requests_are_signed_with_is_never_shown() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let load = |secret: &str| {
            let handler = format!("type = \"http\", url = \"http://me:hunter2@a/b?k=hunter2\", secret = {secret}");
            load(&format!("[[worker.routes]]\nqueue = \"q\"\nhandler = {{ {handler} }}"), &[])
        };
        for (written, count) in [(format!("{secret:?}"), 1), (format!("[{secret:?}, {secret:?}]"), 2)] {
            let config = load(&written).unwrap();
            let Handler::Http(http) = &config.worker.routes[0].handler else { unreachable!("it is one") };
            assert_eq!(http.secrets.len(), count);
            let shown = toml::to_string(&config).unwrap() + &format!("{config:?}");
            assert!(shown.contains("http://***@a/b?***"), "{shown}");
            assert!(!shown.contains("hunter2") && !shown.contains(&secret[6..]), "{shown}");
        }
    }

    #[test]
    fn a_secret_may_come_from_a_file_and_is_never_shown() {
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        secret.write_all(b"redis://user:pa@ss@cache:6380/2\n").unwrap();
        let path = secret.path().to_str().unwrap();
        let config = load("", &[("DROVER__REDIS__URL_FILE", path)]).unwrap();
        assert_eq!(config.redis.url.expose(), "redis://user:pa@ss@cache:6380/2");
        let shown = toml::to_string(&config).unwrap() + &format!("{config:?}");
        assert!(shown.contains("redis://***@cache:6380/2") && !shown.contains("pa@ss"), "{shown}");
        let socket = load("[redis]\nurl = \"unix:/run/redis.sock?pass=hunter2\"", &[]).unwrap();
        assert_eq!(socket.redis.url.to_string(), "unix:/run/redis.sock?***");
    }

    #[test]
    fn what_is_printed_loads_again() {
        let file = "[queues.q]\nmax_attempts = 5\n\
                    [[worker.routes]]\nqueue = \"a\"\n\
                    handler = { type = \"http\", url_header = \"to\", allowed_hosts = [\"a:81\"], \
                    allowed_networks = [\"10.0.0.0/8\"], timeout = \"3s\" }\n\
                    [[worker.routes]]\nqueue = \"b\"\nhandler = { type = \"exec\", command = [\"a\", \"b c\"] }";
        let printed = toml::to_string(&load(file, &[]).unwrap()).unwrap();
        let again = load(&printed, &[]).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), printed);
    }
}
