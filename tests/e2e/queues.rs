//! Tests of queues: settings, pause, purge, retry, deletion and lists.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    System,
    auth::{self, issue},
    completed, failed, number,
};

async fn refused_settings(system: &System, settings: Value) -> (u16, Value) {
    let (status, problem) = system.request(Method::PATCH, "/v1/queues/q", Some(settings)).await;
    (status, problem["errors"][0].clone())
}

#[tokio::test]
async fn settings_of_a_queue_are_changed_by_a_merge_patch() {
    let system = System::start("").await;
    let queue = system.patch("q", json!({"max_attempts": 7, "retention": {"completed": {"count": 5}}})).await;
    assert_eq!(queue, system.get("/v1/queues/q").await, "a queue exists from its first settings");
    assert_eq!(queue["settings"]["max_attempts"], 7);
    assert_eq!(queue["settings"]["retention"]["completed"], json!({"age": 86_400_000, "count": 5, "min_age": 60_000}));
    let limit_settings =
        json!({"rate_limit": {"max": 3, "duration": "1s"}, "exclusive": {"parallel": 2}, "timeout": "1m"});
    let queue = system.patch("q", limit_settings).await;
    assert_eq!(queue["settings"]["rate_limit"], json!({"max": 3, "duration": 1_000}));
    assert_eq!(queue["settings"]["max_attempts"], 7, "a patch does not change other settings");
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
async fn invalid_settings_are_refused_with_their_pointers() {
    let system = System::start("").await;
    for (settings, pointer, detail) in [
        (json!({"max_attempt": 1}), "/max_attempt", "unknown: did you mean \"max_attempts\"?"),
        (json!({"max_attempt": null}), "/max_attempt", "unknown: did you mean \"max_attempts\"?"),
        (json!({"retention": {"completed": {"cuont": 1}}}), "/retention/completed/cuont", "did you mean \"count\"?"),
        (
            json!({"retention": {"completed": {"count": -1}}}),
            "/retention/completed/count",
            "must be a whole number from 0 to 1000000000",
        ),
        (json!({"visibility_timeout": 5}), "/visibility_timeout", "must be 100ms to"),
        (json!({"visibility_timeout": "soon"}), "/visibility_timeout", "1h 30m"),
        (json!({"a/b~c": 1}), "/a~1b~0c", "unknown; expected one of visibility_timeout"),
    ] {
        let (status, error) = refused_settings(&system, settings.clone()).await;
        assert_eq!((status, &error["pointer"]), (422, &json!(pointer)), "{settings}: {error}");
        assert!(error["detail"].as_str().unwrap().contains(detail), "{error}");
    }
    for (settings, pointer, detail) in [
        (json!({"retention": {"failed": {"age": "30s"}}}), "/retention/failed", "min_age must not be longer than age"),
        (json!({"rate_limit": {"max": 1}}), "/rate_limit", "duration is required here"),
        (json!({"exclusive": {}}), "/exclusive", "parallel is required here"),
    ] {
        let (status, error) = refused_settings(&system, settings.clone()).await;
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
async fn paused_queue_hands_out_no_message() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    for _ in 0..2 {
        let (status, queue) = system.post_empty("/v1/queues/q/pause").await;
        assert_eq!((status, &queue["paused"], &queue["counts"]["waiting"]), (200, &json!(true), &json!(1)));
    }
    assert_eq!(system.lease("q", 1).await.len(), 0);
    for _ in 0..2 {
        let (status, queue) = system.post_empty("/v1/queues/q/resume").await;
        assert_eq!((status, &queue["paused"]), (200, &json!(false)));
    }
    assert_eq!(system.lease("q", 1).await.len(), 1);
}

#[tokio::test]
async fn a_queue_is_purged_state_by_state() {
    let system = System::start("").await;
    let post = async |options: Value| {
        for _ in 0..3 {
            system.post_batch("q", vec![options.clone(); 1_000]).await;
        }
    };
    post(json!({"data": 1})).await;
    while system.settle_all("q", completed()).await > 0 {}
    post(json!({"data": 1})).await;
    while system.settle_all("q", failed()).await > 0 {}
    for options in [json!({"data": 1, "hold": "k"}), json!({"data": 1, "delay": "1h"}), json!({"data": 1})] {
        post(options).await;
    }
    let active_count = system.lease("q", 10).await.len();
    assert_eq!(active_count, 10);
    for (state, purged) in
        [("held", 3_000), ("delayed", 3_000), ("waiting", 2_990), ("completed", 3_000), ("failed", 3_000)]
    {
        let (status, answer) = system.post_empty(&format!("/v1/queues/q/purge?state={state}")).await;
        assert_eq!((status, answer), (200, json!({"purged": purged})), "{state}");
        assert_eq!(system.get("/v1/queues/q").await["counts"][state], 0);
        assert_eq!(system.post_empty(&format!("/v1/queues/q/purge?state={state}")).await.1, json!({"purged": 0}));
    }
    assert_eq!(system.get("/v1/queues/q").await["counts"]["active"], 10);
    system.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_continues_after_its_client_disconnects() {
    let system = System::start("").await;
    for _ in 0..40 {
        system.post_batch("q", vec![number(1); 1_000]).await;
    }
    let path = system.url("/v1/queues/q/purge?state=waiting");
    let client = crate::http_client();
    let purge_task = tokio::spawn(async move { client.post(path).send().await });
    let waiting_count = async || system.get("/v1/queues/q").await["counts"]["waiting"].as_u64().unwrap();
    while waiting_count().await == 40_000 {}
    // The client closes its connection before the purge has ended.
    purge_task.abort();
    while waiting_count().await > 0 {}
    system.assert_clean().await;
}

#[tokio::test]
async fn all_dead_letters_are_retried() {
    let system = System::start("").await;
    for _ in 0..2 {
        system.post_batch("q", vec![number(1); 700]).await;
    }
    while system.settle_all("q", failed()).await > 0 {}
    assert_eq!(system.post_empty("/v1/queues/q/retry_failed").await, (200, json!({"retried": 1_400})));
    assert_eq!(system.post_empty("/v1/queues/q/retry_failed").await, (200, json!({"retried": 0})));
    let counts = system.get("/v1/queues/q").await["counts"].clone();
    assert_eq!((&counts["failed"], &counts["waiting"]), (&json!(0), &json!(1_400)));
    system.assert_clean().await;
}

#[tokio::test]
async fn a_queue_is_deleted_when_its_name_confirms_it() {
    let system = System::start("").await;
    system.post("q", number(1)).await;
    for query in ["?confirm=", "?confirm=other", "?confirm=Q"] {
        let path = format!("/v1/queues/q{query}");
        system.refused(Method::DELETE, &path, None, (409, "not_confirmed", "DELETE /v1/queues/q?confirm=q")).await;
    }
    assert_eq!(system.get("/v1/queues/q").await["counts"]["waiting"], 1);
    assert_eq!(system.request(Method::DELETE, "/v1/queues/q?confirm=q", None).await, (204, Value::Null));
    assert_eq!(system.request(Method::GET, "/v1/queues/q", None).await.0, 404);
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
    assert_eq!(system.request(Method::DELETE, "/v1/queues/q?confirm=q", None).await.0, 404);
    system.post("q", number(1)).await;
    assert_eq!(system.get("/v1/queues").await["queues"][0]["totals"]["enqueued"], 1, "the new queue counts from 0");
    system.assert_clean().await;
}

#[tokio::test]
async fn operation_on_an_unknown_queue_does_not_create_the_queue() {
    let system = System::start("").await;
    for path in ["pause", "resume", "retry_failed", "purge?state=failed"] {
        let (status, problem) = system.post_empty(&format!("/v1/queues/q/{path}")).await;
        assert_eq!((status, &problem["code"]), (404, &json!("queue_not_found")), "{path}");
    }
    assert_eq!(system.get("/v1/queues").await["queues"], json!([]));
}

/// Returns the names of the queues on each page of a list, and the cursors between them.
async fn pages_of_names(system: &System, query: &str, key: &str) -> (Vec<Vec<String>>, Vec<String>) {
    let (mut pages, mut cursors) = (Vec::new(), Vec::<String>::new());
    loop {
        let cursor = cursors.last().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let request = system.http.get(system.url(&format!("/v1/queues?{query}{cursor}"))).bearer_auth(key);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let queues = answer["queues"].as_array().unwrap_or_else(|| panic!("{query}{cursor}: {answer}"));
        pages.push(queues.iter().map(|queue| queue["queue"].as_str().unwrap().to_owned()).collect());
        match answer.get("next_cursor") {
            Some(cursor) => cursors.push(cursor.as_str().unwrap().to_owned()),
            None => return (pages, cursors),
        }
    }
}

#[tokio::test]
async fn queues_are_listed_page_by_page_in_the_order_of_their_names() {
    let system = System::start("").await;
    let queue_names = ["B", "a", "a-1", "a.1", "a1", "a:1", "aa", "b"];
    for name in queue_names.iter().rev() {
        system.post(name, number(1)).await;
    }
    for limit in [1, 3, 8, 1_000] {
        let (listed, _) = pages_of_names(&system, &format!("limit={limit}"), "").await;
        assert_eq!(listed.concat(), queue_names, "by {limit}");
        assert_eq!(listed.len(), queue_names.len().div_ceil(limit), "limit {limit}: only the last page has no cursor");
    }
    assert_eq!(pages_of_names(&system, "", "").await.0, [queue_names.to_vec()]);
    assert_eq!(
        pages_of_names(&system, "prefix=a&limit=3", "").await.0,
        [vec!["a", "a-1", "a.1"], vec!["a1", "a:1", "aa"]]
    );
    assert_eq!(pages_of_names(&system, "prefix=a:", "").await.0, [["a:1"]]);
    assert_eq!(pages_of_names(&system, "prefix=c", "").await.0, [[""; 0]]);
    // A cursor stays valid when its queue is deleted.
    let first_page = system.get("/v1/queues?limit=2").await;
    assert_eq!(first_page["next_cursor"], "a");
    system.request(Method::DELETE, "/v1/queues/a?confirm=a", None).await;
    assert_eq!(system.get("/v1/queues?limit=1&cursor=a").await["queues"][0]["queue"], "a-1");
}

#[tokio::test]
async fn page_of_the_list_of_queues_has_a_hundred_queues_by_default() {
    let system = System::start("").await;
    let queues = system.queues();
    for n in 0..205 {
        queues.queue(&format!("q{n:03}").parse().unwrap()).configure(&json!({"max_attempts": 5})).await.unwrap();
    }
    let (listed, cursors) = pages_of_names(&system, "", "").await;
    assert_eq!(listed.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 5]);
    assert_eq!((listed.concat().len(), cursors), (205, vec!["q099".to_owned(), "q199".to_owned()]));
}

#[tokio::test]
async fn list_of_queues_omits_names_without_a_queue_and_continues_after_them() {
    let system = System::start("").await;
    for name in ["a", "m", "z"] {
        system.post(name, number(1)).await;
    }
    let unused_names: Vec<String> = (0..1_005).map(|n| format!("0 gone{n:04}")).collect();
    system.redis.command(&format!("ZADD drover:queues {}", unused_names[..3].join(" ")));
    let (listed, _) = pages_of_names(&system, "limit=2", "").await;
    assert_eq!(listed, [vec!["a", "m"], vec!["z"]], "a few names without a queue do not shorten a page");
    system.redis.command(&format!("ZADD drover:queues {}", unused_names.join(" ")));
    let (listed, cursors) = pages_of_names(&system, "limit=2", "").await;
    assert_eq!(listed, [vec!["a"], vec!["m", "z"]], "a page reads no more than 1,000 names");
    assert_eq!(cursors, ["gone0998"]);
}

#[tokio::test]
async fn list_of_queues_reveals_to_a_key_only_queues_that_it_may_read() {
    let keys = [
        issue("--id ops --scopes enqueue,read"),
        issue("--id some --scopes read --queues user-*,user-1*,mails,none,v"),
    ];
    let system = System::start(&auth::config(&keys.each_ref())).await;
    for queue in ["a", "mail", "mails", "mails-2", "user", "user-1", "user-10", "user-2", "user.1", "v", "v1", "w"] {
        let request = system.http.post(system.url(&format!("/v1/queues/{queue}/messages"))).bearer_auth(&keys[0].key);
        assert_eq!(request.json(&number(1)).send().await.unwrap().status(), 201);
    }
    let readable = ["mails", "user-1", "user-10", "user-2", "v"];
    for limit in [1, 2, 5, 1_000] {
        let (listed, cursors) = pages_of_names(&system, &format!("limit={limit}"), &keys[1].key).await;
        assert_eq!(listed.concat(), readable, "by {limit}");
        let may_be_known = |name: &String| name == "none" || readable.contains(&name.as_str());
        assert!(cursors.iter().all(may_be_known), "{cursors:?}");
    }
    for (prefix, expected) in
        [("user", &readable[1..4]), ("user-1", &readable[1..3]), ("m", &readable[..1]), ("w", &readable[..0])]
    {
        let (listed, _) = pages_of_names(&system, &format!("prefix={prefix}"), &keys[1].key).await;
        assert_eq!(listed, [expected.to_vec()], "{prefix}");
    }
}

#[tokio::test]
async fn invalid_query_parameter_of_the_list_of_queues_is_refused_with_its_name() {
    let system = System::start("").await;
    for (query, status, code, expected) in [
        ("limit=0", 400, "invalid_query", "limit must be a whole number from 1 to 1000"),
        ("limit=1001", 400, "invalid_query", "from 1 to 1000"),
        ("prefix=", 400, "invalid_query", "prefix: a queue's name is 1 to 128 characters"),
        ("prefix=-a", 400, "invalid_query", "starts with a letter or digit"),
        ("prefx=a", 400, "invalid_query", "did you mean \"prefix\"?"),
        ("cursor=", 404, "cursor_not_found", "next_cursor of the page before"),
        ("cursor=a%20b", 404, "cursor_not_found", "next_cursor of the page before"),
    ] {
        system.refused(Method::GET, &format!("/v1/queues?{query}"), None, (status, code, expected)).await;
    }
}
