//! Tests of the configuration as a whole: the values that files and variables set, and the error text for each mistake.

use std::{ffi::OsString, io::Write, os::unix::ffi::OsStringExt};

use queue_core::Millis;
use serde_json::json;
use tempfile::NamedTempFile;

use super::{AuthMode, LogFormat, Scope};

type Config = super::Config;

const HASH_A: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const HASH_B: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn config_file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// Loads a configuration from a file with the text `text` and from the variables in `environment`.
pub(super) fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
    Config::load_with(Some(config_file(text).path()), environment).map_err(|error| error.to_string())
}

/// Returns the entry of an API key in the configuration.
fn key_entry(id: &str, hash: &str, more: &str) -> String {
    format!("{{ id = \"{id}\", hash = \"{hash}\", scopes = [\"read\"], queues = [\"*\"]{more} }},")
}

#[test]
fn defaults_of_the_configuration_are_the_documented_values() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.redis.url.expose(), "redis://127.0.0.1:6379");
    assert_eq!(config.api.bind.to_string(), "127.0.0.1:8080");
    assert_eq!((config.api.body_limit, config.api.max_body_memory), (1 << 20, 256 << 20));
    assert_eq!((config.auth.mode, config.log.format), (AuthMode::Keys, LogFormat::Pretty));
    assert_eq!(config.log.filter, "info");
}

