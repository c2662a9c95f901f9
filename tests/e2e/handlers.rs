//! Tests of the handlers `http` and `exec` of the real worker, with the routes of docs/WORKERS.md and the programs in
//! `examples`.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use drover_tests::{Process, eventually, free_port};
use serde_json::{Value, json};

use crate::{
    System,
    markdown::{code, document, root, section},
    python::PythonProgram,
    raw_client::RawClient,
};

/// Returns the first code block of a language in a section of docs/WORKERS.md.
fn documented_code(heading: &str, language: &str) -> String {
    code(section(&document("docs/WORKERS.md"), heading), language).to_owned()
}

/// Starts an HTTP receiver, a program in Python, and waits until it listens.
fn start_receiver(code: &str, port: u16) -> PythonProgram {
    let program = PythonProgram::start(code, &[&port.to_string()]);
    eventually("the receiver listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    program
}

/// Returns the configuration of a route to a shell that runs this script.
fn exec_config(queue: &str, script: &str, other_keys: &str) -> String {
    format!(
        "[[worker.routes]]\nqueue = {queue:?}\nhandler = {{ type = \"exec\", command = [\"sh\", \"-c\", {script:?}]{other_keys} }}\n"
    )
}

/// Returns whether a process still runs. An ended process is a zombie until its parent or init collects its status.
fn process_runs(pid: &str) -> bool {
    let process_stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat"));
    process_stat.is_ok_and(|process_stat| !process_stat.contains(") Z "))
}

/// Returns the process id that the program has written into a file.
fn wait_for_pid(file: &Path) -> String {
    eventually("the program has started", || fs::read_to_string(file).ok().filter(|text| text.ends_with('\n')))
}

#[tokio::test(flavor = "multi_thread")]
async fn http_handler_works_as_documented() {
    let port = free_port();
    let _receiver = start_receiver(&document("examples/hook.py"), port);
    let config = documented_code("A URL", "toml").replace("9000", &port.to_string());
    let unsigned_config = config.replace("\"mails\"", "\"unsigned\"").replace("MfKQ9r8G", "AAAAAAAA");
    let system = System::start(&(config + &unsigned_config)).await;
    let worker = system.worker().await;
    let message = system.finished(&system.post("mails", json!({"data": {"to": "a@b.c"}})).await).await;
    assert_eq!(
        (&message["state"], &message["result"]),
        (&json!("completed"), &json!({"welcomed": "a@b.c", "attempt": 1}))
    );
    let message = system.finished(&system.post("unsigned", json!({"data": {"to": "a@b.c"}})).await).await;
    assert_eq!((&message["state"], &message["error"]["code"]), (&json!("failed"), &json!("http_401")), "{message}");
    assert!(message["error"]["message"].as_str().unwrap().contains("not signed by my queue"), "{message}");
    assert!(!worker.log().join("\n").contains("MfKQ9r8G"), "no secret in the log");
    // The receiver also gets signed requests with data that it can't process.
    for data in UNUSABLE_DATA.map(str::to_owned).into_iter().chain([deep_data()]) {
        let message = finished_message_json(&system, "mails", &data).await;
        assert!(message.contains("\"code\":\"http_422\""), "{data:.100}: {message:.1000}");
    }
    system.assert_clean().await;
}

/// Data that the example programs in docs/WORKERS.md can't process.
const UNUSABLE_DATA: [&str; 6] = ["{}", "1", "null", "[\"to\"]", "\"to\"", "\"\\ud83d\""];

/// Returns data that is nested too deeply for Python. Drover stores it unchanged.
fn deep_data() -> String {
    format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))
}

