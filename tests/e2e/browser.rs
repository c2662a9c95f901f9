//! A browser for one test: Debian's Chromium without a window, controlled by its own chromedriver.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::system::http_client;

/// The time limit for everything that a page does, on a busy machine.
pub(crate) const PAGE_TIME_LIMIT: Duration = Duration::from_secs(60);
/// A browser takes several hundred MiB, so few of them run at once. A test acquires the permits for all its browsers at once,
/// so two tests never wait for each other.
static BROWSER_PERMITS: Semaphore = Semaphore::const_new(3);
/// The name of the JSON field in which the driver returns the id of an element.
const ELEMENT_ID_FIELD: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The codes by which the driver names keys without a character.
pub(crate) const TAB: char = '\u{e004}';
pub(crate) const ENTER: char = '\u{e007}';
pub(crate) const ESCAPE: char = '\u{e00c}';
pub(crate) const SPACE: char = ' ';

/// A script that returns the first visible and enabled element that matches a CSS selector and, unless `label` is null, has the label or
/// text `label`.
const FIND_ELEMENT_SCRIPT: &str = "
    const [selector, label] = arguments;
    const open = document.querySelector('dialog[open]');
    return Array.from((open ?? document).querySelectorAll(selector)).find((node) => node.checkVisibility() && !node.disabled &&
        (label === null || node.getAttribute('aria-label') === label || node.textContent.trim() === label)) ?? null;";

pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// The process of Chromium.
    chromium: Option<u64>,
    http: Client,
    _profile: tempfile::TempDir,
    _permit: SemaphorePermit<'static>,
}

/// The colour scheme that the browser reports to pages as the user's preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    Light,
    Dark,
}

/// Starts a chromedriver, and returns the process, its port, and a reader of the rest of its log.
///
/// A driver takes a free port of IPv6 and the same port of IPv4. If another program listens at this port of IPv4, the driver ends, and
/// `start_driver` starts another driver.
fn start_driver() -> (Child, u16, BufReader<ChildStdout>) {
    const MAX_STARTS: usize = 20;
    for _ in 0..MAX_STARTS {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts: `make tools` installs it");
        // The log stays open until the driver ends, because a driver without a reader of its log would stop.
        let mut log = BufReader::new(driver.stdout.take().unwrap());
        let mut line = String::new();
        while log.read_line(&mut line).unwrap() > 0 {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let port = port.trim().trim_end_matches('.').parse().unwrap();
                return (driver, port, log);
            }
            line.clear();
        }
        driver.wait().unwrap();
    }
    panic!("chromedriver ended at each of {MAX_STARTS} starts");
}

impl Browser {
    /// Starts a browser with an empty profile, as soon as fewer than three of them run.
    pub(crate) async fn start() -> Self {
        let [browser] = Self::start_many().await;
        browser
    }

    /// Starts `N` browsers with empty profiles, as soon as `N` permits for browsers are free.
    pub(crate) async fn start_many<const N: usize>() -> [Self; N] {
        let mut permits = BROWSER_PERMITS.acquire_many(u32::try_from(N).unwrap()).await.unwrap();
        let mut browsers = Vec::new();
        for _ in 0..N {
            let permit = permits.split(1).unwrap();
            browsers.push(Self::start_in(permit).await);
        }
        browsers.try_into().unwrap_or_else(|_| unreachable!())
    }