#[test]
fn environment_overrides_the_file_and_the_file_overrides_the_defaults() {
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
fn list_in_a_variable_replaces_the_list_of_the_file_and_a_table_extends_the_table_of_the_file() {
    let file = "[queues.q]\nmax_attempts = 9\nexclusive = true\nretention.failed = { count = 5 }\n";
    let config = load(
        file,
        &[
            ("DROVER__AUTH__KEYS", &format!("[{}]", key_entry("ops", HASH_A, ""))),
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
    let retention = json!({"failed": {"count": 5, "age": "1h"}, "completed": {"count": 7}});
    for (queue, settings) in [
        ("q", json!({"max_attempts": 9, "exclusive": {"parallel": 4}, "retention": retention})),
        ("MAILS", json!({"max_attempts": 5})),
        ("mails", json!({})),
        ("My-Queue", json!({"visibility_timeout": "2s"})),
        ("my-queue", json!({})),
        ("a__b", json!({"max_attempts": 4})),
        ("x.y", json!({"max_lapses": 2})),
        ("user-1", json!({"max_lapses": 8})),
        ("v1.user:7", json!({"exclusive": true})),
    ] {
        let declared_settings = config.queues.of(&queue.parse().unwrap());
        assert_eq!(serde_json::to_value(declared_settings).unwrap(), settings, "{queue}");
    }
}

#[test]
fn queue_names_with_dots_are_keys_and_not_paths() {
    let config = load("[queues.\"a.b\"]\nmax_lapses = 7\n[queues.\"a.*\"]\nmax_attempts = 7", &[]).unwrap();
    let settings = config.queues.of(&"a.b".parse().unwrap());
    assert_eq!(serde_json::to_value(settings).unwrap(), json!({"max_lapses": 7, "max_attempts": 7}));
}

#[test]
fn printed_configuration_loads_again_and_has_no_routes_of_a_worker() {
    let limit = ", rate_limit = { max = 5, duration = \"1m\" }, expires_at = 2030-01-31T00:00:00Z";
    let file = format!(
        "[queues.q]\nmax_attempts = 5\n[api]\nbind = \"0.0.0.0:1\"\n[auth]\nkeys = [\n{}\n]\n[worker]\nconcurrency = 7\n\
         [[worker.routes]]\nqueue = \"a\"\nhandler = {{ type = \"http\", secret = \"hunter2\" }}",
        key_entry("ops", HASH_A, limit)
    );
    let config = load(&file, &[]).unwrap();
    let keys = config.auth.load_keys().unwrap();
    assert!(keys[0].allows(Scope::Read, "q") && !keys[0].allows(Scope::Enqueue, "q"));
    assert_eq!(keys[0].expires_at.unwrap().to_string(), "2030-01-31T00:00:00.000Z");
    let printed_config = toml::to_string(&config).unwrap();
    assert!(printed_config.contains("concurrency = 7") && !printed_config.contains("hunter2"), "{printed_config}");
    assert_eq!(toml::to_string(&load(&printed_config, &[]).unwrap()).unwrap(), printed_config);
}

#[test]
fn mistake_in_a_file_is_reported_with_its_key_and_without_words_of_a_library() {
    for (file, expected) in [
        // Cases of configurations that contain unknown keys, or unknown words as values:
        ("[api]\nbnid = 1", "api.bnid: \"bnid\" is unknown: did you mean \"bind\"?"),
        ("[wroker]\nx = 1", "did you mean \"worker\"?"),
        ("[queues.q]\nmax_atempts = 1", "did you mean \"max_attempts\"?"),
        ("[queues.\"user-*\"]\nmax_atempts = 1", "queues.user-*.max_atempts: \"max_atempts\" is unknown: did you mean"),
        ("[worker]\nmax_lease = 5", "did you mean \"max_leases\"?"),
        ("[queues.q]\nlimiter = 1", "queues.q.limiter: \"limiter\" is unknown: did you mean \"rate_limit\"?"),
        ("[log]\nformat = \"prety\"", "log.format: \"prety\" is unknown: did you mean \"pretty\"?"),
        ("\"redis.url\" = \"redis://a\"", "\"redis.url\" is unknown"),
        ("\"api[1000000000]\" = 1", "\"api[1000000000]\" is unknown"),
        ("[redis]\n\"url.a\" = 1", "\"url.a\" is unknown"),
        ("[queues.q]\nbackoff = { type = \"fixd\" }", "queues.q.backoff.type: \"fixd\" is unknown: did you mean"),
        // Cases of configurations that lack required keys:
        ("[api]\ntls = { key = \"a\" }", "api.tls: the key certificate is missing"),
        ("[auth]\nkeys = [{ id = \"ops\" }]", "auth.keys[0]: the key hash is missing"),
        ("[queues.q]\nrate_limit = { max = 5 }", "queues.q.rate_limit: the field \"duration\" is required"),
        // Cases of configurations that contain values of a wrong type:
        ("[api]\nbody_limit = \"many\"", "api.body_limit: is a text, expected a whole number, 0 or more"),
        ("[api]\nbody_limit = -1", "api.body_limit: expected a whole number, 0 or more"),
        ("[api]\nbody_limit = 1.5", "api.body_limit: "),
        ("[api]\nbody_limit = []", "api.body_limit: is a list, expected a whole number, 0 or more"),
        ("[api]\nbody_limit = 99999999999999999999", "a number in it is too large"),
        ("worker = 5", "worker: is a whole number, expected a table"),
        ("[redis]\ntimeout = \"soon\"", "redis.timeout: expected a duration"),
        ("[redis]\ntimeout = true", "redis.timeout: is true, expected a duration"),
        ("[redis]\nurl = 5", "redis.url: is a whole number, expected a text"),
        ("[api]\nbind = 8080", "api.bind: is a whole number, expected a text"),
        ("[api]\ncors_origins = \"https://a\"", "api.cors_origins: is a text, expected a list"),
        ("[traces]\nsample_ratio = \"all\"", "traces.sample_ratio: is a text, expected a number"),
        ("[log]\nformat = 5", "log.format: expected one of pretty, json"),
        (
            "[queues.q]\nbackoff = { type = 5 }",
            "queues.q.backoff.type: is a whole number, expected one of fixed, exponential",
        ),
        ("[queues.q]\nbackoff = [1]", "queues.q.backoff: is a list, expected a table"),
        ("[queues.q]\nexclusive = 5", "queues.q.exclusive: is a whole number, expected true, false, or"),
        ("[queues.q]\nmax_attempts = \"a\"", "queues.q.max_attempts: is a text, expected a whole number"),
        ("[auth]\nkeys = [\"drv_ops_x\"]", "auth.keys[0]: is a text, expected a table"),
        // Cases of configurations that contain values out of range, or keys that contradict each other:
        ("[api]\nbody_limit = 5000000", "api.body_limit"),
        ("[api]\nmax_body_memory = 4194303", "api.max_body_memory must be 4 times api.body_limit"),
        ("[api]\nmax_connections = 0", "api.max_connections"),
        ("[api]\nmax_listeners = 0", "api.max_listeners"),
        ("[api]\nheader_timeout = 0", "api.header_timeout"),
        ("[api]\ncors_origins = [\"*\"]", "api.cors_origins[0]"),
        ("[redis]\ntimeout = \"1ms\"", "redis.timeout"),
        ("[queues.q]\nvisibility_timeout = \"1ms\"", "queues.q.visibility_timeout"),
        ("[queues.q]\nmax_attempts = 0", "queues.q.max_attempts: must be a whole number from 1 to 1000"),
        ("[queues.\"a b\"]\nmax_attempts = 1", "a queue's name"),
        (
            "[queues.q.schedules.s]\ncron = \"61 * * * *\"\nmessage.data = 1",
            "queues.q.schedules.s.cron: its minute is \"61\", and must be *, 0 to 59",
        ),
        (
            "[queues.q.schedules.s]\nevery = \"1m\"\nmissed = 1\nmessage.data = 1",
            "queues.q.schedules.s.missed: must be one of skip, one, all",
        ),
        ("[queues.q.backoff]\ntype = [1]", "queues.q.backoff.type: "),
        ("[api]\nbind = \"0.0.0.0:8080\"", "auth.mode = \"none\""),
        ("[api]\nbind = \"0.0.0.0:8080\"", "target/release/producer-api key"),
        ("[api]\nbind = \"here\"", "api.bind"),
        // Cases of configurations that are not valid TOML:
        ("not toml", "TOML"),
        ("a = 1\na = 2", "line 2, column 1 is not valid TOML"),
    ] {
        let error = load(file, &[]).unwrap_err();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
        for word in
            ["invalid type", "invalid value", "missing field", "unit variant", "struct ", "usize", "u64", "serde"]
        {
            assert!(!error.contains(word), "{error}");
        }
    }
    assert!(load("[api]\nbind = \"0.0.0.0:8080\"\n[auth]\nmode = \"none\"", &[]).is_ok());
}

#[test]
fn mistake_in_a_variable_is_reported_with_its_name() {
    for (name, text, expected) in [
        ("DROVER__API__BODY_LIMIT", "many", "api.body_limit: is a text, expected a whole number"),
        ("DROVER__API__BIND", "8080", "api.bind: expected a host and a port"),
        ("DROVER__LOG__FORMAT", "5", "log.format: expected one of pretty, json"),
        ("DROVER__REDIS", "{ timeout = \"soon\" }", "redis.timeout: expected a duration"),
        ("DROVER__API__TLS", "{ key = \"a\" }", "api.tls: the key certificate is missing"),
        ("DROVER__LOG", "{ \"formatt\": 5 }", "log.formatt: \"formatt\" is unknown"),
        (
            "DROVER__API",
            "{\"body_limit\": 99999999999999999999999999}",
            "api.body_limit: is a number that is too large, expected a whole number",
        ),
        ("DROVER__AUTH__KEYS", "[{ id = 5 }]", "auth.keys[0].id: is a whole number"),
        ("DROVER__AUTH__KEYS", "[hunter2", "auth.keys: is neither valid JSON"),
    ] {
        let error = load("[redis]\nurl = \"redis://a\"\n[log]\nfilter = \"warn\"", &[(name, text)]).unwrap_err();
        assert!(error.contains(expected) && error.ends_with(&format!("(set by {name})")), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = load("", &[("DROVER__WORKER__CONCURENCY", "9")]).unwrap_err();
    assert!(error.contains("did you mean \"concurrency\"?"), "{error}");
}

#[test]
fn mistake_is_reported_with_its_source_where_a_file_and_a_variable_set_one_table() {
    let file = config_file("[queues.\"a.b\"]\nmax_attempts = \"a\"");
    let file_suffix = format!("(in {})", file.path().display());
    let error_with_max_lapses = |value: &str| {
        let variable = [("DROVER__QUEUES__a.b__MAX_LAPSES".into(), value.into())];
        Config::load_with(Some(file.path()), variable).unwrap_err().to_string()
    };
    assert!(
        error_with_max_lapses("5").contains("queues.a.b.max_attempts: is a text"),
        "{}",
        error_with_max_lapses("5")
    );
    assert!(error_with_max_lapses("5").ends_with(&file_suffix), "{}", error_with_max_lapses("5"));
    // If a configuration has two mistakes, the mistake whose key comes first is always reported.
    assert!((0..8).all(|_| error_with_max_lapses("b").ends_with(&file_suffix)));
}

#[test]
fn only_drovers_own_variables_must_be_utf_8() {
    let non_utf_8 = || OsString::from_vec(b"caf\xe9".to_vec());
    let load_variable =
        |name: OsString, value: OsString| Config::load_with(None, [(name, value)]).map_err(|e| e.to_string());
    assert!(load_variable("LEGACY".into(), non_utf_8()).is_ok());
    assert!(load_variable("DROVER_LEGACY".into(), non_utf_8()).is_ok());
    assert!(load_variable(non_utf_8(), "x".into()).is_ok());
    let error = load_variable("DROVER__REDIS__URL".into(), non_utf_8()).unwrap_err();
    assert_eq!(error, "configuration: DROVER__REDIS__URL is not UTF-8: write its value in UTF-8");
    let name = OsString::from_vec(b"DROVER__LOG__\xe9".to_vec());
    assert!(load_variable(name, "x".into()).unwrap_err().contains("is not UTF-8"));
}

#[test]
fn key_that_two_variables_set_is_refused_with_the_names_of_both() {
    let file = NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    for (one, other) in [
        (("DROVER__REDIS__URL", "redis://a"), ("DROVER__REDIS__URL_FILE", path)),
        (("DROVER__REDIS__URL", "redis://a"), ("DROVER__Redis__Url", "redis://b")),
    ] {
        let error = load("", &[one, other]).unwrap_err();
        assert!(error.contains(one.0) && error.contains(other.0) && error.contains("remove one"), "{error}");
    }
    // API keys may be both in the configuration and in the file `keys_file`.
    assert!(load("", &[("DROVER__AUTH__KEYS", "[]"), ("DROVER__AUTH__KEYS_FILE", path)]).is_ok());
}

#[test]
fn variable_with_one_underscore_for_two_is_refused_with_the_right_name() {
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
    // Some variables that begin with `DROVER_` do not configure Drover: `exec` handlers pass such variables to programs,
    // Kubernetes describes services in such variables, and tests read some.
    for other in [
        "DROVER_QUEUE",
        "DROVER_MESSAGE_ID",
        "DROVER_PORT",
        "DROVER_REDIS_PORT",
        "DROVER_API_SERVICE_HOST",
        "DROVER_QUEUES_SERVICE_HOST",
        "DROVER_FAULTS_SEED",
    ] {
        assert!(load("", &[(other, "x")]).is_ok(), "{other}");
    }
}

#[test]
fn more_api_keys_are_read_from_the_keys_file() {
    let more_keys = config_file(&format!("keys = [{}]", key_entry("mail", HASH_B, "")));
    let path = more_keys.path().display();
    let config =
        load(&format!("[auth]\nkeys_file = \"{path}\"\nkeys = [{}]", key_entry("ops", HASH_A, "")), &[]).unwrap();
    let ids: Vec<_> = config.auth.load_keys().unwrap().into_iter().map(|key| key.id.to_string()).collect();
    assert_eq!(ids, ["ops", "mail"]);
    let secret = "drv_ops_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (text, expected) in [
        (String::new(), "the key keys is missing"),
        ("keys = []".into(), "has no keys"),
        (format!("keys = [{}]", key_entry("mail", HASH_A, "")), "one hash is given twice, for ops and mail"),
        (format!("keys = [{}]", key_entry("mail", secret, "")), "keys[0].hash: not the hash of a key"),
        (format!("keys = [{}]", key_entry("mail", HASH_B, ", scope = 1")), "did you mean \"scopes\"?"),
        (format!("keys = [ {secret}"), ""),
    ] {
        std::fs::write(more_keys.path(), text).unwrap();
        let error = config.auth.load_keys().unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("configuration: auth.keys"), "{expected:?}: {error}");
        assert!(!error.contains(secret), "{error}");
    }
    drop(more_keys);
    assert!(config.auth.load_keys().unwrap_err().to_string().contains("can't read"));
}

#[test]
fn file_of_keys_that_the_environment_names_is_read_only_when_keys_are_loaded() {
    let config = load("", &[("DROVER__AUTH__KEYS_FILE", "/nowhere/keys")]).unwrap();
    assert_eq!(config.auth.keys_file.as_ref().unwrap().to_string(), "/nowhere/keys");
    assert!(config.auth.load_keys().is_err());
}

#[test]
fn invalid_api_keys_stop_the_start() {
    let keys = |keys: &[String]| format!("[auth]\nkeys = [{}]", keys.concat());
    let limit = ", rate_limit = { max = 5, duration = \"1m\" }";
    for (text, expected) in [
        (keys(&[key_entry("o p", HASH_A, "")]), "auth.keys[0].id: a key's id is"),
        (keys(&[key_entry("ops", "drv_ops_x", "")]), "auth.keys[0].hash: not the hash of a key"),
        (keys(&[key_entry("ops", HASH_A, ", rate_limit = { max = 5, duration = 1500 }")]), "whole seconds"),
        (
            keys(&[key_entry("ops", HASH_A, ", rate_limit = { max = 0, duration = 1000 }")]),
            "max: must be a whole number from 1 to 1000000",
        ),
        (keys(&[key_entry("ops", HASH_A, ""), key_entry("ops", HASH_A, "")]), "one hash is given twice"),
        (keys(&[key_entry("ops", HASH_A, limit), key_entry("ops", HASH_B, "")]), "share one rate_limit"),
        (keys(&[key_entry("ops", HASH_A, "").replace("\"read\"", "")]), "a key without a scope permits nothing"),
        (keys(&[key_entry("ops", HASH_A, "").replace("read", "raed")]), "did you mean \"read\"?"),
        (keys(&[key_entry("ops", HASH_A, "").replace("\"*\"", "")]), "is for no queue"),
        (keys(&[key_entry("ops", HASH_A, "").replace('*', "a*b")]), "neither the name of a queue"),
        (keys(&[key_entry("ops", HASH_A, "")]) + "\nmode = \"none\"", "lets everybody in, though there are keys"),
    ] {
        let error = load(&text, &[]).unwrap_err();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
        assert!(!error.contains("drv_ops_x"), "{error}");
    }
    assert!(load(&keys(&[key_entry("ops", HASH_A, limit), key_entry("ops", HASH_B, limit)]), &[]).is_ok());
}
