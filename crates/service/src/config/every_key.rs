//! Tests of every key in `config/default.toml`: environment variables can set each key, and no error text contains a secret
//! value.

use std::io::Write;

use serde_json::Value;

use super::{sources::DEFAULT_FILE, tests::load};

/// Returns all keys in `config/default.toml`, including the keys in comments. Each key has the value that [`changed_value`]
/// makes from its default.
fn every_key() -> Value {
    let mut text = String::new();
    for line in DEFAULT_FILE.lines() {
        let commented_key = line.strip_prefix("# ").filter(|commented_key| {
            let key = commented_key.split_once(" = ").map(|(key, _)| key);
            let is_key = key.is_some_and(|key| key.bytes().all(|b| b.is_ascii_lowercase() || b"_.".contains(&b)));
            is_key && !commented_key.starts_with("handler")
                || commented_key.starts_with(['[', ']'])
                || commented_key.starts_with("  { id")
        });
        text += commented_key.unwrap_or(line);
        text.push('\n');
    }
    let hash = "a".repeat(64);
    let mut configuration =
        changed_value(toml::from_str(&text.replace("sha256:…", &format!("sha256:{hash}"))).unwrap());
    // `changed_value` does not change booleans.
    configuration["dashboard"]["enabled"] = false.into();
    configuration
}

fn changed_value(value: Value) -> Value {
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
                Some(start) => {
                    let digits: String = text[start..].chars().take_while(char::is_ascii_digit).collect();
                    let increased_number = digits.parse::<u64>().unwrap() + 1;
                    format!("{}{increased_number}{}", &text[..start], &text[start + digits.len()..])
                }
                None => text,
            },
        }),
        Value::Array(list) if list.is_empty() => serde_json::json!(["https://a.example"]),
        Value::Object(table) => table.into_iter().map(|(key, value)| (key, changed_value(value))).collect(),
        other => other,
    }
}

/// Adds to `variables` a variable for each key, with lists as JSON. If `tables` is true, each table of the configuration gets
/// one environment variable, as JSON, instead of one for each key of the table.
fn collect_variables(prefix: &str, value: &Value, tables: bool, variables: &mut Vec<(String, String)>) {
    match value {
        Value::Object(table)
            if !tables || prefix.matches("__").count() < 1 + usize::from(prefix.contains("QUEUES")) =>
        {
            for (key, value) in table {
                let is_queue = prefix.ends_with("__QUEUES");
                let key = if is_queue { key.clone() } else { key.to_ascii_uppercase() };
                let separator = if prefix.is_empty() { "DROVER__" } else { "__" };
                collect_variables(&format!("{prefix}{separator}{key}"), value, tables, variables);
            }
        }
        Value::String(text) => variables.push((prefix.into(), text.clone())),
        other => variables.push((prefix.into(), other.to_string())),
    }
}

