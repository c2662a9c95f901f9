//! Loads the configuration: the defaults, a file over them, the environment over both.

use std::{ffi::OsString, path::Path};

use queue_core::{MAX_BYTES_PER_CALL, Millis};

use super::{
    Config, environment,
    source::{Toml, defaults},
    tree::Tree,
};
use crate::wording;

/// The configuration can't be used; says where and why, without any value that may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("configuration: {0}")]
pub struct InvalidConfig(pub(super) String);

impl Config {
    /// Loads the defaults, over them `file`, over both the environment.
    ///
    /// # Errors
    ///
    /// When the file can't be read, when a key is unknown or a value not of its kind, when a variable of the environment is
    /// not UTF-8 or sets what another one sets, and when keys contradict each other.
    pub fn load(file: Option<&Path>) -> Result<Self, InvalidConfig> {
        Self::load_with(file, std::env::vars_os())
    }

    pub(super) fn load_with(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, InvalidConfig> {
        let file = file.map(Toml::of_file).transpose().map_err(InvalidConfig)?;
        let environment = environment::settings(environment).map_err(InvalidConfig)?;
        let sources = defaults().add_source(Vec::from_iter(file)).add_source(environment);
        let tree = Tree::of(sources).map_err(|error| InvalidConfig(error.to_string()))?;
        let config: Self = tree.read().map_err(|found| InvalidConfig(found.to_string()))?;
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
        let (per_client, memory) = (self.api.max_body_memory_per_client(), self.api.max_body_memory);
        must(
            per_client >= body_limit,
            format!(
                "api.max_body_memory must be 4 times api.body_limit = {body_limit} or more, not {memory}: one client may have a \
                 quarter of it; raise the one or lower the other"
            ),
        )?;
        let bind = &self.api.bind;
        must(
            bind.is_loopback() || !self.auth.is_open(),
            format!(
                "api.bind = \"{bind}\" would open the queue to the network without keys; make one with `producer-api key` \
                 and write its line into auth.keys, bind to 127.0.0.1, or write auth.mode = \"none\" if whoever reaches \
                 that address may do everything"
            ),
        )?;
        let ratio = self.traces.sample_ratio;
        must((0.0..=1.0).contains(&ratio), format!("traces.sample_ratio must be 0 to 1, not {ratio}"))?;
        self.auth.validate()?;
        self.queues.validate().map_err(|(pattern, invalid)| {
            let problem = wording::of_data(&invalid.problem);
            InvalidConfig(format!("queues.{pattern}.{}: {problem}", invalid.setting))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use serde_json::Value;

    use super::*;
    use crate::config::{AuthMode, Handler, LogFormat, Order, source::DEFAULT};

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
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
        let settings = &config.queues.of(&"My-Queue".parse().unwrap());
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
                "worker.routes[0].handler.urll: \"urll\" is unknown: did you mean \"url\"?",
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
            ("type = \"http\", url = \"ftp://a\"", "http:// or https://"),
            ("type = \"http\", url = \"http://a\", url_header = \"to\"", "exclude each other"),
            ("type = \"http\", url_header = \"to\"", "allowed_hosts"),
            ("type = \"http\", url = \"http://a\", allowed_hosts = [\"a\"]", "go with url_header"),
            ("type = \"http\", url = \"http://a\", secret = \"hunter2\"", "whsec_"),
            ("type = \"http\", url = \"http://a\", secret = [\"hunter2\"]", "whsec_"),
            ("type = \"http\", url = \"http://a\", timeout = 0", "handler.timeout must be 100ms to 7d"),
            ("type = \"http\", url = \"http://a\", concurrency = 0", "handler.concurrency"),
            (
                "type = \"http\", url = \"http://a\", response = \"keep\"",
                "handler.response: expected one of result, ignore",
            ),
            ("type = \"http\", url_header = \"to\", allowed_hosts = [\"a/b\"]", "handler.allowed_hosts[0]: not a host"),
            ("type = \"http\", url = \"http://a\", timeout = \"10s\"", "queues.q.timeout must not be shorter than"),
            (
                "type = \"http\", url_header = \"to\", allowed_hosts = [\"a\"], allowed_networks = [\"10.1.0.0\"]",
                "handler.allowed_networks: entry 1 is no network",
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

    /// The defaults with every key that they show in a comment, each with another value than its default.
    fn every_key() -> Value {
        let mut text = String::new();
        for line in DEFAULT.lines() {
            let shown = line.strip_prefix("# ").filter(|shown| {
                let key = shown.split_once(" = ").map(|(key, _)| key);
                let is_key = key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b)));
                is_key && !shown.starts_with("handler") || shown.starts_with(['[', ']']) || shown.starts_with("  { id")
            });
            text += shown.unwrap_or(line);
            text.push('\n');
        }
        let hash = "a".repeat(64);
        changed(toml::from_str(&text.replace("sha256:…", &format!("sha256:{hash}"))).unwrap())
    }

    fn changed(value: Value) -> Value {
        match value {
            Value::Number(number) => match number.as_i64() {
                Some(whole) => if whole > 1 { whole - 1 } else { whole + 1 }.into(),
                None => (number.as_f64().unwrap() / 2.0).into(),
            },
            Value::String(text) => Value::String(match text.as_str() {
                "pretty" => "json".into(),
                "info" => "debug".into(),
                "weighted" => "strict".into(),
                "exponential" => "fixed".into(),
                _ => match text.find(|c: char| c.is_ascii_digit()) {
                    Some(at) => {
                        let digits: String = text[at..].chars().take_while(char::is_ascii_digit).collect();
                        let more = digits.parse::<u64>().unwrap() + 1;
                        format!("{}{more}{}", &text[..at], &text[at + digits.len()..])
                    }
                    None => text,
                },
            }),
            Value::Array(list) if list.is_empty() => serde_json::json!(["https://a.example"]),
            Value::Object(table) => table.into_iter().map(|(key, value)| (key, changed(value))).collect(),
            other => other,
        }
    }

    /// Each key with its value as a text: lists as JSON, and tables too if they need not be said key by key.
    fn variables(prefix: &str, value: &Value, tables: bool, all: &mut Vec<(String, String)>) {
        match value {
            Value::Object(table)
                if !tables || prefix.matches("__").count() < 1 + usize::from(prefix.contains("QUEUES")) =>
            {
                for (key, value) in table {
                    let is_queue = prefix.ends_with("__QUEUES");
                    let key = if is_queue { key.clone() } else { key.to_ascii_uppercase() };
                    let separator = if prefix.is_empty() { "DROVER__" } else { "__" };
                    variables(&format!("{prefix}{separator}{key}"), value, tables, all);
                }
            }
            Value::String(text) => all.push((prefix.into(), text.clone())),
            other => all.push((prefix.into(), other.to_string())),
        }
    }

    #[test]
    fn every_key_of_the_defaults_and_every_setting_of_a_queue_can_come_from_the_environment() {
        let printed = |environment: &[(String, String)]| {
            let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            load("", &environment).map(|config| toml::to_string(&config).unwrap())
        };
        let every_key = every_key();
        let expected = load(&toml::to_string(&every_key).unwrap(), &[]).unwrap();
        let expected = toml::to_string(&expected).unwrap();
        for tables in [false, true] {
            let mut all = Vec::new();
            variables("", &every_key, tables, &mut all);
            assert_eq!(printed(&all).unwrap(), expected);
            for left_out in 0..all.len() {
                let mut others = all.clone();
                let (name, _) = others.remove(left_out);
                // The one that names no other value than the default.
                let is_default = name == "DROVER__AUTH__MODE" || name == "DROVER__WORKER__ROUTES";
                assert!(
                    is_default || printed(&others).map_or(true, |printed| printed != expected),
                    "{name} has no effect"
                );
            }
            if !tables {
                for name in [
                    "DROVER__QUEUES__my-queue__MAX_ATTEMPTS",
                    "DROVER__QUEUES__my-queue__MAX_LAPSES",
                    "DROVER__QUEUES__my-queue__RATE_LIMIT__MAX",
                    "DROVER__QUEUES__my-queue__BACKOFF__JITTER",
                    "DROVER__QUEUES__my-queue__RETENTION__COMPLETED__COUNT",
                    "DROVER__API__CORS_ORIGINS",
                    "DROVER__API__TLS__KEY",
                    "DROVER__AUTH__KEYS",
                    "DROVER__AUTH__KEYS_FILE",
                    "DROVER__TRACES__ENDPOINT",
                ] {
                    assert!(all.iter().any(|(found, _)| found == name), "{name} is not among the keys");
                }
            }
        }
        let settings = queue_core::Settings::default();
        let Value::Object(settings) = serde_json::to_value(settings).unwrap() else { unreachable!() };
        let shown = every_key["queues"]["my-queue"].as_object().unwrap();
        assert_eq!(
            shown.keys().collect::<Vec<_>>(),
            settings.keys().collect::<Vec<_>>(),
            "config/default.toml shows all"
        );
    }

    #[test]
    fn lists_and_tables_of_the_environment_are_json_or_toml_and_replace_or_extend_what_is_in_the_file() {
        let file = "[queues.q]\nmax_attempts = 9\nexclusive = true\nretention.failed = { count = 5 }\n";
        let hash = format!("sha256:{}", "a".repeat(64));
        let key = format!("[{{ id = \"ops\", hash = \"{hash}\", scopes = [\"read\"], queues = [\"*\"] }},]");
        let config = load(
            file,
            &[
                ("DROVER__AUTH__KEYS", &key),
                ("DROVER__WORKER__ROUTES", r#"[{"queue": "a", "handler": {"type": "log", "result": "5"}}]"#),
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
        assert_eq!(config.worker.routes[0].handler, Handler::Log { result: "5".into() });
        assert_eq!(config.api.cors_origins.len(), 2);
        let of = |queue: &str| serde_json::to_value(config.queues.of(&queue.parse().unwrap())).unwrap();
        assert_eq!(
            of("q"),
            serde_json::json!({"max_attempts": 9, "exclusive": {"parallel": 4},
                "retention": {"failed": {"count": 5, "age": 3_600_000}, "completed": {"count": 7}}})
        );
        for (queue, settings) in [
            ("MAILS", serde_json::json!({"max_attempts": 5})),
            ("mails", serde_json::json!({})),
            ("My-Queue", serde_json::json!({"visibility_timeout": 2000})),
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

    #[test]
    fn identical_routes_stop_the_start() {
        let route = |queue: &str, name: &str| {
            format!("[[worker.routes]]\nqueue = \"{queue}\"\n{name}\nhandler = {{ type = \"log\" }}\n")
        };
        let error = load(&(route("b", "") + &route("a*", "") + &route("b", "")), &[]).unwrap_err();
        assert!(error.contains("worker.routes[2] has the same queue and name as worker.routes[0]"), "{error}");
        let named = "name = \"n\"";
        assert!(load(&(route("b", named) + &route("b", named)), &[]).unwrap_err().contains("routes[1]"));
        assert!(load(&(route("b", named) + &route("b", "") + &route("b*", "")), &[]).is_ok());
    }

    #[test]
    fn a_handler_outlasts_no_setting_that_a_pattern_gives() {
        let file = |queues: &str, queue: &str| {
            format!(
                "{queues}\n[[worker.routes]]\nqueue = \"{queue}\"\n\
                 handler = {{ type = \"exec\", command = [\"a\"], timeout = \"10s\" }}"
            )
        };
        let short = "[queues.\"user-*\"]\ntimeout = \"5s\"";
        for queue in ["user-*", "user-1", "user-vip-*", "*"] {
            assert!(load(&file(short, queue), &[]).unwrap_err().contains("must not be shorter"), "{queue}");
        }
        assert!(load(&file(short, "other"), &[]).is_ok());
        let longer = format!("{short}\n[queues.user-1]\ntimeout = \"10s\"");
        assert!(load(&file(&longer, "user-1"), &[]).is_ok());
    }

    #[test]
    fn errors_tell_the_key_and_what_is_expected_in_no_librarys_words() {
        for (file, told) in [
            ("[worker]\nconcurrency = \"many\"", "worker.concurrency: is a text, expected a whole number, 0 or more"),
            ("[worker]\nconcurrency = -1", "worker.concurrency: expected a whole number, 0 or more"),
            ("[worker]\nconcurrency = 1.5", "worker.concurrency: "),
            ("[worker]\nconcurrency = []", "worker.concurrency: is a list, expected a whole number, 0 or more"),
            ("worker = 5", "worker: is a whole number, expected a table"),
            ("[redis]\ntimeout = \"soon\"", "redis.timeout: expected a duration"),
            ("[redis]\ntimeout = true", "redis.timeout: is true, expected a duration"),
            ("[redis]\nurl = 5", "redis.url: is a whole number, expected a text"),
            ("[api]\nbind = 8080", "api.bind: is a whole number, expected a text"),
            ("[api]\ntls = { key = \"a\" }", "api.tls: the key certificate is missing"),
            ("[api]\ncors_origins = \"https://a\"", "api.cors_origins: is a text, expected a list"),
            ("[traces]\nsample_ratio = \"all\"", "traces.sample_ratio: is a text, expected a number"),
            ("[log]\nformat = 5", "log.format: is a whole number, expected a text"),
            ("[queues.q]\nbackoff = { type = \"fixd\" }", "queues.q.backoff.type: \"fixd\" is unknown: did you mean"),
            ("[queues.q]\nbackoff = { type = 5 }", "queues.q.backoff.type: expected one of fixed, exponential"),
            ("[queues.q]\nbackoff = [1]", "queues.q.backoff: is a list, expected a table"),
            ("[queues.q]\nrate_limit = { max = 5 }", "queues.q.rate_limit: the field \"duration\" is required"),
            ("[queues.q]\nexclusive = 5", "queues.q.exclusive: is a whole number, expected true, false, or"),
            ("[queues.q]\nmax_attempts = \"a\"", "queues.q.max_attempts: is a text, expected a whole number"),
            ("[queues.q]\nmax_attempts = 0", "queues.q.max_attempts: max_attempts is a whole number from 1 to 1000"),
            (
                "[queues.\"user-*\"]\nmax_atempts = 1",
                "queues.user-*.max_atempts: \"max_atempts\" is unknown: did you mean",
            ),
            ("[[worker.routes]]\nqueue = \"q\"", "worker.routes[0]: the key handler is missing"),
            ("[[worker.routes]]\nqueue = \"q\"\nhandler = {}", "worker.routes[0].handler: the key type is missing"),
            ("[[worker.routes]]\nqueue = \"q\"\nhandler = \"log\"", "worker.routes[0].handler: expected a table"),
            (
                "[[worker.routes]]\nqueue = \"q\"\nhandler = { type = \"exec\", command = [\"a\"], timeout = true }",
                "worker.routes[0].handler.timeout: is true, expected a duration",
            ),
            ("[auth]\nkeys = [\"drv_ops_x\"]", "auth.keys[0]: is a text, expected a table"),
            ("[auth]\nkeys = [{ id = \"ops\" }]", "auth.keys[0]: the key hash is missing"),
            ("a = 1\na = 2", "line 2, column 1 is not valid TOML"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(told), "{told:?} is not in {error}");
            for word in
                ["invalid type", "invalid value", "missing field", "unit variant", "struct ", "usize", "u64", "serde"]
            {
                assert!(!error.contains(word), "{error}");
            }
        }
        let error = load("", &[("DROVER__WORKER__CONCURRENCY", "many")]).unwrap_err();
        assert!(
            error.contains("worker.concurrency: is a text") && error.contains("(set by DROVER__WORKER__CONCURRENCY)")
        );
        for (name, text, told) in [
            ("DROVER__REDIS", "{ timeout = \"soon\" }", "redis.timeout: expected a duration"),
            ("DROVER__API__TLS", "{ key = \"a\" }", "api.tls: the key certificate is missing"),
            ("DROVER__WORKER", "{ \"concurency\": 5 }", "worker.concurency: \"concurency\" is unknown"),
            ("DROVER__WORKER__ROUTES", "[{ queue = 5 }]", "worker.routes[0].queue: is a whole number"),
        ] {
            let error = load("[worker]\nmax_leases = 500", &[(name, text)]).unwrap_err();
            assert!(error.contains(told) && error.ends_with(&format!("{name})")), "{error}");
        }
        let error = load("", &[("DROVER__AUTH__KEYS", "[hunter2")]).unwrap_err();
        assert!(error.contains("auth.keys: is neither valid JSON") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_mistake_in_a_file_is_told_with_the_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[queues.\"a.b\"]\nmax_attempts = \"a\"").unwrap();
        let within = format!("(in {})", file.path().display());
        let load = |value: &str| {
            let variable = [("DROVER__QUEUES__a.b__MAX_LAPSES".into(), value.into())];
            Config::load_with(Some(file.path()), variable).unwrap_err().to_string()
        };
        assert!(load("5").contains("queues.a.b.max_attempts: is a text"), "{}", load("5"));
        assert!(load("5").ends_with(&within), "{}", load("5"));
        // Of two mistakes the one whose key comes first is told each time.
        assert!((0..8).all(|_| load("b").ends_with(&within)));
    }

    #[test]
    fn names_with_dots_and_brackets_are_no_paths() {
        for (file, told) in [
            ("\"redis.url\" = \"redis://a\"", "\"redis.url\" is unknown"),
            ("\"api[1000000000]\" = 1", "\"api[1000000000]\" is unknown"),
            ("[redis]\n\"url.a\" = 1", "\"url.a\" is unknown"),
            ("[api]\nbody_limit = 99999999999999999999", "a number in it is too large"),
        ] {
            let error = load(file, &[]).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let config = load("[queues.\"a.b\"]\nmax_lapses = 7\n[queues.\"a.*\"]\nmax_attempts = 7", &[]).unwrap();
        let settings = config.queues.of(&"a.b".parse().unwrap());
        assert_eq!(serde_json::to_value(settings).unwrap(), serde_json::json!({"max_lapses": 7, "max_attempts": 7}));
    }

    #[test]
    fn a_text_that_holds_a_secret_is_in_no_error_whatever_its_key() {
        let secret = "hunter2";
        let mut all = Vec::new();
        variables("", &every_key(), false, &mut all);
        for (name, _) in &all {
            for text in [
                secret.to_owned(),
                format!("redis://u:{secret}@h:1/0"),
                format!("[{secret}"),
                format!("{{\"a\": \"{secret}\"}}"),
                format!("[\"{secret}\"]"),
            ] {
                if let Err(error) = load("", &[(name, &text)]) {
                    assert!(!error.contains(secret), "{name}: {error}");
                }
            }
            let error = load("", &[(&format!("{name}_FILE"), &format!("/nowhere/{secret}"))]).map(drop);
            assert!(!error.err().unwrap_or_default().contains(secret), "{name}");
        }
        for line in [
            "url = \"redis://u:hunter2@h",
            "url = hunter2",
            "\"hunter2\"",
            "url = [\"hunter2\"]",
            "url = { a = \"hunter2\" }",
        ] {
            let error = load(&format!("[redis]\n{line}\n"), &[]).unwrap_err();
            assert!(!error.contains(secret), "{error}");
        }
    }

    #[test]
    fn urls_are_shown_without_their_passwords() {
        for (url, shown) in [
            ("redis://user:pa@ss@cache:6380/2", "redis://***@cache:6380/2"),
            ("redis://:pw@h", "redis://***@h"),
            ("redis://u:p?w@h", "redis://***"),
            ("u:pw@h:6379", "***@h:6379"),
            ("unix:/run/redis.sock?pass=pw@w", "***"),
            ("redis+sentinel://u:pw@a,b/mymaster?password=pw#pw", "redis+sentinel://***@a,b/mymaster?***"),
        ] {
            assert_eq!(load(&format!("[redis]\nurl = {url:?}"), &[]).unwrap().redis.url.to_string(), shown);
        }
        let config = load("[traces]\nendpoint = \"https://me:hunter2@otel:4318/x\"", &[]).unwrap();
        assert_eq!(config.traces.endpoint.as_ref().unwrap().url(), "https://otel:4318/x");
        let shown = toml::to_string(&config).unwrap() + &format!("{config:?}");
        assert!(shown.contains("https://***@otel:4318/x") && !shown.contains("hunter2"), "{shown}");
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