/// Posts a message with this data, and returns the JSON text of the finished message. The function returns text, because the
/// test can't parse all data that Drover accepts.
async fn finished_message_json(system: &System, queue: &str, data: &str) -> String {
    let post_path = system.url(&format!("/v1/queues/{queue}/messages?wait=60s"));
    let body = format!("{{\"data\":{data}}}");
    system
        .http
        .post(post_path)
        .header("content-type", "application/json")
        .body(body)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_receiver_refuses_each_unsigned_or_malformed_request() {
    let port = free_port();
    let _receiver = start_receiver(&document("examples/hook.py"), port);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let signed_headers =
        format!("content-length: 2\r\nwebhook-id: a\r\nwebhook-timestamp: {now}\r\nwebhook-signature: v1,");
    for (headers, body, status) in [
        ("content-length: 0\r\n", "", 401),
        ("content-length: 2\r\n", "{}", 401),
        ("content-length: 2\r\nwebhook-timestamp: soon\r\n", "{}", 401),
        ("content-length: 2\r\nwebhook-timestamp: \u{b2}\r\n", "{}", 401),
        (&*format!("content-length: 2\r\nwebhook-timestamp: {}\r\n", "9".repeat(5_000)), "{}", 401),
        (&*format!("content-length: 2\r\nwebhook-timestamp: {now}\r\n"), "{}", 401),
        (&*format!("{signed_headers}\r\n"), "{}", 401),
        (&*format!("{signed_headers}\u{e4}\u{f6} =\r\n"), "{}", 401),
        ("", "", 400),
        ("content-length: -1\r\n", "", 400),
        ("content-length: two\r\n", "", 400),
        (&*format!("content-length: {}\r\n", "9".repeat(5_000)), "", 400),
        ("transfer-encoding: chunked\r\n", "", 400),
    ] {
        let mut client = RawClient::connect(([127, 0, 0, 1], port).into()).await;
        let answer = client.request(&format!("POST /hook HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}")).await;
        assert_eq!(answer.status, status, "{headers:.100}: {answer:?}");
        assert!(answer.body.starts_with("{\"error\": "), "{headers:.100}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exec_handler_works_as_documented() {
    let program = root().join("examples/job.py");
    let config = documented_code("A program", "toml").replace("examples/job.py", program.to_str().unwrap());
    let system = System::start(&config).await;
    let worker = system.worker().await;
    let message = system.finished(&system.post("jobs", json!({"data": {"to": "a@b.c"}})).await).await;
    assert_eq!(
        (&message["state"], &message["result"]),
        (&json!("completed"), &json!({"welcomed": "a@b.c", "attempt": 1}))
    );
    worker.wait_for_log("writing a@b.c");
    let message = system.finished(&system.post("jobs", json!({"data": {}})).await).await;
    let message_error = &message["error"];
    assert_eq!(
        (&message["state"], &message_error["code"], &message_error["attempt"]),
        (&json!("failed"), &json!("exit_65"), &json!(1))
    );
    assert!(message_error["message"].as_str().unwrap().contains("nobody to write to"), "{message}");
    for data in UNUSABLE_DATA.map(str::to_owned).into_iter().chain([deep_data()]) {
        let message = finished_message_json(&system, "jobs", &data).await;
        assert!(message.contains("\"code\":\"exit_65\""), "{data:.100}: {message:.1000}");
    }
    let message = finished_message_json(&system, "jobs", r#"{"to":"\ud83d"}"#).await;
    assert!(message.contains("\"state\":\"completed\""), "half of a character: {message}");
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn program_of_the_handler_exec_sees_no_configuration_of_the_worker() {
    let system = System::start(&exec_config("q", "env | cut -d= -f1 | grep DROVER_ | sort | tr '\\n' ' '", "")).await;
    // The worker's own environment contains variables of Drover, such as the URL of Redis.
    let _worker = system.worker().await;
    let message = system.finished(&system.post("q", json!({"data": 1})).await).await;
    let expected_variables = "DROVER_ATTEMPT DROVER_GROUP DROVER_HEADERS DROVER_MAX_ATTEMPTS DROVER_MESSAGE_ID DROVER_NAME DROVER_QUEUE DROVER_SIGNAL";
    assert_eq!(message["result"], expected_variables);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_a_message_ends_its_program_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pid");
    let system = System::start(&exec_config("q", &format!("echo $$ > {}; sleep 100", pid_file.display()), "")).await;
    // The queue must exist before the worker starts: otherwise an early heartbeat could tell the worker that the message is cancelled.
    let location = system.post("q", json!({"data": 1})).await;
    let _worker = system.worker().await;
    let pid = tokio::task::block_in_place(|| wait_for_pid(&pid_file));
    let started_at = Instant::now();
    assert_eq!(system.post_empty(&format!("{location}/cancel")).await.0, 202);
    tokio::task::block_in_place(|| eventually("the program ends", || (!process_runs(&pid)).then_some(())));
    // Without a notification that the message is cancelled, the worker would learn it from the heartbeat after a third of the visibility
    // timeout, 10 s.
    assert!(started_at.elapsed() < Duration::from_secs(8), "{:?}", started_at.elapsed());
    let message = system.finished(&location).await;
    assert_eq!((&message["state"], &message["error"]["code"]), (&json!("failed"), &json!("cancelled")));
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_leaves_no_program_behind_and_spends_no_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let pid_file = folder.path().join("pids");
    // The program and its child process ignore SIGTERM.
    let script = format!("trap '' TERM; sh -c 'echo $$ > {0}; sleep 100' & wait; sleep 100", pid_file.display());
    let config = exec_config("q", &script, ", stop_grace = \"300ms\"") + "[worker]\nshutdown_grace = \"200ms\"\n";
    let system = System::start(&config).await;
    let mut worker = system.worker().await;
    let location = system.post("q", json!({"data": 1})).await;
    let pid = tokio::task::block_in_place(|| wait_for_pid(&pid_file));
    let exit_status = tokio::task::block_in_place(|| worker.terminate());
    assert!(exit_status.success(), "{exit_status}");
    // The worker has killed the handler's program before the worker ended, but the program's process may not have ended yet.
    tokio::task::block_in_place(|| eventually("the program ends", || (!process_runs(&pid)).then_some(())));
    let message: Value = system.get(&location).await;
    assert_eq!((&message["state"], &message["attempts_made"]), (&json!("waiting"), &json!(0)), "{message}");
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_handler_stops_the_start_with_a_reason() {
    for (handler, expected_reason) in [
        (r#"{ type = "exec", command = ["no-such-program"] }"#, "there is no program no-such-program in PATH"),
        (r#"{ type = "exec", command = ["/etc/passwd"] }"#, "there is no program /etc/passwd that may be run"),
        (r#"{ type = "http", url = "http://a", secret_file = "/nowhere" }"#, "secret_file: /nowhere: can't be read"),
        (r#"{ type = "http", url = "https://a", ca_file = "/etc/hostname" }"#, "ca_file: /etc/hostname"),
    ] {
        let config = tempfile::NamedTempFile::new().unwrap();
        fs::write(config.path(), format!("[[worker.routes]]\nqueue = \"q\"\nhandler = {handler}\n")).unwrap();
        let arguments = ["--config", config.path().to_str().unwrap()];
        let mut worker = Process::start("consumer-worker", &arguments, &[("DROVER__WORKER__BIND", "127.0.0.1:0")]);
        let line = worker.wait_for_log(expected_reason);
        assert!(line.contains("worker.routes[0].handler"), "{line}");
        assert!(!tokio::task::block_in_place(|| worker.wait()).success());
    }
}

/// A receiver in Python that answers each request with the headers of the request.
const ECHO_HEADERS: &str = r#"
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

class Hook(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        signal = self.headers["drover-signal"]
        body = json.dumps({
            "id": unquote(self.headers["drover-message-id"]),
            "name": unquote(self.headers["drover-name"]),
            "webhook-id": [unquote(part) for part in self.headers["webhook-id"].split(":")],
            "signal": signal and json.loads(signal),
        }).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hook).serve_forever()
"#;

#[tokio::test(flavor = "multi_thread")]
async fn handlers_http_and_exec_get_exact_names_and_the_data_of_the_signal() {
    let port = free_port();
    let _receiver = start_receiver(ECHO_HEADERS, port);
    let http = format!(
        "[[worker.routes]]\nqueue = \"http\"\nhandler = {{ type = \"http\", url = \"http://127.0.0.1:{port}/\" }}\n"
    );
    let echo_config =
        r#"printf '{"id":"%s","name":"%s","signal":%s}' "$DROVER_MESSAGE_ID" "$DROVER_NAME" "${DROVER_SIGNAL:-null}""#;
    let system = System::start(&(http + &exec_config("exec", echo_config, ""))).await;
    let _worker = system.worker().await;
    let (id, name) = (" order é ", " a");
    // The data of the signal has the maximum size, and almost no ASCII.
    let data = json!({"amount": 12, "text": "é".repeat(2_030)});
    for queue in ["http", "exec"] {
        let message = json!({"data": 1, "id": id, "name": name, "hold": "paid"});
        let held_location = system.post(queue, message).await;
        let signal_path = format!("/v1/queues/{queue}/signals/paid");
        let (status, _) = system.request(reqwest::Method::POST, &signal_path, Some(json!({"data": data}))).await;
        assert_eq!(status, 200);
        let result = &system.finished(&held_location).await["result"];
        assert_eq!((&result["id"], &result["name"]), (&json!(id), &json!(name)), "{queue}");
        assert_eq!(result["signal"], data, "{queue}");
        let unheld_location = system.post(queue, json!({"data": 1, "name": name})).await;
        let result = &system.finished(&unheld_location).await["result"];
        assert_eq!((&result["name"], &result["signal"]), (&json!(name), &Value::Null), "{queue}");
    }
    let message = system.get("/v1/queues/http/messages/%20order%20%C3%A9%20").await;
    assert_eq!(message["result"]["webhook-id"], json!(["http", id]));
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_characters_of_an_id_are_escaped_in_the_log_of_a_worker() {
    let system = System::start(&exec_config("q", "exit 65", "")).await;
    let id = "a\u{202e}b\u{2028}c outcome=completed";
    let logged_id = r#"id="a\u{202e}b\u{2028}c outcome=completed"#;
    for (index, (format, escaped)) in [("pretty", logged_id), ("json", r"a\u202eb\u2028c ")].into_iter().enumerate() {
        let mut worker = system.worker_with(&[("DROVER__LOG__FORMAT", format)]).await;
        system.finished(&system.post("q", json!({"data": 1, "id": format!("{id}{index}"), "name": id})).await).await;
        let line = worker.wait_for_log("failed for good");
        assert!(line.contains(escaped), "{line}");
        tokio::task::block_in_place(|| worker.terminate());
        let log = worker.log().join("\n");
        assert!(!log.contains(['\u{202e}', '\u{2028}']), "{log}");
    }
}
