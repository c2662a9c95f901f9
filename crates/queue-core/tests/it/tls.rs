//! Tests of connections to Redis over TLS, with certificates that the tests make.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use drover_tests::{
    CertificateAuthority, CertificateFiles, RedisCluster, RedisSentinels, RedisServer, TIME_LIMIT, TlsClients,
    Validity, eventually,
};
use queue_core::{
    ConsumerId, Error, LeaseRequest, Millis, Queue, QueueName, Queues, Redis, RedisOptions, Settlement, State,
    settings::DeclaredSettings, wakeup::Subscriber,
};
use tokio::time::timeout;

use crate::{TestQueue, completion, connections::no_call_fails, load::Load, numbered_message, numbers, wait_millis};

fn redis_options_with_ca(url: &str, ca: &Path) -> RedisOptions {
    let mut options = RedisOptions::new(url, TIME_LIMIT);
    options.tls_ca = Some(ca.to_owned());
    options
}

fn start_tls_server(ca: &CertificateAuthority, certificate: &CertificateFiles) -> RedisServer {
    RedisServer::start_with_tls(certificate, &ca.file(), TlsClients::All)
}

fn tls_fixture(ca: &CertificateAuthority) -> TestQueue {
    let redis = start_tls_server(ca, &ca.issue("localhost", Validity::Valid));
    let redis_options = redis_options_with_ca(&redis.tls_url(), &ca.file()).prepare().unwrap();
    TestQueue::with_queues(redis, Queues::new(redis_options, DeclaredSettings::default()))
}

