//! Tests of the handler `exec` with real programs.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use consumer_worker::{Outcome, Routes, TestJob};
use drover_tests::{TIME_LIMIT, eventually};
use serde_json::{Value, json};

use crate::{completed_result, failure_for_good, failure_with_retry, routes};

/// Returns a route whose program is a shell that runs this script.
fn shell_routes(script: &str, other_keys: &Value) -> Routes {
    let mut handler = json!({"type": "exec", "command": ["sh", "-c", script]});
    handler.as_object_mut().unwrap().extend(other_keys.as_object().unwrap().clone());
    routes(&handler)
}

async fn run_script(script: &str) -> Outcome {
    run_script_with(script, &json!({"timeout": "20s"})).await
}

async fn run_script_with(script: &str, other_keys: &Value) -> Outcome {
    shell_routes(script, other_keys).handle(TestJob::new("q", &json!({"n": 1})).job()).await
}

/// Returns whether a process exists, zombies included.
fn process_exists(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

fn wait_until_ended(pids: &[String]) {
    eventually("the processes end", || (!pids.iter().any(|pid| process_exists(pid))).then_some(()));
}

/// Returns the process ids that a script writes into a file, one per line.
fn read_pids(file: &Path, count: usize) -> Vec<String> {
    eventually("the script writes its process ids", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        let pids: Vec<String> = text.lines().map(str::to_owned).collect();
        (pids.len() >= count && text.ends_with('\n')).then_some(pids)
    })
}

