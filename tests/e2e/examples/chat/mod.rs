//! Tests that the example `chat` shows each message to its receiver once and in order, while the chat server and the API are killed.

mod browsers;
mod clients;
mod connections;
mod page;

use std::time::{Duration, Instant};

use drover_tests::{Process, ReservedPort, TIME_LIMIT};
use serde_json::{Value, json};

use crate::{System, markdown::document};

/// A process that a test kills.
#[derive(Debug, Clone, Copy)]
enum ChatProcess {
    Server,
    Api,
}

/// A chat server, and the Drover that it uses.
struct Chat {
    system: System,
    port: ReservedPort,
    server: Process,
}

impl Chat {
    async fn start() -> Self {
        Self::start_with(&document("examples/chat/drover.toml")).await
    }

    /// Starts Drover with this configuration, and the chat server.
    async fn start_with(config: &str) -> Self {
        let system = System::start(config).await;
        let port = ReservedPort::reserve();
        let server = launch_chat_server(&system, &port);
        server.wait_for_log("the chat is at");
        Self { system, port, server }
    }

    fn kill(&mut self, victim: ChatProcess) {
        match victim {
            ChatProcess::Server => self.server.kill(),
            ChatProcess::Api => self.system.api.kill(),
        }
    }

    /// Starts a killed process again, on its earlier port.
    fn relaunch(&mut self, victim: ChatProcess) {
        match victim {
            ChatProcess::Server => self.server = launch_chat_server(&self.system, &self.port),
            ChatProcess::Api => self.system.relaunch_api(),
        }
    }

    /// Returns the URL of the chat's page.
    fn url(&self) -> String {
        format!("http://{}/", self.port.address())
    }

    /// Waits until this many messages for a user are waiting.
    async fn wait_for_waiting_messages(&self, user: &str, expected: u64) {
        let started_at = Instant::now();
        loop {
            let queue = self.system.get(&format!("/v1/queues/chat-{user}")).await;
            if queue["counts"]["waiting"] == expected {
                return;
            }
            assert!(started_at.elapsed() < TIME_LIMIT, "{expected} messages should wait: {queue}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until no message is left in any queue of the chat.
    async fn wait_until_nothing_is_left(&self) {
        self.wait_until_empty("chat-").await;
        self.system.assert_clean().await;
    }

    /// Waits until no message is left in the queues whose names start with `prefix`.
    async fn wait_until_empty(&self, prefix: &str) {
        let started_at = Instant::now();
        loop {
            let queues = self.system.get(&format!("/v1/queues?prefix={prefix}&limit=1000")).await;
            let queues = queues["queues"].as_array().unwrap();
            let empty_counts = json!({"held": 0, "delayed": 0, "waiting": 0, "active": 0, "completed": 0, "failed": 0});
            let nonempty_queues: Vec<&Value> = queues.iter().filter(|queue| queue["counts"] != empty_counts).collect();
            if !queues.is_empty() && nonempty_queues.is_empty() {
                return;
            }
            assert!(started_at.elapsed() < TIME_LIMIT, "these queues have messages: {nonempty_queues:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn launch_chat_server(system: &System, port: &ReservedPort) -> Process {
    Process::start_example("chat", &["--drover", &system.base, "--bind", &port.address().to_string()], &[])
}
