use reqwest::Method;
use serde_json::{Value, json};

use crate::{System, completed, failed, number};

async fn refused(system: &System, settings: Value) -> (u16, Value) {
    let (status, problem) = system.ask(Method::PATCH, "/v1/queues/q", Some(settings)).await;
    (status, problem["errors"][0].clone())
}

#[tokio::test]
async fn settings_are_changed_by_a_merge_patch() {
    let system = System::start("").await;
    let queue = system.patch("q", json!({"max_attempts": 7, "retention": {"completed": {"count": 5}}})).await;
    assert_eq!(queue, system.get("/v1/queues/q").await, "a queue exists from its first settings");
    assert_eq!(queue["settings"]["max_attempts"], 7);
    assert_eq!(queue["settings"]["retention"]["completed"], json!({"age": 86_400_000, "count": 5, "min_age": 60_000}));
    let limit = json!({"rate_limit": {"max": 3, "duration": "1s"}, "exclusive": {"parallel": 2}, "timeout": "1m"});
    let queue = system.patch("q", limit).await;
    assert_eq!(queue["settings"]["rate_limit"], json!({"max": 3, "duration": 1_000}));
    assert_eq!(queue["settings"]["max_attempts"], 7, "what a patch does not name stays");
    let queue = system.patch("q", json!({"max_attempts": null, "rate_limit": null, "retention": null})).await;
    let settings = &queue["settings"];
    assert_eq!((&settings["max_attempts"], &settings["rate_limit"]), (&json!(3), &Value::Null));
    assert_eq!(settings["retention"]["completed"]["count"], 10_000);
    assert_eq!(settings["timeout"], 60_000);
    let request = system.http.patch(system.url("/v1/queues/q")).header("content-type", "application/merge-patch+json");
    let answer: Value = request.body(r#"{"max_lapses": 9}"#).send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["settings"]["max_lapses"], 9);
}

#[tokio::test]
async fn settings_that_can_not_be_are_told_with_their_place() {
    let system = System::start("").await;
    for (settings, pointer, detail) in [
        (json!({"max_attempt": 1}), "/max_attempt", "unknown: did you mean \"max_attempts\"?"),
        (json!({"max_attempt": null}), "/max_attempt", "unknown: did you mean \"max_attempts\"?"),
        (json!({"retention": {"completed": {"cuont": 1}}}), "/retention/completed/cuont", "did you mean \"count\"?"),
        (json!({"retention": {"completed": {"count": -1}}}), "/retention/completed/count", "must be 0 to 1000000000"),
        (json!({"visibility_timeout": 5}), "/visibility_timeout", "must be 100ms to"),
        (json!({"visibility_timeout": "soon"}), "/visibility_timeout", "1h 30m"),
        (json!({"a/b~c": 1}), "/a~1b~0c", "unknown; there are visibility_timeout"),
    ] {
        let (status, error) = refused(&system, settings.clone()).await;
        assert_eq!((status, &error["pointer"]), (422, &json!(pointer)), "{settings}: {error}");
        assert!(error["detail"].as_str().unwrap().contains(detail), "{error}");
    }
    for (settings, pointer, detail) in [
        (json!({"retention": {"failed": {"age": "30s"}}}), "/retention/failed", "min_age must not be longer than age"),
        (json!({"rate_limit": {"max": 1}}), "/rate_limit", "duration is required here"),
        (json!({"exclusive": {}}), "/exclusive", "parallel is required here"),
    ] {
        let (status, error) = refused(&system, settings.clone()).await;
        assert_eq!((status, &error["pointer"]), (409, &json!(pointer)), "{settings}: {error}");
        assert!(error["detail"].as_str().unwrap().contains(detail), "{error}");
    }
    for body in ["", "[]", "5", "null", "{", r#"{"timeout":1,"timeout":2}"#] {
        let request = system.http.patch(system.url("/v1/queues/q")).header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{body}");
        assert_eq!(answer.json::<Value>().await.unwrap()["code"], "invalid_json", "{body}");
    }
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]), "nothing was changed");
}

#[tokio::test]
async fn a_paused_queue_hands_out_nothing() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    for _ in 0..2 {
        let (status, queue) = system.act("/v1/queues/q/pause").await;
        assert_eq!((status, &queue["paused"], &queue["counts"]["waiting"]), (200, &json!(true), &json!(1)));
    }
    assert_eq!(system.lease("q", 1).await.len(), 0);
    for _ in 0..2 {
        let (status, queue) = system.act("/v1/queues/q/resume").await;
        assert_eq!((status, &queue["paused"]), (200, &json!(false)));
    }
    assert_eq!(system.lease("q", 1).await.len(), 1);
}