#[tokio::test]
async fn program_gets_the_data_on_stdin_and_its_output_is_the_result() {
    assert_eq!(completed_result(run_script("cat").await), r#"{"n":1}"#);
    assert_eq!(completed_result(run_script("cat > /dev/null; echo done").await), "\"done\"");
    assert_eq!(completed_result(run_script("true").await), "null");
    assert_eq!(completed_result(run_script_with("cat", &json!({"output": "ignore"})).await), "null");
}

#[tokio::test]
async fn program_knows_the_message_and_no_secret_of_the_worker() {
    let script = r#"printf '%s|' "$DROVER_MESSAGE_ID" "$DROVER_QUEUE" "$DROVER_NAME" "$DROVER_GROUP" "$DROVER_ATTEMPT" "$DROVER_MAX_ATTEMPTS" \
        "$DROVER_HEADERS" "$DROVER_SIGNAL" "$TRACEPARENT" "${PATH:+path}"; env | grep -c ^DROVER_"#;
    let job = TestJob::new("q", &1).name("a b").group("g 1").id("order-1").attempt(2);
    let job = job.header("traceparent", "00-1").header("x", "é").signal(&json!({"paid": [1]}));
    let printed_result = completed_result(shell_routes(script, &json!({})).handle(job.job()).await);
    let expected = "order-1|q|a b|g 1|2|3|{\"traceparent\":\"00-1\",\"x\":\"é\"}|{\"paid\":[1]}|00-1|path|8";
    assert_eq!(serde_json::from_str::<String>(&printed_result).unwrap(), expected);
}

#[tokio::test]
async fn arguments_of_a_program_are_not_read_by_a_shell() {
    let handler = json!({"type": "exec", "command": ["printf", "%s", "$HOME; echo `id` *"]});
    let outcome = routes(&handler).handle(TestJob::new("q", &1).job()).await;
    assert_eq!(completed_result(outcome), r#""$HOME; echo `id` *""#);
}

#[tokio::test]
async fn exit_code_of_a_program_decides_the_outcome_of_its_message() {
    let failure = failure_with_retry(run_script("echo first >&2; echo 'no such host' >&2; exit 1").await);
    assert_eq!((failure.code.as_str(), failure.message.contains("no such host")), ("exit_1", true), "{failure:?}");
    assert_eq!(failure_with_retry(run_script("exit 75").await).code, "exit_75");
    assert_eq!(failure_for_good(run_script("echo broken data >&2; exit 65").await).code, "exit_65");
    let kill_error = failure_with_retry(run_script("kill -KILL $$").await);
    assert_eq!(
        (kill_error.code.as_str(), kill_error.message.contains("SIGKILL")),
        ("signal_9", true),
        "{kill_error:?}"
    );
    assert_eq!(failure_with_retry(run_script("kill -SEGV $$").await).code, "signal_11");
}

#[tokio::test]
async fn program_that_prints_without_end_is_stopped() {
    let start_time = Instant::now();
    let failure = failure_for_good(run_script("yes").await);
    assert_eq!(failure.code, "result_too_large");
    assert!(failure.message.contains("output = \"ignore\""), "{failure:?}");
    assert!(start_time.elapsed() < Duration::from_secs(10), "the handler does not wait for the program");
    // One program prints one byte more than a result may have, and exits by itself. Another program prints as many
    // bytes as a result may have.
    assert_eq!(failure_for_good(run_script("head -c 65537 /dev/zero | tr '\\0' 1").await).code, "result_too_large");
    assert_eq!(completed_result(run_script("head -c 65536 /dev/zero | tr '\\0' 1").await).len(), 65_536);
    assert_eq!(
        completed_result(run_script_with("head -c 10000000 /dev/zero", &json!({"output": "ignore"})).await),
        "null"
    );
}

#[tokio::test]
async fn flood_on_stderr_and_unread_input_block_no_program() {
    assert_eq!(completed_result(run_script("head -c 20000000 /dev/zero >&2; echo 1").await), "1");
    let large_text = "x".repeat(1_000_000);
    let start_time = Instant::now();
    for script in ["exec <&-; echo 1", "echo 1", "sleep 0.2; echo 1"] {
        let outcome = shell_routes(script, &json!({})).handle(TestJob::new("q", &large_text).job()).await;
        assert_eq!(completed_result(outcome), "1", "{script}");
    }
    assert!(start_time.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn whole_process_group_ends_at_the_time_out_even_if_it_ignores_sigterm() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!(
        "echo $$ > {0}; trap '' TERM; (trap '' TERM; sh -c 'echo $$ >> {0}; sleep 100') & sleep 100 & wait; sleep 100",
        file.display()
    );
    let start_time = Instant::now();
    let failure =
        failure_with_retry(run_script_with(&script, &json!({"timeout": "300ms", "stop_grace": "200ms"})).await);
    assert_eq!(failure.code, "timed_out");
    let elapsed = start_time.elapsed();
    assert!(elapsed >= Duration::from_millis(500) && elapsed < Duration::from_secs(10), "{elapsed:?}");
    wait_until_ended(&read_pids(&file, 2));
}

#[tokio::test]
async fn program_may_clean_up_on_sigterm_and_the_handler_ends_as_soon_as_the_program_does() {
    let start_time = Instant::now();
    let script = "trap 'echo cleaned up >&2; exit 3' TERM; while true; do sleep 0.05; done";
    let failure = failure_with_retry(run_script_with(script, &json!({"timeout": "300ms", "stop_grace": "60s"})).await);
    assert_eq!(failure.code, "timed_out");
    assert!(failure.message.contains("cleaned up"), "{failure:?}");
    assert!(start_time.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn processes_that_a_program_leaves_behind_neither_delay_its_message_nor_survive() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let start_time = Instant::now();
    // The child processes that outlive the program keep its stdout and stderr open.
    let script = format!("sh -c 'echo $$ > {}; sleep 100' & sleep 100 & sleep 0.2; echo 1", file.display());
    assert_eq!(completed_result(run_script(&script).await), "1");
    wait_until_ended(&read_pids(&file, 1));
    // A process that has left the group can't be ended, but the handler does not wait for it.
    let script = format!("setsid sh -c 'echo $$ > {}; sleep 3' & sleep 0.2; echo 2", file.display());
    assert_eq!(completed_result(run_script(&script).await), "2");
    assert!(start_time.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn dropped_run_of_a_handler_ends_its_program() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("trap '' TERM; echo $$ > {0}; sh -c 'echo $$ >> {0}; sleep 100'; sleep 100", file.display());
    let routes = shell_routes(&script, &json!({"stop_grace": "100ms"}));
    let running = tokio::spawn(async move { routes.handle(TestJob::new("q", &1).job()).await });
    let started_pids = tokio::task::spawn_blocking(move || read_pids(&file, 2)).await.unwrap();
    running.abort();
    tokio::task::spawn_blocking(move || wait_until_ended(&started_pids)).await.unwrap();
}

#[tokio::test]
async fn attempt_that_timed_out_is_recorded_after_its_program_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("trap '' TERM; echo $$ > {0}; sh -c 'echo $$ >> {0}; sleep 100'; sleep 100", file.display());
    // The `timeout` of the message (1 s) ends before the handler's own time-out, and before the end of `stop_grace`.
    let routes = shell_routes(&script, &json!({"stop_grace": "1m"}));
    let start_time = Instant::now();
    let job = TestJob::new("q", &1).timeout(consumer_worker::Millis::new(1_000)).job();
    let failure = failure_with_retry(routes.handle(job).await);
    assert_eq!(failure.code, "timed_out");
    let elapsed = start_time.elapsed();
    let pids = read_pids(&file, 2);
    assert!(!process_exists(&pids[0]), "the program must not run beside the next attempt");
    wait_until_ended(&pids);
    assert!(elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(10), "{elapsed:?}");
}

#[tokio::test]
async fn attempt_whose_program_has_vanished_fails_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("job");
    fs::write(&program, "#!/bin/sh\necho 1\n").unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let routes = routes(&json!({"type": "exec", "command": [program]}));
    assert_eq!(completed_result(routes.handle(TestJob::new("q", &1).job()).await), "1");
    fs::remove_file(&program).unwrap();
    let failure = failure_with_retry(routes.handle(TestJob::new("q", &1).job()).await);
    assert_eq!(failure.code, "not_started");
    assert!(failure.message.contains(program.to_str().unwrap()), "{failure:?}");
}

#[tokio::test]
async fn many_programs_at_once_leave_no_zombie() {
    let routes = shell_routes("cat", &json!({}));
    let runs = (0..100).map(|n| routes.handle(TestJob::new("q", &n).job()));
    let outcomes = tokio::time::timeout(TIME_LIMIT, futures_util::future::join_all(runs)).await.unwrap();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(completed_result(outcome), n.to_string());
    }
    eventually("all programs are reaped", || zombie_children().is_empty().then_some(()));
}

/// Returns the children of this process that have ended but were not reaped.
fn zombie_children() -> Vec<String> {
    let zombie_child = format!(") Z {} ", std::process::id());
    let process_stats =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    process_stats.filter(|stat| stat.contains(&zombie_child)).collect()
}
