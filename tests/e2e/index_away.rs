//! Tests of a cluster while the server with the index of queues is down: queues on other servers work, but queues can't be
//! listed, created or deleted.

use std::time::Instant;

use drover_tests::{Process, RedisCluster, ReservedPort, TIME_LIMIT, eventually};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{System, number, start_api};

/// Returns the server that has the slot of a key, while the slots are as they were when the cluster of three servers began.
fn server_of_key(cluster: &RedisCluster, key: &str) -> usize {
    let slot = usize::from(cluster.slot_of(key));
    (0..3).rev().find(|n| n * 16_384 / 3 <= slot).unwrap()
}

fn wait_for_log_line(process: &Process, text: &str) {
    eventually(text, || process.log().iter().any(|line| line.contains(text)).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_queues_work_and_new_queues_and_lists_are_unavailable_while_the_server_of_the_index_is_down() {
    let mut cluster = RedisCluster::start(3, 0);
    let url = cluster.url();
    let index_server = server_of_key(&cluster, "drover:queues");
    // The queues of this test are on other servers than the index.
    let unused_names = (0..)
        .map(|n| format!("q{n}"))
        .filter(|name| server_of_key(&cluster, &format!("drover:{{{name}}}:meta")) != index_server);
    let [existing, new] = &unused_names.take(2).collect::<Vec<_>>()[..] else { unreachable!() };
    let mut index_redis = cluster.servers.remove(index_server);
    let config = format!("[[worker.routes]]\nqueue = \"{existing}\"\nhandler = {{ type = \"log\" }}\n");
    let system = System::launch(cluster.servers.remove(0), url, &config);
    system.wait_until_ready(&system.base).await;
    let (worker, worker_url) = system.worker_and_url(&[]).await;
    system.finished(&system.post(existing, number(1)).await).await;

    index_redis.kill();
    let location = system.post(existing, number(2)).await;
    assert_eq!(system.finished(&location).await["state"], "completed");
    for path in [format!("/v1/queues/{existing}"), format!("/v1/queues/{existing}/messages")] {
        assert_eq!(system.http.get(system.url(&path)).send().await.unwrap().status(), StatusCode::OK, "{path}");
    }
    assert_eq!(system.send(new, &number(1)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    let list_answer = system.http.get(system.url("/v1/queues")).send().await.unwrap();
    assert_eq!(list_answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(system.metric("drover_queues_readable").await, 0);
    let (index_port, others) = (index_redis.port(), [system.redis.port(), cluster.servers[0].port()]);
    for base in [&system.base, &worker_url] {
        let readiness = system.http.get(format!("{base}/readyz")).send().await.unwrap();
        assert_eq!(readiness.status(), StatusCode::OK, "the other servers answer");
        let readiness: Value = readiness.json().await.unwrap();
        assert_eq!(readiness["redis"], "cluster");
        let names_index_server = |text: &Value| text.as_str().unwrap().contains(&format!("127.0.0.1:{index_port}"));
        assert!(readiness["warnings"].as_array().unwrap().iter().any(names_index_server), "{readiness}");
        let metrics = system.http.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
        for (port, is_up) in [(index_port, 0), (others[0], 1), (others[1], 1)] {
            let line = format!("drover_redis_server_up{{topology=\"cluster\",server=\"127.0.0.1:{port}\"}} {is_up}");
            assert!(metrics.lines().any(|found| found == line), "{line} is not in {metrics}");
        }
    }
    for process in [&system.api, &worker] {
        wait_for_log_line(process, &format!("does not answer topology=\"cluster\" server=127.0.0.1:{index_port}"));
    }

    // Processes that start while the server with the index of queues is down become ready, and use the existing queue.
    let (_later_worker, _) = system.worker_and_url(&[]).await;
    let port = ReservedPort::reserve();
    let _later_api_process = start_api(&port, &system.redis_url, &system.config);
    let base_url = format!("http://{}", port.address());
    system.wait_until_ready(&base_url).await;
    let path = format!("/v1/queues/{existing}/messages");
    let post_answer = system.http.post(format!("{base_url}{path}")).json(&number(3)).send().await.unwrap();
    assert_eq!(post_answer.status(), StatusCode::CREATED);
    assert_eq!(system.finished(post_answer.headers()["location"].to_str().unwrap()).await["state"], "completed");

    index_redis.restart();
    let started_at = Instant::now();
    while system.send(new, &number(1)).await.status() != StatusCode::CREATED {
        assert!(started_at.elapsed() < TIME_LIMIT, "no queue can be created");
    }
    wait_for_log_line(&system.api, &format!("answers again topology=\"cluster\" server=127.0.0.1:{index_port}"));
    let queues: Value = system.get("/v1/queues").await;
    assert_eq!(queues["queues"].as_array().unwrap().len(), 2, "{queues}");

    index_redis.kill();
    let (status, _) = system.request(Method::DELETE, &format!("/v1/queues/{existing}?confirm={existing}"), None).await;
    assert_eq!(status, 503);
}
