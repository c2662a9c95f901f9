//! A browser of one test: Debian's Chromium without a window, driven over `WebDriver` by a chromedriver of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::system::http_client;

/// The time limit for everything that a page does, on a busy machine.
pub(crate) const PAGE_LIMIT: Duration = Duration::from_secs(60);
/// A browser takes several hundred MiB, so few of them run at once. A test takes the slots of all its browsers at once, so two tests
/// never wait for each other.
static SLOTS: Semaphore = Semaphore::const_new(3);
/// The member of `WebDriver`'s JSON that identifies an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// The process of Chromium.
    chromium: Option<u64>,
    http: Client,
    _profile: tempfile::TempDir,
    _slot: SemaphorePermit<'static>,
}

/// Whether the page prefers light or dark colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    Light,
    Dark,
}

impl Browser {
    /// Starts browsers with empty profiles, as soon as so few others run that these may run, too.
    pub(crate) async fn start_many<const N: usize>() -> [Self; N] {
        let mut slots = SLOTS.acquire_many(u32::try_from(N).unwrap()).await.unwrap();
        let mut browsers = Vec::new();
        for _ in 0..N {
            let slot = slots.split(1).unwrap();
            browsers.push(Self::start_in(slot).await);
        }
        browsers.try_into().unwrap_or_else(|_| unreachable!())
    }

    async fn start_in(slot: SemaphorePermit<'static>) -> Self {
        let profile = tempfile::tempdir().unwrap();
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
        let port = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "chromedriver ended at its start");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break port.trim().trim_end_matches('.').parse().unwrap();
            }
        };
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
        let (session, http, chromium) = (String::new(), http_client(), None);
        let mut browser = Self { driver, port, session, chromium, http, _profile: profile, _slot: slot };
        let capabilities = json!({
            "browserName": "chrome",
            "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL"},
        });
        let body = json!({"capabilities": {"alwaysMatch": capabilities}});
        let answer = browser.send(Method::POST, "/session", body).await.unwrap();
        browser.chromium = answer["capabilities"]["goog:processID"].as_u64();
        answer["sessionId"].as_str().unwrap().clone_into(&mut browser.session);
        browser
    }

    /// Sends a command of `WebDriver`. Returns its value, or the driver's error.
    async fn send(&self, method: Method, path: &str, body: Value) -> Result<Value, String> {
        let request = self.http.request(method, format!("http://127.0.0.1:{}{path}", self.port)).json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        match answer["value"]["error"].as_str() {
            Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
            None => Ok(answer["value"].clone()),
        }
    }

    async fn command(&self, path: &str, body: Value) -> Result<Value, String> {
        self.send(Method::POST, &format!("/session/{}{path}", self.session), body).await
    }

    /// Calls a command of Chromium's `DevTools`.
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
    async fn until<T>(&self, what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
        let start = Instant::now();
        loop {
            let error = match attempt().await {
                Ok(value) => return value,
                Err(error) => error,
            };
            if start.elapsed() > PAGE_LIMIT {
                let page = self.eval("return document.body.innerText", json!([])).await;
                panic!("{what}: {error}\n{}", page.unwrap_or_default().as_str().unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Waits until an expression has this value.
    pub(crate) async fn wait_for_value(&self, what: &str, expression: &str, expected: &Value) {
        let script = format!("return ({expression})");
        self.until(what, async || match self.eval(&script, json!([])).await {
            Ok(value) if value == *expected => Ok(()),
            other => Err(format!("{other:?}, not {expected}")),
        })
        .await;
    }

    /// Waits for the first visible element that fits a CSS selector, and does something with it.
    async fn with_element(&self, selector: &str, action: &str, body: Value) {
        let script =
            "return Array.from(document.querySelectorAll(arguments[0])).find((node) => node.checkVisibility()) ?? null";
        self.until(&format!("{action} {selector}"), async || {
            let found = self.eval(script, json!([selector])).await?;
            let id = found[ELEMENT].as_str().ok_or("no such element")?;
            self.command(&format!("/element/{id}/{action}"), body.clone()).await
        })
        .await;
    }

    pub(crate) async fn click_on(&self, selector: &str) {
        self.with_element(selector, "click", json!({})).await;
    }

    /// Types a text into a field, and Enter after it.
    pub(crate) async fn enter(&self, selector: &str, text: &str) {
        self.with_element(selector, "value", json!({"text": format!("{text}\u{e007}")})).await;
    }

    /// The lines of the page's console since the last call, such as violations of the page's content security policy.
    pub(crate) async fn console(&self) -> Vec<String> {
        let entries = self.command("/se/log", json!({"type": "browser"})).await.unwrap();
        entries.as_array().unwrap().iter().map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Gives the page this width, height and colours.
    pub(crate) async fn show_as(&self, (width, height): (u32, u32), colours: Colours) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", size).await;
        let value = if colours == Colours::Light { "light" } else { "dark" };
        let scheme = json!({"features": [{"name": "prefers-color-scheme", "value": value}]});
        self.devtools("Emulation.setEmulatedMedia", scheme).await;
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the session ends Chromium and its processes. Killing only the driver would leave them.
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
