//! The files of the dashboard and the start page: their headers, and the setting that turns them off.

use serde_json::json;

use crate::System;

#[tokio::test]
async fn files_have_a_strict_policy_and_are_sent_again_only_when_they_changed() {
    let system = System::start("").await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/dashboard", "text/html"),
        ("/dashboard/", "text/html"),
        ("/dashboard/app.js", "text/javascript"),
        ("/dashboard/style.css", "text/css"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let answer = system.http.get(system.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        assert_eq!((header("x-content-type-options"), header("cache-control")), ("nosniff".into(), "no-cache".into()));
        let policy = header("content-security-policy");
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains("://"), "{policy}");
        let again = system.http.get(system.url(path)).header("if-none-match", header("etag")).send().await.unwrap();
        assert_eq!((again.status().as_u16(), again.content_length()), (304, Some(0)), "{path}");
    }
    for path in ["/dashboard/mod.rs", "/dashboard/..%2fmod.rs", "/dashboard/none.js"] {
        assert_eq!(system.http.get(system.url(path)).send().await.unwrap().status(), 404, "{path}");
    }
}

#[tokio::test]
async fn dashboard_that_is_turned_off_is_not_found() {
    let system = System::start("[dashboard]\nenabled = false\n").await;
    for path in ["/", "/dashboard", "/dashboard/app.js"] {
        let (status, problem) = system.request(reqwest::Method::GET, path, None).await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{path}");
    }
    assert_eq!(system.get("/v1/key").await["id"], json!(null));
}