/// Connects to Redis with these options, and returns the error text of the first call.
async fn error_of(options: &RedisOptions) -> String {
    match options.prepare().unwrap().ping().await {
        Err(Error::Unavailable(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn calls_and_wake_ups_travel_over_tls() {
    let ca = CertificateAuthority::new();
    let fixture = tls_fixture(&ca);
    let redis = fixture.queues.redis();
    redis.examine().await.unwrap();
    let subscriber = Subscriber::new(redis.clone());
    let _listening = tokio::spawn({
        let subscriber = subscriber.clone();
        async move { subscriber.keep_connected().await }
    });
    subscriber.connection().wait_for(|is_connected| *is_connected).await.unwrap();
    let posted_message = fixture.post(numbered_message(1)).await;
    let wait_for_result = fixture.queue.read_when_finished(&posted_message.id, Millis::from_secs(20), &subscriber);
    let complete_message = async {
        wait_millis(50).await;
        fixture.complete(&fixture.lease_one().await).await
    };
    let (found, completed) =
        timeout(TIME_LIMIT, async { tokio::join!(wait_for_result, complete_message) }).await.unwrap();
    assert_eq!((found.unwrap().unwrap().state, completed), (State::Completed, Some(State::Completed)));
    let clients = fixture.redis.command("CLIENT LIST TYPE pubsub");
    assert!(clients.contains("sub=1"), "{clients}");
}

/// How many slots move to another server of a cluster.
const MOVED_SLOTS: u16 = 100;

/// Posts, leases and completes a message.
async fn use_queue(queue: &Arc<Queue>, n: u64) {
    queue.post(numbered_message(n)).await.unwrap();
    let lease_reply = queue.lease(&LeaseRequest::new(ConsumerId::issue(), 1)).await.unwrap();
    assert_eq!(numbers(&lease_reply), [n]);
    let settlement = Settlement { lease: lease_reply.deliveries[0].lease.clone(), action: completion() };
    assert_eq!(queue.settle(&[settlement]).await.unwrap(), [Some(State::Completed)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_a_cluster_are_used_over_tls_while_a_slot_moves() {
    let ca = CertificateAuthority::new();
    let cluster = RedisCluster::start_with_tls(3, 0, &ca);
    let redis = redis_options_with_ca(&cluster.tls_url(), &ca.file()).prepare().unwrap();
    let queues = Queues::new(redis, DeclaredSettings::default());
    for (n, name) in (1..).zip(&Load::names("q", 12)) {
        use_queue(&queues.queue(name), n).await;
    }
    // The first slots of the first server move to another server, which the first server names in its redirections.
    let is_first = |name: &QueueName| cluster.slot_of(&format!("drover:{{{name}}}:meta")) < MOVED_SLOTS;
    let name = (0..100_000).map(|n| format!("moved-{n}").parse().unwrap()).find(is_first).unwrap();
    use_queue(&queues.queue(&name), 1).await;
    let [from, to] = [0, 1].map(|index| RedisCluster::id_of(&cluster.servers[index]));
    tokio::task::block_in_place(|| cluster.move_slots(&from, &to, MOVED_SLOTS.into()));
    assert_eq!(cluster.owner_of(0, 0), Some(1));
    use_queue(&queues.queue(&name), 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_sentinels_are_used_over_tls_after_a_fail_over() {
    let ca = CertificateAuthority::new();
    let mut group = RedisSentinels::start_with_tls(1, 3, &ca);
    let redis = redis_options_with_ca(&group.tls_url(), &ca.file()).prepare().unwrap();
    let queues = Queues::new(redis, DeclaredSettings::default());
    let queue = queues.queue(&crate::queue_name());
    use_queue(&queue, 1).await;
    eventually("the replica has the completed message", || {
        group.servers[1].command("HGET drover:{q}:meta total:completed").ends_with('1').then_some(())
    });
    group.servers[0].kill();
    eventually("another primary", || group.primary().filter(|primary| *primary != 0));
    let start = Instant::now();
    while let Err(error) = queue.status().await {
        assert!(start.elapsed() < TIME_LIMIT, "{error}");
        wait_millis(10).await;
    }
    use_queue(&queue, 2).await;
}

#[tokio::test]
async fn no_call_over_tls_fails_after_redis_closed_idle_connections_and_the_runtime_has_not_seen_it() {
    let ca = CertificateAuthority::new();
    let fixture = tls_fixture(&ca);
    let close_connections = async || {
        fixture.redis.command("CLIENT KILL TYPE normal");
    };
    no_call_fails(&fixture, close_connections).await;
}

#[tokio::test]
async fn wrong_certificate_of_redis_is_refused_with_the_reason() {
    let (ca, other_ca) = (CertificateAuthority::new(), CertificateAuthority::new());
    let redis = start_tls_server(&ca, &ca.issue("localhost", Validity::Valid));
    let error = error_of(&redis_options_with_ca(&redis.tls_url(), &other_ca.file())).await;
    assert!(error.contains("signed by none of the trusted CAs") && error.contains("redis.tls.ca"), "{error}");
    // Without a configured CA, the CAs of the operating system are trusted, and the CA of this test is none of these.
    let error = error_of(&RedisOptions::new(redis.tls_url(), TIME_LIMIT)).await;
    assert!(error.contains("signed by none of the trusted CAs"), "{error}");
    let redis = start_tls_server(&ca, &ca.issue("localhost", Validity::Expired));
    let error = error_of(&redis_options_with_ca(&redis.tls_url(), &ca.file())).await;
    assert!(error.contains("has expired: renew it"), "{error}");
    let redis = start_tls_server(&ca, &ca.issue("redis.example", Validity::Valid));
    let error = error_of(&redis_options_with_ca(&redis.tls_url(), &ca.file())).await;
    assert!(error.contains("not valid for the host in redis.url"), "{error}");
}

#[tokio::test]
async fn certificate_for_an_ip_address_is_valid_for_a_url_with_this_address() {
    let ca = CertificateAuthority::new();
    let redis = start_tls_server(&ca, &ca.issue("127.0.0.1", Validity::Valid));
    let url = redis.tls_url().replace("localhost", "127.0.0.1");
    redis_options_with_ca(&url, &ca.file()).prepare().unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn redis_may_demand_a_client_certificate() {
    let (ca, other_ca) = (CertificateAuthority::new(), CertificateAuthority::new());
    let redis =
        RedisServer::start_with_tls(&ca.issue("localhost", Validity::Valid), &ca.file(), TlsClients::WithCertificate);
    let mut options = redis_options_with_ca(&redis.tls_url(), &ca.file());
    let error = error_of(&options).await;
    assert!(error.contains("refuses the client certificate, or wants one: set redis.tls.certificate"), "{error}");
    for (issuer, validity) in [(&other_ca, Validity::Valid), (&ca, Validity::Expired)] {
        let client = issuer.issue("worker", validity);
        options.tls_client = Some((client.certificate, client.key));
        let error = error_of(&options).await;
        assert!(error.contains("refuses the client certificate"), "{error}");
    }
    let client = ca.issue("worker", Validity::Valid);
    options.tls_client = Some((client.certificate, client.key));
    options.prepare().unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn renewed_certificate_files_are_used_from_the_next_connection_on() {
    let (old_ca, new_ca) = (CertificateAuthority::new(), CertificateAuthority::new());
    let fixture = tls_fixture(&old_ca);
    fixture.post_numbers([1]).await;
    // The server gets a certificate of another CA, and the file of the trusted CA is replaced.
    let renewed_certificate = new_ca.issue("localhost", Validity::Valid);
    fs::copy(new_ca.file(), old_ca.file()).unwrap();
    let certificate_files = format!(
        "CONFIG SET tls-cert-file {} tls-key-file {}",
        renewed_certificate.certificate.display(),
        renewed_certificate.key.display()
    );
    assert_eq!(fixture.redis.command(&certificate_files), "+OK");
    fixture.post_numbers([2]).await;
    fixture.redis.command("CLIENT KILL TYPE normal");
    fixture.post_numbers([3]).await;
    assert_eq!(fixture.queue.status().await.unwrap().unwrap().counts.waiting, 3);
    // A client whose CA file names another certificate authority refuses the new certificate of the server.
    let error = error_of(&redis_options_with_ca(&fixture.redis.tls_url(), &CertificateAuthority::new().file())).await;
    assert!(error.contains("signed by none"), "{error}");
}

#[tokio::test]
async fn wrong_port_is_reported_with_instructions() {
    let ca = CertificateAuthority::new();
    let redis = start_tls_server(&ca, &ca.issue("localhost", Validity::Valid));
    let plain_to_tls = redis.tls_url().replace("rediss://", "redis://");
    let error = error_of(&RedisOptions::new(plain_to_tls, TIME_LIMIT)).await;
    assert!(error.contains("rediss://"), "{error}");
    let mut tls_to_plain = redis_options_with_ca(&redis.url().replace("redis://", "rediss://"), &ca.file());
    tls_to_plain.time_limit = Duration::from_secs(1);
    let error = error_of(&tls_to_plain).await;
    assert!(error.contains("redis.url"), "{error}");
}

#[test]
fn redis_options_that_contradict_each_other_are_refused() {
    let ca = CertificateAuthority::new();
    let error_of = |change: &dyn Fn(&mut RedisOptions)| {
        let mut options = RedisOptions::new("redis://user:hunter2@127.0.0.1", TIME_LIMIT);
        change(&mut options);
        let error = options.prepare().map(drop).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        error
    };
    let username = error_of(&|options| options.username = Some("hunter2".into()));
    assert_eq!(username, "redis.url has a username, and redis.username is set too: remove one of them");
    let password = error_of(&|options| options.password = Some("hunter2".into()));
    assert_eq!(password, "redis.url has a password, and redis.password is set too: remove one of them");
    let unused_ca_error = error_of(&|options| options.tls_ca = Some(ca.file()));
    assert!(unused_ca_error.contains("write rediss://"), "{unused_ca_error}");
    let url = error_of(&|options| options.url = "http://hunter2".into());
    assert!(url.contains("expected redis://host:port"), "{url}");
    let missing_key_error = error_of(&|options| {
        options.url = "rediss://127.0.0.1".into();
        options.tls_ca = Some("/nowhere/hunter2".into());
    });
    assert!(missing_key_error.starts_with("redis.tls.ca: the file can't be read"), "{missing_key_error}");
    let key = ca.issue("worker", Validity::Valid).key;
    let no_certificate = error_of(&|options| {
        options.url = "rediss://127.0.0.1".into();
        options.tls_ca = Some(key.clone());
    });
    assert_eq!(no_certificate, "redis.tls.ca: the file has no certificate as PEM");
}

#[tokio::test]
async fn user_and_password_may_be_given_beside_the_url() {
    let redis = RedisServer::start();
    redis.command("ACL SETUSER drover on >hunter2 ~* &* +@all");
    redis.command("CONFIG SET requirepass other");
    let mut options = RedisOptions::new(redis.url(), TIME_LIMIT);
    let error = error_of(&options).await;
    assert!(error.contains("redis.password"), "{error}");
    (options.username, options.password) = (Some("drover".into()), Some("hunter2".into()));
    let redis: Redis = options.prepare().unwrap();
    redis.ping().await.unwrap();
    redis.with_own_connections().ping().await.unwrap();
}
