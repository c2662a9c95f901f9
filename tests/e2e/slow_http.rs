//! Attacks by a tool that others use for that: slowhttptest holds connections by slow headers, slow bodies and slow reading.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use crate::System;

/// Connections that the tool opens.
const CONNECTIONS: &str = "400";

#[tokio::test]
async fn slowhttptest_holds_no_connection_and_hurts_nobody_who_posts() {
    let limits = "header_timeout = \"2s\"\nrequest_timeout = \"2s\"\nwrite_timeout = \"2s\"\nidle_timeout = \"2s\"\n";
    let system = System::start(&format!("[api]\n{limits}")).await;
    for (attack, path) in [
        ("-H -i 1 -t GET", "/livez"),
        ("-B -i 1 -s 100000 -t POST", "/v1/queues/q/messages"),
        ("-X -w 16 -y 32 -n 1 -z 8 -k 1 -t GET", "/openapi.json"),
    ] {
        let mut tool = Command::new("slowhttptest")
            .args(attack.split(' '))
            .args(["-c", CONNECTIONS, "-r", "200", "-p", "5", "-l", "30", "-u", &system.url(path)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("slowhttptest is there: `make e2e` installs it");
        let mut slowest = Duration::ZERO;
        while tool.try_wait().unwrap().is_none() {
            let start = Instant::now();
            system.post("q", json!({"data": 1})).await;
            slowest = slowest.max(start.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let said = tool.wait_with_output().unwrap().stdout;
        let said = String::from_utf8_lossy(&said);
        let open = said.rsplit("connected:").next().unwrap_or_default();
        assert!(said.contains("No open connections left"), "{attack}: {said}");
        assert!(!said.contains("NO\u{1b}"), "{attack}: the service was not available: {open}");
        assert!(slowest < Duration::from_secs(2), "{attack}: a post took {slowest:?}");
    }
}
