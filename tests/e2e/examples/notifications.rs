//! Tests that the example `notifications` delivers a user's held notifications in order when the user logs in at any server.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use drover_tests::{Process, ReservedPort, TIME_LIMIT};
use futures_util::future::join_all;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::{System, markdown::document};

/// A server of the example `notifications`.
pub(super) struct Server {
    port: ReservedPort,
    process: Process,
    arguments: Vec<String>,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(super) fn start(system: &System, lease_seconds: u64) -> Self {
        let port = ReservedPort::reserve();
        let arguments: Vec<String> = [
            "--drover",
            &system.base,
            "--bind",
            &port.address().to_string(),
            "--lease-seconds",
            &lease_seconds.to_string(),
        ]
        .map(str::to_owned)
        .into();
        let process = launch(&arguments);
        process.wait_for_log("the server listens");
        Self { port, process, arguments }
    }

    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    /// Sends a signal, such as `-STOP`, to the server.
    pub(super) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.process.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    /// Starts the server again on the same port.
    pub(super) fn restart(&mut self) {
        self.process = launch(&self.arguments);
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }
}

fn launch(arguments: &[String]) -> Process {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Process::start_example("notifications", &arguments, &[])
}

/// A user's program, which acknowledges a notification with its next request.
pub(super) struct User {
    pub(super) name: String,
    /// The URL of the server to which the user's program sends requests.
    pub(super) server: String,
    /// The token of the last received notification, which the next request acknowledges.
    pub(super) seen: Option<String>,
    http: Client,
}

impl User {
    pub(super) fn new(system: &System, name: &str, server: String) -> Self {
        Self { name: name.to_owned(), server, seen: None, http: system.http.clone() }
    }

    /// Requests the next notification. Returns `None` if no notification arrives in time.
    pub(super) async fn next(&mut self) -> Result<Option<Value>, String> {
        let answer = self.http.get(self.url("next")).send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let body = answer.text().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("{status}: {body}"));
        }
        self.seen = None;
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let notification: Value = serde_json::from_str(&body).unwrap();
        self.seen = Some(notification["seen"].as_str().unwrap().to_owned());
        Ok(Some(notification))
    }

    /// Repeats requests until a notification arrives, and returns the data of the notification.
    pub(super) async fn receive(&mut self) -> Value {
        let start = Instant::now();
        loop {
            if let Some(notification) = self.next().await.unwrap() {
                return notification["data"].clone();
            }
            assert!(start.elapsed() < TIME_LIMIT, "no notification arrives for {}", self.name);
        }
    }

    /// Logs the user out, and acknowledges the last notification.
    pub(super) async fn log_out(&mut self) -> Result<(), String> {
        let answer = self.http.post(self.url("logout")).send().await.map_err(|error| error.to_string())?;
        if answer.status() != StatusCode::NO_CONTENT {
            return Err(answer.status().to_string());
        }
        self.seen = None;
        Ok(())
    }

    fn url(&self, action: &str) -> String {
        let seen = self.seen.as_ref().map(|seen| format!("?seen={seen}")).unwrap_or_default();
        format!("{}/users/{}/{action}{seen}", self.server, self.name)
    }
}

/// Returns the message of a notification, as a service posts it to Drover.
pub(super) fn notification(user: &str, data: &Value) -> Value {
    json!({"data": data, "group": user, "hold": format!("online:{user}")})
}

pub(super) async fn start() -> System {
    System::start(&document("examples/notifications/drover.toml")).await
}