#[tokio::test]
async fn a_queue_is_purged_state_by_state() {
    let system = System::start("").await;
    let batch = |options: Value| json!({"messages": vec![options; 1_000]});
    let post = async |options: Value| {
        for _ in 0..3 {
            let (status, _) =
                system.ask(Method::POST, "/v1/queues/q/messages/batch", Some(batch(options.clone()))).await;
            assert_eq!(status, 201);
        }
    };
    post(json!({"data": 1})).await;
    while system.settle_all("q", completed()).await > 0 {}
    post(json!({"data": 1})).await;
    while system.settle_all("q", failed()).await > 0 {}
    for options in [json!({"data": 1, "hold": "k"}), json!({"data": 1, "delay": "1h"}), json!({"data": 1})] {
        post(options).await;
    }
    let active = system.lease("q", 10).await.len();
    assert_eq!(active, 10);
    for (state, purged) in
        [("held", 3_000), ("delayed", 3_000), ("waiting", 2_990), ("completed", 3_000), ("failed", 3_000)]
    {
        let (status, answer) = system.act(&format!("/v1/queues/q/purge?state={state}")).await;
        assert_eq!((status, answer), (200, json!({"purged": purged})), "{state}");
        assert_eq!(system.get("/v1/queues/q").await["counts"][state], 0);
        assert_eq!(system.act(&format!("/v1/queues/q/purge?state={state}")).await.1, json!({"purged": 0}));
    }
    assert_eq!(system.get("/v1/queues/q").await["counts"]["active"], 10);
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_goes_on_when_its_client_has_gone() {
    let system = System::start("").await;
    let batch = json!({"messages": vec![number(1); 1_000]});
    for _ in 0..40 {
        system.ask(Method::POST, "/v1/queues/q/messages/batch", Some(batch.clone())).await;
    }
    let path = system.url("/v1/queues/q/purge?state=waiting");
    let client = crate::http_client();
    let purging = tokio::spawn(async move { client.post(path).send().await });
    let waiting = async || system.get("/v1/queues/q").await["counts"]["waiting"].as_u64().unwrap();
    while waiting().await == 40_000 {}
    // The client goes, and its connection with it.
    purging.abort();
    while waiting().await > 0 {}
    system.assert_clean().await;
}

#[tokio::test]
async fn all_dead_letters_are_retried() {
    let system = System::start("").await;
    let batch = json!({"messages": vec![number(1); 700]});
    for _ in 0..2 {
        system.ask(Method::POST, "/v1/queues/q/messages/batch", Some(batch.clone())).await;
    }
    while system.settle_all("q", failed()).await > 0 {}
    assert_eq!(system.act("/v1/queues/q/retry_failed").await, (200, json!({"retried": 1_400})));
    assert_eq!(system.act("/v1/queues/q/retry_failed").await, (200, json!({"retried": 0})));
    let counts = system.get("/v1/queues/q").await["counts"].clone();
    assert_eq!((&counts["failed"], &counts["waiting"]), (&json!(0), &json!(1_400)));
    system.assert_clean().await;
}

#[tokio::test]
async fn a_queue_is_deleted_when_its_name_confirms_it() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    for query in ["?confirm=", "?confirm=other", "?confirm=Q"] {
        let (status, problem) = system.ask(Method::DELETE, &format!("/v1/queues/q{query}"), None).await;
        assert_eq!((status, &problem["code"]), (409, &json!("not_confirmed")), "{query}");
        assert!(problem["detail"].as_str().unwrap().contains("DELETE /v1/queues/q?confirm=q"), "{problem}");
    }
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 1);
    assert_eq!(system.ask(Method::DELETE, "/v1/queues/q?confirm=q", None).await, (204, Value::Null));
    assert_eq!(system.ask(Method::GET, "/v1/queues/q", None).await.0, 404);
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
    assert_eq!(system.ask(Method::DELETE, "/v1/queues/q?confirm=q", None).await.0, 404);
    system.post("q", number(1)).await;
    assert_eq!(system.get("/v1/queues").await["queues"][0]["totals"]["enqueued"], 1, "it begins anew");
    system.assert_clean().await;
}

#[tokio::test]
async fn what_there_is_no_queue_for_does_not_begin_one() {
    let system = System::start("").await;
    for path in ["pause", "resume", "retry_failed", "purge?state=failed"] {
        let (status, problem) = system.act(&format!("/v1/queues/q/{path}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("queue_not_found")), "{path}");
    }
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
}
