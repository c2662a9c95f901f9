//! Tests of handlers, routes and layers through the public interface of the library, without Redis.

#![allow(clippy::unwrap_used)] // An `unwrap` that panics fails its test.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use consumer_worker::{
    Endpoint, FromRef, Handler, HandlerError, Job, Millis, Outcome, Payload, Routes, State, TestJob, Timestamp, on,
    reported,
};
use futures_util::future::join_all;
use serde::{Deserialize, de::DeserializeOwned};
use tower::{
    ServiceBuilder, layer::layer_fn, limit::GlobalConcurrencyLimitLayer, timeout::TimeoutLayer, util::MapRequestLayer,
};

#[derive(Deserialize)]
struct Mail {
    to: Vec<String>,
}

#[derive(Clone)]
struct App {
    greeting: &'static str,
    sent: Sent,
}

#[derive(Clone, Default)]
struct Sent(Arc<AtomicUsize>);

impl FromRef<App> for Sent {
    fn from_ref(app: &App) -> Self {
        app.sent.clone()
    }
}

fn completed_result(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Complete(result) => result.get(),
        other => panic!("{other:?}"),
    }
}

fn failure_code(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Retry(failure) | Outcome::FailForGood(failure) => &failure.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn arguments_of_a_handler_come_from_the_job_and_the_state() {
    async fn send(
        State(app): State<App>,
        State(sent): State<Sent>,
        job: Job,
        Payload(mail): Payload<Mail>,
    ) -> Result<String, HandlerError> {
        sent.0.fetch_add(mail.to.len(), Ordering::Relaxed);
        job.report_progress(&50).await?;
        job.extend(Duration::from_secs(60)).await?;
        let (name, trace) = (job.name().unwrap(), job.traceparent().unwrap());
        Ok(format!("{} {} {name} {} {trace} {:?}", app.greeting, mail.to[0], job.attempt(), job.deadline().is_some()))
    }
    let app = App { greeting: "hello", sent: Sent::default() };
    let routes = Routes::with_state(app.clone()).route("mails", send);
    let data = serde_json::json!({"to": ["a", "b"]});
    let job = TestJob::new("mails", &data).name("welcome").attempt(2).header("traceparent", "00-1-2-01");
    let job = job.timeout(Millis::from_secs(5)).job();
    let outcome = routes.handle(job.clone()).await;
    assert_eq!(completed_result(&outcome), r#""hello a welcome 2 00-1-2-01 true""#);
    assert_eq!(app.sent.0.load(Ordering::Relaxed), 2);
    assert_eq!(reported(&job), ["50"]);
}

#[tokio::test]
async fn data_of_another_type_fails_for_good_with_the_path_of_the_mistake() {
    async fn send(Payload(_): Payload<Mail>) {}
    let routes = Routes::new().route("mails", send);
    for (data, expected) in [
        (serde_json::json!({"to": ["a", 7]}), "to[1]: it is 7, and must be a text"),
        (serde_json::json!({}), "the field \"to\" is required"),
        (serde_json::json!(null), "it is null, and must be an object"),
    ] {
        let outcome = routes.handle(TestJob::new("mails", &data).job()).await;
        let Outcome::FailForGood(failure) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failure.code, "invalid_payload");
        assert!(failure.message.contains(expected), "{}", failure.message);
    }
    let outcome = routes.handle(TestJob::new("mails", &serde_json::json!({"to": []})).job()).await;
    assert_eq!(completed_result(&outcome), "null");
}

#[derive(Deserialize)]
enum KnownWord {
    First,
    Second,
}

#[derive(Deserialize)]
#[serde(tag = "kind")]
#[expect(dead_code, reason = "only the deserializer uses it")]
enum TaggedData {
    Mail { to: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only the deserializer uses it")]
enum FlagOrText {
    Flag(bool),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// Returns the error text for data that can't be deserialized to `T`.
async fn error_for_data<T: DeserializeOwned + Send + 'static>(data: &str) -> String {
    async fn accept_data<T>(Payload(_): Payload<T>) {}
    let data: &serde_json::value::RawValue = serde_json::from_str(data).unwrap();
    let outcome = Routes::new().route("q", accept_data::<T>).handle(TestJob::new("q", &data).job()).await;
    let Outcome::FailForGood(failure) = outcome else { panic!("{data}: {outcome:?}") };
    failure.message
}

#[tokio::test]
async fn error_about_data_has_no_words_of_rust_or_of_the_parser() {
    const INTERNAL_WORDS: [&str; 16] = [
        "`",
        "invalid ",
        ", expected",
        "missing",
        "unknown variant",
        "unknown field",
        "enum",
        "struct",
        "tuple",
        "array",
        "unit",
        "sequence",
        "u8",
        "usize",
        "nonzero",
        "at line",
    ];
    for (error, expected) in [
        (error_for_data::<u8>("300").await, "it is 300, and must be a whole number"),
        (error_for_data::<std::num::NonZeroU8>("0").await, "it is 0, and must be a whole number"),
        (error_for_data::<f64>("\"1\"").await, "it is \"1\", and must be a number"),
        (error_for_data::<String>("{}").await, "it is an object, and must be a text"),
        (error_for_data::<KnownWord>("\"Frist\"").await, "did you mean \"First\"?"),
        (error_for_data::<KnownWord>("7").await, "it is of another kind"),
        (error_for_data::<TaggedData>("{}").await, "the field \"kind\" is required"),
        (error_for_data::<TaggedData>("7").await, "it is 7, and must be an object"),
        (error_for_data::<TaggedData>(r#"{"kind":"Fax"}"#).await, "unknown; expected one of Mail"),
        (error_for_data::<TaggedData>(r#"{"kind":"Mail"}"#).await, "the field \"to\" is required"),
        (error_for_data::<FlagOrText>("7").await, "it has none of the forms that it may have"),
        (error_for_data::<Nothing>(r#"{"to":1}"#).await, "to: the field \"to\" is unknown"),
        (error_for_data::<(u8, u8)>("[1]").await, "it must be a list of 2"),
        (error_for_data::<(u8, u8)>("[1,2,3]").await, "the list is longer than it may be"),
        (error_for_data::<[u8; 2]>("[1]").await, "it must be a list of 2"),
        (error_for_data::<Vec<(u8, String)>>("[[1,2]]").await, "[0][1]: it is 2, and must be a text"),
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(INTERNAL_WORDS.iter().find(|word| error.contains(**word)), None, "{error}");
    }
}

#[tokio::test]
async fn result_that_can_not_be_serialized_fails_the_message_for_good_with_a_plain_error() {
    let outcome = Outcome::complete(&BTreeMap::from([((1, 2), 3)]));
    let Outcome::FailForGood(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.code, "invalid_result");
    assert_eq!(failure.message, "the result has no JSON form: the name of a field must be a text in quotes");
}

#[tokio::test]
async fn error_of_a_handler_decides_the_outcome() {
    async fn fail(Payload(how): Payload<String>) -> Result<(), HandlerError> {
        let error = || HandlerError::new("odd", "it is odd");
        match how.as_str() {
            "?" => Ok("x".parse::<u8>().map(drop)?),
            "boxed" => Err(HandlerError::boxed("only words")),
            "after" => Err(error().retry_after(Duration::from_secs(7))),
            "at" => Err(error().retry_at(Timestamp::from_millis(9))),
            "for good" => Err(error().for_good()),
            "hold" => Err(HandlerError::hold("paid:42".parse().unwrap())),
            _ => Err(HandlerError::release(Some(Duration::from_secs(1)))),
        }
    }
    let routes = Routes::new().route("*", fail);
    let outcome_of = async |how: &str| routes.handle(TestJob::new("any", &how).job()).await;
    let outcome = outcome_of("?").await;
    assert!(
        matches!(&outcome, Outcome::Retry(failure) if failure.message == "invalid digit found in string"),
        "{outcome:?}"
    );
    assert!(matches!(outcome_of("boxed").await, Outcome::Retry(failure) if failure.message == "only words"));
    assert!(matches!(outcome_of("after").await, Outcome::RetryAfter(_, pause) if pause.as_secs() == 7));
    assert!(
        matches!(outcome_of("at").await, Outcome::RetryAt(failure, at) if at.as_millis() == 9 && failure.code == "odd")
    );
    assert!(matches!(outcome_of("for good").await, Outcome::FailForGood(failure) if failure.message == "it is odd"));
    assert!(matches!(outcome_of("hold").await, Outcome::Hold(key) if key.as_str() == "paid:42"));
    assert!(matches!(outcome_of("release").await, Outcome::Release(Some(pause)) if pause.as_secs() == 1));
}

#[tokio::test]
async fn first_route_that_matches_a_message_gets_the_message() {
    struct FixedHandler;
    impl Handler for FixedHandler {
        async fn handle(&self, _: Job) -> Outcome {
            Outcome::complete(&"fixed")
        }
    }
    macro_rules! say {
        ($word:literal) => {
            || async { Ok::<_, HandlerError>($word) }
        };
    }
    let routes = Routes::new()
        .route("mails", on("a", say!("1")).on("b", say!("2")))
        .route("user-*", on("a", say!("3")).fallback(say!("4")))
        .route("mails", say!("5"))
        .route("user-7", say!("6"))
        .route("logs", FixedHandler);
    for (queue, name, expected) in [
        ("mails", Some("a"), "\"1\""),
        ("mails", Some("b"), "\"2\""),
        ("mails", Some("c"), "\"5\""),
        ("mails", None, "\"5\""),
        ("user-7", Some("a"), "\"3\""),
        ("user-7", None, "\"4\""),
        ("logs", None, "\"fixed\""),
    ] {
        let job = TestJob::new(queue, &());
        let job = if let Some(name) = name { job.name(name) } else { job };
        assert_eq!(completed_result(&routes.handle(job.job()).await), expected, "{queue} {name:?}");
    }
    let routes = Routes::new().route("mails", on("a", say!("1")));
    assert_eq!(failure_code(&routes.handle(TestJob::new("mails", &()).job()).await), "no_handler");
    assert_eq!(failure_code(&routes.handle(TestJob::new("other", &()).name("a").job()).await), "no_handler");
}

#[tokio::test]
async fn tower_layers_wrap_handlers_like_any_service() {
    let (running, max_running) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (Arc::clone(&running), Arc::clone(&max_running));
    let sleep_and_count = move |Payload(millis): Payload<u64>| {
        let (running, max_running) = counters.clone();
        async move {
            max_running.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, HandlerError>(millis)
        }
    };
    let attempts = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&attempts);
    let routes = Routes::new()
        .route("a", sleep_and_count.clone())
        .route("b", sleep_and_count)
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(
            ServiceBuilder::new()
                .layer(GlobalConcurrencyLimitLayer::new(2))
                .layer(MapRequestLayer::new(move |job: Job| {
                    count.fetch_add(job.attempt() as usize, Ordering::SeqCst);
                    job
                }))
                .layer(layer_fn(|inner: Endpoint| inner)),
        );
    let jobs = (0..6).map(|n| routes.handle(TestJob::new(if n % 2 == 0 { "a" } else { "b" }, &5).job()));
    for outcome in join_all(jobs).await {
        assert_eq!(completed_result(&outcome), "5");
    }
    assert_eq!(
        (max_running.load(Ordering::SeqCst), attempts.load(Ordering::SeqCst)),
        (2, 6),
        "all wrapped handlers share one limit"
    );
    tokio::time::pause();
    let outcome = routes.handle(TestJob::new("a", &60_000).job()).await;
    assert!(matches!(&outcome, Outcome::Retry(failure) if failure.code == "timed_out"), "{outcome:?}");
}

#[tokio::test]
async fn panic_and_time_out_of_a_handler_fail_the_attempt() {
    async fn run(Payload(millis): Payload<u64>) {
        assert_ne!(millis, 0, "no pause");
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let routes = Routes::new().route("q", run);
    let outcome_of =
        async |millis: u64| routes.handle(TestJob::new("q", &millis).timeout(Millis::new(100)).job()).await;
    assert_eq!(failure_code(&outcome_of(0).await), "panicked");
    assert_eq!(failure_code(&outcome_of(60_000).await), "timed_out");
    assert_eq!(completed_result(&outcome_of(1).await), "null");
}
