//! Tests of the section `worker` as it is read from a file and the environment.

use std::{ffi::OsString, io::Write};

use queue_core::Millis;

use super::*;

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let mut config_file = tempfile::NamedTempFile::new().unwrap();
    config_file.write_all(file.as_bytes()).unwrap();
    let environment = environment.iter().map(|(key, value)| (OsString::from(key), OsString::from(value)));
    Config::load_with(Some(config_file.path()), environment).map_err(|error| error.to_string())
}

/// Returns a configuration with one route, whose handler has the keys in `handler`.
fn config_with_handler(handler: &str) -> String {
    format!("[[worker.routes]]\nqueue = \"q\"\nhandler = {{ {handler} }}")
}

#[test]
fn defaults_of_the_section_worker_are_the_documented_values() {
    let worker = load("", &[]).unwrap().worker;
    assert_eq!((worker.bind.to_string().as_str(), worker.concurrency), ("127.0.0.1:8081", 100));
    assert_eq!((worker.max_leases, worker.max_bytes, worker.order), (10_000, 64 << 20, Order::Weighted));
    assert_eq!((*worker.poll_interval, *worker.shutdown_grace), (Millis::from_secs(5), Millis::from_secs(25)));
    let route = &worker.routes[0];
    assert_eq!(route.queue.as_str(), "my-queue");
    assert_eq!(route.handler, HandlerConfig::Log { result: "processed ✅".into() });
}

#[test]
fn routes_in_the_environment_are_json_and_replace_those_in_the_file() {
    let routes = r#"[{"queue": "a", "handler": {"type": "log", "result": "5"}}]"#;
    let environment = [("DROVER__WORKER__ROUTES", routes), ("DROVER__WORKER__CONCURRENCY", "9")];
    let worker = load("[worker]\nconcurrency = 7\norder = \"strict\"", &environment).unwrap().worker;
    assert_eq!(worker.routes[0].handler, HandlerConfig::Log { result: "5".into() });
    assert_eq!((worker.concurrency, worker.order), (9, Order::Strict));
}

#[test]
fn mistakes_in_the_configuration_stop_the_start_and_are_reported_with_their_keys() {
    let route = |more: &str| format!("[[worker.routes]]\nqueue = \"q\"\n{more}");
    let log = "handler = { type = \"log\" }";
    for (file, expected) in [
        (
            config_with_handler("type = \"loog\""),
            "worker.routes[0].handler.type: \"loog\" is unknown: did you mean \"log\"?",
        ),
        (
            config_with_handler("type = \"http\", urll = \"http://a\""),
            "worker.routes[0].handler.urll: \"urll\" is unknown: did you mean \"url\"?",
        ),
        ("[worker]\norder = \"strickt\"".into(), "worker.order: \"strickt\" is unknown: did you mean \"strict\"?"),
        ("[worker]\nmax_lease = 5".into(), "worker.max_lease: \"max_lease\" is unknown: did you mean \"max_leases\"?"),
        ("[worker]\nconcurrency = 0".into(), "worker.concurrency"),
        ("[worker]\nconcurrency = 20000".into(), "worker.concurrency must be 1 to worker.max_leases = 10000"),
        ("[worker]\nmax_leases = 50".into(), "worker.concurrency must be 1 to worker.max_leases = 50"),
        ("[worker]\nmax_bytes = 1000".into(), "worker.max_bytes must be 4194304"),
        ("[worker]\npoll_interval = 1".into(), "worker.poll_interval: must be 100ms to "),
        (route(&format!("concurrency = 0\n{log}")), "routes[0].concurrency"),
        (route(&format!("weight = 0\n{log}")), "worker.routes[0].weight"),
        (format!("[[worker.routes]]\nqueue = \"a*b\"\n{log}"), "neither the name of a queue"),
        (route(""), "worker.routes[0]: the key handler is missing"),
        (route("handler = {}"), "worker.routes[0].handler: the key type is missing"),
        (route("handler = \"log\""), "worker.routes[0].handler: expected a table"),
        (
            config_with_handler("type = \"exec\", command = [\"a\"], timeout = true"),
            "worker.routes[0].handler.timeout: is true, expected a duration",
        ),
    ] {
        let error = load(&file, &[]).unwrap_err();
        assert!(error.contains(expected), "{expected:?} is not in {error}");
    }
    let error = load("", &[("DROVER__WORKER__ROUTES", "[{ queue = 5 }]")]).unwrap_err();
    assert!(error.contains("worker.routes[0].queue: is a whole number") && error.ends_with("ROUTES)"), "{error}");
}

