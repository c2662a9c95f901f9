//! Attacks by a tool that others use for that: slowhttptest holds connections by slow headers, slow bodies and slow reading.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use drover_tests::PATIENCE;
use reqwest::Client;
use serde_json::json;
use tokio::time::sleep;

use crate::System;

/// Connections that the tool opens.
const CONNECTIONS: &str = "400";

#[tokio::test]
async fn slowhttptest_holds_no_connection_and_hurts_nobody_who_posts() {
    // Longer than a post may take below: one that waits until a slow client is cut off is found.
    let limits = "header_timeout = \"6s\"\nrequest_timeout = \"6s\"\nwrite_timeout = \"6s\"\nidle_timeout = \"6s\"\n";
    let mut system = System::start(&format!("[api]\n{limits}")).await;
    // Each post needs a connection of its own.
    system.http = Client::builder().pool_max_idle_per_host(0).build().unwrap();
    for (attack, path) in [
        ("-H -i 1 -t GET", "/livez"),
        ("-B -i 1 -s 100000 -t POST -f application/json", "/v1/queues/q/messages"),
        ("-X -w 16 -y 32 -n 1 -z 8 -k 1 -t GET", "/openapi.json"),
    ] {
        let mut tool = Command::new("slowhttptest")
            .args(attack.split(' '))
            .args(["-c", CONNECTIONS, "-r", "200", "-p", "5", "-l", "30", "-u", &system.url(path)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("slowhttptest is there: `make e2e` installs it");
        let begun = Instant::now();
        let (mut most, mut slowest) = (0, Duration::ZERO);
        // The tool ends when all its connections are closed, but slow readers count those as open of which the kernel
        // still has bytes for them: what the API itself has open is what counts.
        while tool.try_wait().unwrap().is_none() && (most < 100 || open_files(&system) > 50) {
            let start = Instant::now();
            system.post("q", json!({"data": 1})).await;
            slowest = slowest.max(start.elapsed());
            most = most.max(open_files(&system));
            assert!(begun.elapsed() < PATIENCE, "{attack}: {} files are open", open_files(&system));
            sleep(Duration::from_millis(20)).await;
        }
        let _ = tool.kill();
        let said = tool.wait_with_output().unwrap().stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(most > 100, "{attack}: only {most} files were open: {said}");
        assert!(!said.contains("NO\u{1b}"), "{attack}: the service was not available: {said}");
        assert!(slowest < Duration::from_secs(3), "{attack}: a post took {slowest:?}");
    }
}

fn open_files(system: &System) -> usize {
    fs::read_dir(format!("/proc/{}/fd", system.api.id())).unwrap().count()
}