    async fn start_in(permit: SemaphorePermit<'static>) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let (driver, port, mut log) = start_driver();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--force-device-scale-factor=1",
            "--lang=en-GB",
            "--window-size=1440,900",
            &profile_argument,
        ];
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            chromium: None,
            http: http_client(),
            _profile: profile,
            _permit: permit,
        };
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let session_request = json!({"capabilities": {"alwaysMatch": capabilities}});
        let answer = browser.send(Method::POST, "/session", session_request).await.unwrap();
        browser.chromium = answer["capabilities"]["goog:processID"].as_u64();
        answer["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        let limit_millis = u64::try_from(PAGE_TIME_LIMIT.as_millis()).unwrap();
        browser.command("/timeouts", json!({"script": limit_millis, "pageLoad": limit_millis})).await.unwrap();
        browser
    }

    /// Sends a command to the driver, and returns the value in the driver's answer, or the driver's error.
    async fn send(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let request = self.http.request(method.clone(), format!("http://127.0.0.1:{}{path}", self.port));
        let request = if method == Method::POST { request.json(&body) } else { request };
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    async fn command(&self, path: &str, body: Value) -> Result<Value, String> {
        self.send(Method::POST, &format!("/session/{}{path}", self.session), body).await
    }

    /// Runs an asynchronous script, which passes its result to its last argument (a callback), and returns the result.
    pub(crate) async fn eval_async(&self, script: &str, arguments: Value) -> Value {
        self.command("/execute/async", json!({"script": script, "args": arguments})).await.unwrap()
    }

    /// Calls a command of Chromium's developer tools.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await.unwrap()
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("/url", json!({"url": url})).await.unwrap();
    }

    /// Runs a script in the page and returns its value.
    pub(crate) async fn eval(&self, script: &str, arguments: Value) -> Result<Value, String> {
        self.command("/execute/sync", json!({"script": script, "args": arguments})).await
    }

    /// Repeats `attempt` until it returns a value.
    async fn repeat_until_ok<T>(&self, what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
        let started_at = Instant::now();
        loop {
            let error = match attempt().await {
                Ok(value) => return value,
                Err(error) => error,
            };
            if started_at.elapsed() > PAGE_TIME_LIMIT {
                let page_text = self.eval("return document.body.innerText", json!([])).await;
                panic!("{what}: {error}\n{}", page_text.unwrap_or_default().as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until a script returns true.
    pub(crate) async fn wait_for(&self, what: &str, condition: &str, arguments: Value) {
        let script = format!("return Boolean({condition})");
        self.repeat_until_ok(what, async || match self.eval(&script, arguments.clone()).await {
            Ok(Value::Bool(true)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }

    /// Waits until an expression has this value.
    pub(crate) async fn wait_for_value(&self, what: &str, expression: &str, expected: &Value) {
        let script = format!("return ({expression})");
        self.repeat_until_ok(what, async || match self.eval(&script, json!([])).await {
            Ok(value) if value == *expected => Ok(()),
            other => Err(format!("{other:?}, not {expected}")),
        })
        .await;
    }

    /// Waits until the visible text of the page contains `text`.
    pub(crate) async fn see(&self, text: &str) {
        self.wait_for(&format!("see {text:?}"), "document.body.innerText.includes(arguments[0])", json!([text])).await;
    }

    /// Waits until the visible text of the page does not contain `text`.
    pub(crate) async fn see_no(&self, text: &str) {
        let condition = "!document.body.innerText.includes(arguments[0])";
        self.wait_for(&format!("see no {text:?}"), condition, json!([text])).await;
    }

    /// Returns the number of visible elements that match a CSS selector.
    pub(crate) async fn count(&self, selector: &str) -> u64 {
        let script = "return Array.from(document.querySelectorAll(arguments[0])).filter((node) => node.checkVisibility()).length";
        self.eval(script, json!([selector])).await.unwrap().as_u64().unwrap()
    }

    /// Waits for an element and performs an action on it; if the page has meanwhile replaced or covered the element, the
    /// function tries again.
    async fn with_element(&self, selector: &str, label: Option<&str>, action: &str, body: Value) {
        self.repeat_until_ok(&format!("{action} {selector} {label:?}"), async || {
            let element = self.eval(FIND_ELEMENT_SCRIPT, json!([selector, label])).await?;
            let id = element[ELEMENT_ID_FIELD].as_str().ok_or("no such element")?;
            self.command(&format!("/element/{id}/{action}"), body.clone()).await
        })
        .await;
    }

    /// Waits for the element with this label or text, and clicks on the element.
    pub(crate) async fn click(&self, selector: &str, label: &str) {
        self.with_element(selector, Some(label), "click", json!({})).await;
    }

    pub(crate) async fn click_on(&self, selector: &str) {
        self.with_element(selector, None, "click", json!({})).await;
    }

    /// Types a text into a field, and then presses Enter.
    pub(crate) async fn enter(&self, selector: &str, text: &str) {
        self.with_element(selector, None, "value", json!({"text": format!("{text}{ENTER}")})).await;
    }

    /// Returns the lines that the page has written to its console since the last call of `console`, such as violations of the page's
    /// content security policy.
    pub(crate) async fn console(&self) -> Vec<String> {
        let log_entries = self.command("/se/log", json!({"type": "browser"})).await.unwrap();
        log_entries.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Replaces the text of the input in the field with this label.
    pub(crate) async fn fill(&self, label: &str, text: &str) {
        let script = "
            const open = document.querySelector('dialog[open]') ?? document;
            const field = Array.from(open.querySelectorAll('.field')).find((node) =>
                node.firstElementChild.textContent === arguments[0] && node.checkVisibility());
            const input = field?.querySelector('input, textarea') ?? null;
            input?.select();
            return input;";
        self.repeat_until_ok(&format!("fill {label}"), async || {
            let element = self.eval(script, json!([label])).await?;
            let id = element[ELEMENT_ID_FIELD].as_str().ok_or("no such field")?;
            self.command(&format!("/element/{id}/clear"), json!({})).await?;
            self.command(&format!("/element/{id}/value"), json!({"text": text})).await
        })
        .await;
    }

    /// Presses and releases keys; the element that has the focus gets the keys.
    pub(crate) async fn press(&self, keys: &str) {
        let key_actions: Vec<Value> = keys
            .chars()
            .flat_map(|key| [json!({"type": "keyDown", "value": key}), json!({"type": "keyUp", "value": key})])
            .collect();
        let actions_request = json!({"actions": [{"type": "key", "id": "keyboard", "actions": key_actions}]});
        self.command("/actions", actions_request).await.unwrap();
    }

    /// Presses Tab until the element with this label or text has the focus.
    pub(crate) async fn tab_to(&self, label: &str) {
        let focused = "
            const node = document.activeElement;
            return node.getAttribute('aria-label') ?? node.closest('label')?.firstElementChild.textContent ?? node.textContent.trim();";
        self.repeat_until_ok(&format!("tab to {label:?}"), async || {
            self.press(&TAB.to_string()).await;
            let found = self.eval(focused, json!([])).await?;
            if found == label { Ok(()) } else { Err(format!("{found} has the focus")) }
        })
        .await;
    }

    /// Sets the width and the height of the page, and the colour scheme that the browser reports.
    pub(crate) async fn show_as(&self, (width, height): (u32, u32), colours: Colours) {
        let device_metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", device_metrics).await;
        let colour_scheme = if colours == Colours::Light { "light" } else { "dark" };
        let media_features = json!({"features": [{"name": "prefers-color-scheme", "value": colour_scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media_features).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The request that ends the session also ends Chromium, whose processes would continue if only the driver were killed.
        let end_session = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let session = &self.session;
            write!(stream, "DELETE /session/{session} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            stream.read(&mut [0; 64]).map(drop)
        };
        if end_session().is_err()
            && let Some(chromium) = self.chromium
        {
            let _ = Command::new("kill").args(["-KILL", &chromium.to_string()]).status();
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