/// Waits until this many messages of the queue are in this state.
pub(super) async fn wait_for_count(system: &System, state: &str, count: u64) {
    let start = Instant::now();
    loop {
        let counts = &system.get("/v1/queues/notifications").await["counts"];
        if counts[state] == count {
            return;
        }
        assert!(start.elapsed() < TIME_LIMIT, "{count} messages are {state}: {counts}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_arrive_in_order_at_the_login_and_are_held_again_after_the_logout() {
    let system = start().await;
    let server = Server::start(&system, 10);
    let post = async |user: &str, data: u64| {
        let answer = system.send("notifications", &notification(user, &json!(data))).await;
        answer.json::<Value>().await.unwrap()["state"].clone()
    };
    for n in 0..5 {
        assert_eq!(post("ada", n).await, "held");
        assert_eq!(post("bob", 100 + n).await, "held");
    }
    let mut ada = User::new(&system, "ada", server.url());
    for n in 0..5 {
        assert_eq!(ada.receive().await, n);
    }
    let (live, state) = tokio::join!(ada.receive(), async {
        // The acknowledgement of the last notification arrives with the user's next request: no active notification means that this request
        // waits.
        wait_for_count(&system, "active", 0).await;
        post("ada", 5).await
    });
    assert_eq!((live, state), (json!(5), json!("waiting")));
    // A request without an acknowledgement is answered with the same notification again.
    ada.seen = None;
    assert_eq!(ada.receive().await, 5);
    ada.log_out().await.unwrap();
    wait_for_count(&system, "completed", 6).await;
    assert_eq!(post("ada", 6).await, "held");
    wait_for_count(&system, "held", 6).await;

    let anonymous = system.post("notifications", json!({"data": 1})).await;
    let failed = system.finished(&anonymous).await;
    assert_eq!((&failed["state"], &failed["error"]["code"]), (&json!("failed"), &json!("no_user")));
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notifications_of_users_who_left_without_acknowledging_wait_for_the_next_login_at_any_server() {
    const USERS: u64 = 30;
    let system = start().await;
    // The leases are so long that no lease lapses during the test.
    let (mut first, second) = (Server::start(&system, 60), Server::start(&system, 60));
    let names: Vec<String> = (0..USERS).map(|n| format!("user-{n}")).collect();
    for name in &names {
        system.post_batch("notifications", (0..3).map(|n| notification(name, &json!(n)))).await;
        // A service may post a notification with a delay. A login of the user does not end the delay of a posted notification.
        let mut later = notification(name, &json!("later"));
        later["delay"] = json!("1h");
        system.post("notifications", later).await;
        let mut user = User::new(&system, name, first.url());
        assert_eq!(user.receive().await, 0);
        user.seen = None;
        user.log_out().await.unwrap();
    }
    wait_for_count(&system, "held", USERS).await;
    wait_for_count(&system, "delayed", USERS).await;
    wait_for_count(&system, "waiting", 2 * USERS).await;
    let page = system.get("/v1/queues/notifications/messages?state=held&limit=1000").await;
    for message in page["messages"].as_array().unwrap() {
        let hold = format!("online:{}", message["group"].as_str().unwrap());
        assert_eq!((&message["data"], &message["hold"]), (&json!(0), &json!(hold)));
        assert!(message["deliveries"].as_u64().unwrap() >= 1, "the notification was leased before: {message}");
    }
    first.kill();
    for name in &names {
        let mut user = User::new(&system, name, second.url());
        for n in 0..3 {
            assert_eq!(user.receive().await, n);
        }
        user.log_out().await.unwrap();
    }
    wait_for_count(&system, "completed", 3 * USERS).await;
    wait_for_count(&system, "delayed", USERS).await;
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_notification_reaches_the_server_of_its_user_whichever_server_has_leased_it() {
    let system = start().await;
    let servers = [Server::start(&system, 10), Server::start(&system, 10)];
    let of_user = async |n: usize| {
        let name = format!("user-{n}");
        let mut user = User::new(&system, &name, servers[n % 2].url());
        for data in 0..20 {
            system.post("notifications", notification(&name, &json!(data))).await;
            assert_eq!(user.receive().await, data);
        }
        user.log_out().await.unwrap();
    };
    join_all((0..10).map(of_user)).await;
    wait_for_count(&system, "completed", 200).await;
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn notification_server_refuses_bad_requests_and_serves_a_page_without_inline_scripts() {
    let system = start().await;
    let server = Server::start(&system, 10);
    let get = async |path: &str| system.http.get(format!("{}{path}", server.url())).send().await.unwrap();
    for path in ["/users/../next", "/users/a%20b/next", "/users/.a/next", "/users/ada/next?seen=nonsense"] {
        let status = get(path).await.status();
        assert!(status == 400 || status == 404, "{path}: {status}");
    }
    let page = get("/").await;
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'self';"));
    let page = page.text().await.unwrap();
    assert!(page.matches("<script").count() == 1 && page.contains("src=\"page.js\"></script>"), "{page}");
    assert_eq!(get("/page.js").await.headers()["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(get("/page.css").await.status(), StatusCode::OK);
}