#[test]
fn environment_can_set_every_key() {
    let printed_config = |environment: &[(String, String)]| {
        let environment: Vec<_> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        load("", &environment).map(|config| toml::to_string(&config).unwrap())
    };
    let every_key = every_key();
    let expected_config = load(&toml::to_string(&every_key).unwrap(), &[]).unwrap();
    let expected_config = toml::to_string(&expected_config).unwrap();
    for tables in [false, true] {
        let mut variables = Vec::new();
        collect_variables("", &every_key, tables, &mut variables);
        assert_eq!(printed_config(&variables).unwrap(), expected_config);
        for omitted in 0..variables.len() {
            let mut other_variables = variables.clone();
            let (name, _) = other_variables.remove(omitted);
            // `changed_value` leaves the defaults of `auth.mode` and `worker.routes` unchanged, so omitting their
            // variables has no effect.
            let is_default = name == "DROVER__AUTH__MODE" || name == "DROVER__WORKER__ROUTES";
            assert!(
                is_default
                    || printed_config(&other_variables)
                        .map_or(true, |printed_config| printed_config != expected_config),
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
                "DROVER__QUEUES__my-queue__SCHEDULES__REPORT__CRON",
                "DROVER__API__CORS_ORIGINS",
                "DROVER__API__TLS__KEY",
                "DROVER__DASHBOARD__ENABLED",
                "DROVER__REDIS__USERNAME",
                "DROVER__REDIS__PASSWORD",
                "DROVER__REDIS__PASSWORD_FILE",
                "DROVER__REDIS__TLS__CA",
                "DROVER__REDIS__TLS__CERTIFICATE",
                "DROVER__REDIS__TLS__KEY",
                "DROVER__REDIS__SENTINEL__USERNAME",
                "DROVER__REDIS__SENTINEL__PASSWORD",
                "DROVER__REDIS__SENTINEL__PASSWORD_FILE",
                "DROVER__AUTH__KEYS",
                "DROVER__AUTH__KEYS_FILE",
                "DROVER__TRACES__ENDPOINT",
            ] {
                assert!(variables.iter().any(|(found, _)| found == name), "{name} is not among the keys");
            }
        }
    }
    let settings = queue_core::settings::Settings::default();
    let Value::Object(settings) = serde_json::to_value(settings).unwrap() else { unreachable!() };
    let queue_in_file = every_key["queues"]["my-queue"].as_object().unwrap();
    let shown_settings = queue_in_file.keys().filter(|key| *key != "schedules");
    assert_eq!(
        shown_settings.collect::<Vec<_>>(),
        settings.keys().collect::<Vec<_>>(),
        "config/default.toml shows all"
    );
}

#[test]
fn secret_from_a_file_is_never_shown() {
    let mut secret = tempfile::NamedTempFile::new().unwrap();
    secret.write_all(b"redis://user:pa@ss@cache:6380/2\n").unwrap();
    let path = secret.path().to_str().unwrap();
    let config = load("", &[("DROVER__REDIS__URL_FILE", path)]).unwrap();
    assert_eq!(config.redis.url.expose(), "redis://user:pa@ss@cache:6380/2");
    let shown_config = toml::to_string(&config).unwrap() + &format!("{config:?}");
    assert!(shown_config.contains("redis://***@cache:6380/2") && !shown_config.contains("pa@ss"), "{shown_config}");
    let socket = load("[redis]\nurl = \"unix:/run/redis.sock?pass=hunter2\"", &[]).unwrap();
    assert_eq!(format!("{:?}", socket.redis.url), "unix:/run/redis.sock?***");
}

#[test]
fn no_error_repeats_a_secret() {
    let secret = "hunter2";
    let mut variables = Vec::new();
    collect_variables("", &every_key(), false, &mut variables);
    for (name, _) in &variables {
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
fn urls_are_shown_without_passwords() {
    for (url, shown) in [
        ("redis://user:pa@ss@cache:6380/2", "redis://***@cache:6380/2"),
        ("redis://:pw@h", "redis://***@h"),
        ("redis://u:p?w@h", "***"),
        ("u:pw@h:6379", "***"),
        ("redis:/u:pw@h", "***"),
        ("unix:/run/redis.sock?pass=pw@w", "***"),
        ("redis+cluster://u:p@w/x?y@h1:6379,[::1]:7000", "redis+cluster://***@h1:6379,[::1]:7000"),
        ("rediss+sentinel://h1:26379,h2:26379/main/2?pw#pw", "rediss+sentinel://h1:26379,h2:26379/main/2"),
        ("redis+sentinel://u:pw@a,b/mymaster?password=pw#pw", "redis+sentinel://***@a,b/mymaster"),
    ] {
        let redis = load(&format!("[redis]\nurl = {url:?}"), &[]).unwrap().redis;
        assert_eq!(format!("{:?}", redis.url), shown);
    }
    let config = load("[traces]\nendpoint = \"https://me:hunter2@otel:4318/x\"", &[]).unwrap();
    assert_eq!(config.traces.endpoint.as_ref().unwrap().url(), "https://otel:4318/x");
    let shown_config = toml::to_string(&config).unwrap() + &format!("{config:?}");
    assert!(shown_config.contains("https://***@otel:4318/x") && !shown_config.contains("hunter2"), "{shown_config}");
}