#[test]
fn printed_configuration_loads_again() {
    let file = "[[worker.routes]]\nqueue = \"a\"\n\
                handler = { type = \"http\", url_header = \"to\", allowed_hosts = [\"a:81\"], \
                allowed_networks = [\"10.0.0.0/8\"], timeout = \"3s\" }\n\
                [[worker.routes]]\nqueue = \"b\"\nhandler = { type = \"exec\", command = [\"a\", \"b c\"] }";
    let printed_config = toml::to_string(&load(file, &[]).unwrap()).unwrap();
    assert_eq!(toml::to_string(&load(&printed_config, &[]).unwrap()).unwrap(), printed_config);
}

#[test]
fn handlers_with_an_invalid_configuration_stop_the_start() {
    for (handler, expected) in [
        ("type = \"http\"", "needs url"),
        ("type = \"http\", url = \"ftp://a\"", "http:// or https://"),
        ("type = \"http\", url = \"http://a\", url_header = \"to\"", "exclude each other"),
        ("type = \"http\", url_header = \"to\"", "allowed_hosts"),
        ("type = \"http\", url = \"http://a\", allowed_hosts = [\"a\"]", "go with url_header"),
        ("type = \"http\", url = \"http://a\", secret = \"hunter2\"", "whsec_"),
        ("type = \"http\", url = \"http://a\", secret = [\"hunter2\"]", "whsec_"),
        ("type = \"http\", url = \"http://a\", timeout = 0", "handler.timeout: must be 100ms to 7d"),
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
        let file = format!("[queues.q]\ntimeout = \"5s\"\n[[worker.routes]]\nqueue = \"q\"\nhandler = {{ {handler} }}");
        let error = load(&file, &[]).unwrap_err();
        assert!(
            error.contains("worker.routes[0].handler") && error.contains(expected),
            "{expected:?} is not in {error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn errors_and_printed_configurations_never_show_webhook_secrets() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let load = |secret: &str| {
        let handler = format!("type = \"http\", url = \"http://me:hunter2@a/b?k=hunter2\", secret = {secret}");
        load(&format!("[[worker.routes]]\nqueue = \"q\"\nhandler = {{ {handler} }}"), &[])
    };
    for (written, count) in [(format!("{secret:?}"), 1), (format!("[{secret:?}, {secret:?}]"), 2)] {
        let config = load(&written).unwrap();
        let HandlerConfig::Http(http) = &config.worker.routes[0].handler else {
            unreachable!("the handler is of type http")
        };
        assert_eq!(http.secret.len(), count);
        let displayed_config = toml::to_string(&config).unwrap() + &format!("{config:?}");
        assert!(displayed_config.contains("http://***@a/b?***"), "{displayed_config}");
        assert!(
            !displayed_config.contains("hunter2") && !displayed_config.contains(&secret[6..]),
            "{displayed_config}"
        );
    }
}

#[test]
fn identical_routes_stop_the_start() {
    let route = |queue: &str, name: &str| {
        format!("[[worker.routes]]\nqueue = \"{queue}\"\n{name}\nhandler = {{ type = \"log\" }}\n")
    };
    let error = load(&(route("b", "") + &route("a*", "") + &route("b", "")), &[]).unwrap_err();
    assert!(error.contains("worker.routes[2] has the same queue and name as worker.routes[0]"), "{error}");
    let name_key = "name = \"n\"";
    assert!(load(&(route("b", name_key) + &route("b", name_key)), &[]).unwrap_err().contains("routes[1]"));
    assert!(load(&(route("b", name_key) + &route("b", "") + &route("b*", "")), &[]).is_ok());
}

#[test]
fn handler_timeout_longer_than_the_declared_timeout_of_its_queues_is_refused() {
    let file = |queues: &str, queue: &str| {
        format!(
            "{queues}\n[[worker.routes]]\nqueue = \"{queue}\"\n\
             handler = {{ type = \"exec\", command = [\"a\"], timeout = \"10s\" }}"
        )
    };
    let short_timeout = "[queues.\"user-*\"]\ntimeout = \"5s\"";
    for queue in ["user-*", "user-1", "user-vip-*", "*"] {
        assert!(load(&file(short_timeout, queue), &[]).unwrap_err().contains("must not be shorter"), "{queue}");
    }
    assert!(load(&file(short_timeout, "other"), &[]).is_ok());
    let longer_timeout = format!("{short_timeout}\n[queues.user-1]\ntimeout = \"10s\"");
    assert!(load(&file(&longer_timeout, "user-1"), &[]).is_ok());
}
