//! Tests that the rights of the Redis user that docs/PRODUCTION.md lists are enough for the API and the worker, and that each right is
//! needed: on one server, in a cluster, and with Sentinels.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use drover_tests::{Process, RedisCluster, RedisSentinels, RedisServer, TIME_LIMIT, eventually};
use queue_core::{Error, Queues, Redis, RedisOptions, settings::DeclaredSettings};
use reqwest::{
    Client, Method, StatusCode,
    header::{AUTHORIZATION, HeaderMap},
};

use crate::{
    System, auth,
    every_use::{assert_ready_without_warnings, lose_lease_answer, post_for_worker, read_during_purge, use_everything},
    markdown::{blocks, document, section},
    number,
    system::metric_in,
};

/// The constants that end in `_RIGHTS_ITEM` each select one item in docs/PRODUCTION.md, in the list of rights that only some installations
/// need: a text that only this item contains.
const PATTERN_RIGHTS_ITEM: &str = "`user-*`";
const REPLICAS_RIGHTS_ITEM: &str = "`durability.replicas`";
const NO_APPEND_ONLY_FILE_RIGHTS_ITEM: &str = "append-only file";
const DATABASE_RIGHTS_ITEM: &str = "database";
const CLUSTER_RIGHTS_ITEM: &str = "cluster";
const AUDIT_RIGHTS_ITEM: &str = "`make audit`";

/// The rights that docs/PRODUCTION.md lists.
struct DocumentedRights {
    /// The documented commands that create the Redis user of the services.
    user: Vec<String>,
    /// The documented command that creates the services' user at a Sentinel.
    sentinel_user: String,
    /// The items of the documented list of rights that only some installations need.
    optional: Vec<String>,
}

fn named_rights(text: &str) -> impl Iterator<Item = String> {
    text.split([' ', '`']).filter(|word| word.starts_with(['+', '&', '~'])).map(str::to_owned)
}

fn password_in(command: &str) -> &str {
    command.split(' ').find_map(|word| word.strip_prefix('>')).expect("the user has a password")
}

impl DocumentedRights {
    fn parse_document() -> Self {
        let production_document = document("docs/PRODUCTION.md");
        let section = section(&production_document, "Least rights");
        let blocks = blocks(section);
        let [user, sentinel_user] = &blocks[..] else { panic!("not two blocks of rights") };
        Self {
            user: user.text.lines().map(str::to_owned).collect(),
            sentinel_user: sentinel_user.text.trim_end().to_owned(),
            optional: section.lines().filter(|line| line.starts_with("- ")).map(str::to_owned).collect(),
        }
    }

    /// Returns the rights that the Redis user of every installation needs, and the rights of `optional_items` in the documented list.
    fn documented_commands(&self, optional_items: &[&str]) -> BTreeSet<String> {
        let rights_of_item = |text: &&str| {
            let mut found_items = self.optional.iter().filter(|item| item.contains(*text));
            let item = found_items.next().unwrap_or_else(|| panic!("the list has no item with {text}"));
            assert_eq!(found_items.next(), None, "{text} is in two items");
            named_rights(item)
        };
        let user = self.user.iter().flat_map(|line| named_rights(line));
        user.chain(optional_items.iter().flat_map(rights_of_item)).collect()
    }

    /// Creates the Redis user on a server, with the rights that every installation needs and the rights of `optional_items`. Resets the
    /// server's statistics of called and refused commands.
    fn create_user(&self, server: &RedisServer, optional_items: &[&str]) {
        for line in &self.user {
            assert_eq!(server.command(line), "+OK", "{line}");
        }
        for right in self.documented_commands(optional_items) {
            assert_eq!(server.command(&format!("ACL SETUSER drover {right}")), "+OK", "{right}");
        }
        server.command("ACL LOG RESET");
        server.command("CONFIG RESETSTAT");
    }

    /// Returns the documented commands of the Redis user and of `optional_items` that no client has called at any of `servers`.
    fn uncalled_commands(&self, optional_items: &[&str], servers: &[&RedisServer]) -> BTreeSet<String> {
        let all_called_commands: BTreeSet<String> = servers.iter().flat_map(|server| called_commands(server)).collect();
        self.documented_commands(optional_items)
            .into_iter()
            .filter(|right| right.starts_with('+') && !all_called_commands.contains(right))
            .collect()
    }

    /// Returns the commands of `optional_items` in the documented list that no client has called at any of `servers`.
    fn uncalled_commands_of(&self, optional_items: &[&str], servers: &[&RedisServer]) -> BTreeSet<String> {
        &self.uncalled_commands(optional_items, servers) - &self.documented_commands(&[])
    }

    /// Returns the URL of a server, with the name and the password of the user that has the documented rights.
    fn with_user(&self, url: &str) -> String {
        url.replace("://", &format!("://drover:{}@", password_in(&self.user[0])))
    }
}

/// Returns the commands that clients and scripts have called at a server, as an ACL names them.
fn called_commands(server: &RedisServer) -> BTreeSet<String> {
    let command_stats = server.command("INFO commandstats");
    let name = |line: &str| Some(format!("+{}", line.strip_prefix("cmdstat_")?.split_once(':')?.0));
    command_stats.lines().filter(|line| !line.contains(":calls=0,")).filter_map(name).collect()
}

/// Returns the commands, keys and channels that a server has refused since the user was created.
fn refused_rights(server: &RedisServer) -> Vec<String> {
    let log = server.command("ACL LOG");
    let log_lines: Vec<&str> = log.lines().collect();
    // In the raw reply of Redis, a value follows its name and its length.
    let refused_objects =
        log_lines.windows(3).filter(|log_lines| log_lines[0] == "object").map(|log_lines| log_lines[2].to_owned());
    refused_objects.collect()
}

fn assert_nothing_refused(server: &RedisServer) {
    assert_eq!(refused_rights(server), [] as [String; 0]);
}

const WORKER_ROUTES: &str = "[[worker.routes]]
queue = \"my-queue\"
handler = { type = \"log\" }
[[worker.routes]]
queue = \"user-*\"
handler = { type = \"log\" }
";

/// Starts the API with the Redis user that has the documented rights. Tests send requests with an API key without a rate limit,
/// and one request with a key that has a rate limit.
async fn start(documented: &DocumentedRights, redis: RedisServer, url: &str, config: &str) -> System {
    let scopes = "--scopes enqueue,read,consume,manage --queues *";
    let (key, limited) =
        (auth::issue(&format!("--id all {scopes}")), auth::issue(&format!("--id limited {scopes} --rate-limit 9/1m")));
    let config = format!("{}\n{config}\n{WORKER_ROUTES}", auth::config(&[&key, &limited]));
    let mut system = System::launch(redis, documented.with_user(url), &config);
    system.wait_until_ready(&system.base).await;
    let request = system.http.get(system.url("/v1/queues")).bearer_auth(&limited.key);
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    let headers = HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {}", key.key).parse().unwrap())]);
    system.http = Client::builder().default_headers(headers).timeout(TIME_LIMIT).build().unwrap();
    system
}

/// Returns a primary with a replica that confirms writes.
fn start_with_replica() -> (RedisServer, RedisServer) {
    let primary = RedisServer::start_fsync_everysec();
    let replica = RedisServer::start_replica_of(&primary);
    primary.command("SET probe 1");
    eventually("the replica confirms writes", || (primary.confirming_replicas() == 1).then_some(()));
    (primary, replica)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_operations_succeed_with_the_documented_rights_and_call_each_documented_command() {
    let documented_rights = DocumentedRights::parse_document();
    let (primary, _replica) = start_with_replica();
    let optional_items = [PATTERN_RIGHTS_ITEM, REPLICAS_RIGHTS_ITEM];
    documented_rights.create_user(&primary, &optional_items);
    let url = primary.url();
    let system = start(&documented_rights, primary, &url, "[durability]\nreplicas = 1\n").await;
    let mut worker = use_everything(&system).await;
    read_during_purge(&system).await;
    lose_lease_answer(&system).await;
    assert!(worker.terminate().success());
    assert_nothing_refused(&system.redis);
    // Redis has refused no command, so the documented list of rights has the right of each command that was called.
    assert_eq!(
        documented_rights.uncalled_commands(&optional_items, &[&system.redis]),
        BTreeSet::new(),
        "the list has rights that nothing uses"
    );
}

/// Waits until a server has refused a command, a key or a channel.
fn wait_for_refusal(server: &RedisServer, without: &str) {
    eventually(&format!("the server refuses something without the right {without}"), || {
        (!refused_rights(server).is_empty()).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn services_need_the_documented_rights_for_keys_and_for_each_channel() {
    let documented_rights = DocumentedRights::parse_document();
    let redis = RedisServer::start();
    documented_rights.create_user(&redis, &[PATTERN_RIGHTS_ITEM, NO_APPEND_ONLY_FILE_RIGHTS_ITEM]);
    let url = redis.url();
    let system = start(&documented_rights, redis, &url, "").await;
    let _worker = system.worker().await;
    let all = documented_rights.documented_commands(&[PATTERN_RIGHTS_ITEM]);
    let (keys_and_channels, _): (Vec<&String>, Vec<&String>) = all.iter().partition(|right| !right.starts_with('+'));
    assert_eq!(keys_and_channels.len(), 6, "{keys_and_channels:?}");
    for right in &keys_and_channels {
        let other_rights: Vec<&str> =
            keys_and_channels.iter().filter(|other| *other != right).map(|other| other.as_str()).collect();
        system.redis.command(&format!("ACL SETUSER drover resetkeys resetchannels {}", other_rights.join(" ")));
        // The services subscribe again.
        system.redis.command("CLIENT KILL TYPE pubsub");
        system.send("my-queue", &number(1)).await;
        wait_for_refusal(&system.redis, right);
        system.redis.command(&format!("ACL SETUSER drover {right}"));
        system.wait_until_ready(&system.base).await;
        system.redis.command("ACL LOG RESET");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_right_is_answered_with_instructions_and_logged_once() {
    let documented_rights = DocumentedRights::parse_document();
    let redis = RedisServer::start();
    documented_rights.create_user(&redis, &[PATTERN_RIGHTS_ITEM, NO_APPEND_ONLY_FILE_RIGHTS_ITEM]);
    let url = redis.url();
    let system = start(&documented_rights, redis, &url, "").await;
    let (worker, worker_url) = system.worker_and_url(&[]).await;
    let lines_with = |process: &Process, text: &str| process.log().iter().filter(|line| line.contains(text)).count();
    system.post("q", number(1)).await;

    system.redis.command("ACL SETUSER drover -hset");
    for _ in 0..3 {
        let expected =
            (503, "unavailable", "lacks a right: its operator must compare the user's rights with docs/PRODUCTION.md");
        system.refused(Method::POST, "/v1/queues/q/messages", Some(number(2)), expected).await;
    }
    assert_eq!(lines_with(&system.api, "requests are refused"), 1);
    system.redis.command("ACL SETUSER drover +hset");
    system.post("q", number(3)).await;

    // Without the right to `ZREM`, the worker can lease but not settle.
    system.redis.command("ACL SETUSER drover -zrem");
    system.post("my-queue", number(1)).await;
    let started_at = Instant::now();
    let failure_metric = "drover_redis_call_failures_total{script=\"settle\",reason=\"not_permitted\"}";
    while metric_in(
        &system.http.get(format!("{worker_url}/metrics")).send().await.unwrap().text().await.unwrap(),
        failure_metric,
    ) < 3
    {
        assert!(started_at.elapsed() < TIME_LIMIT, "the worker does not try to settle again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(lines_with(&worker, "can't settle, trying again"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_rights_are_enough_for_another_database_for_redis_without_append_only_file_and_for_the_audit() {
    let documented_rights = DocumentedRights::parse_document();
    let redis = RedisServer::start();
    assert_eq!(redis.command("CONFIG SET save \"3600 1\""), "+OK");
    let optional_items =
        [PATTERN_RIGHTS_ITEM, NO_APPEND_ONLY_FILE_RIGHTS_ITEM, DATABASE_RIGHTS_ITEM, AUDIT_RIGHTS_ITEM];
    documented_rights.create_user(&redis, &optional_items);
    let url = format!("{}/1", redis.url());
    let system = start(&documented_rights, redis, &url, "").await;
    let (_worker, worker_url) = system.worker_and_url(&[]).await;
    post_for_worker(&system).await;
    assert_ready_without_warnings(&system, &worker_url).await;
    // For an id that has no record, the audit searches all lists of the queue.
    system.redis.command("SELECT 1\r\nRPUSH drover:{my-queue}:waiting 21718923400017");
    let queues = Queues::new(Redis::new(&system.redis_url, TIME_LIMIT).unwrap(), DeclaredSettings::default());
    let audit = queues.queue(&"my-queue".parse().unwrap()).audit().await.unwrap();
    assert_eq!(audit.findings.len(), 1, "{audit:?}");
    assert_nothing_refused(&system.redis);
    assert_eq!(documented_rights.uncalled_commands_of(&optional_items[1..], &[&system.redis]), BTreeSet::new());
}

/// Returns the primary that has a slot, while the slots are as they were when the cluster began.
fn primary_of_slot(slot: u16, primaries: usize) -> usize {
    (0..primaries).rev().find(|n| n * 16_384 / primaries <= slot.into()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_rights_are_enough_in_a_cluster_while_a_slot_moves() {
    let documented_rights = DocumentedRights::parse_document();
    let mut cluster = RedisCluster::start(3, 0);
    for server in &cluster.servers {
        documented_rights.create_user(server, &[PATTERN_RIGHTS_ITEM, CLUSTER_RIGHTS_ITEM]);
    }
    let (slot, url) = (cluster.slot_of("drover:{user-moved}:meta"), cluster.url());
    let (old, new) = (primary_of_slot(slot, 3), (primary_of_slot(slot, 3) + 1) % 3);
    let system = start(&documented_rights, cluster.servers.remove(0), &url, "").await;
    let _worker = use_everything(&system).await;

    // The queue has no keys yet, so the old owner of its slot redirects all calls to the new owner.
    let servers: Vec<&RedisServer> = [&system.redis].into_iter().chain(&cluster.servers).collect();
    let id_of = |index: usize| servers[index].command("CLUSTER MYID").lines().nth(1).unwrap().to_owned();
    let (old_id, new_id) = (id_of(old), id_of(new));
    servers[new].command(&format!("CLUSTER SETSLOT {slot} IMPORTING {old_id}"));
    servers[old].command(&format!("CLUSTER SETSLOT {slot} MIGRATING {new_id}"));
    let move_slot = async {
        tokio::task::block_in_place(|| {
            eventually("a call is redirected", || called_commands(servers[new]).contains("+asking").then_some(()));
            for index in [new, old] {
                servers[index].command(&format!("CLUSTER SETSLOT {slot} NODE {new_id}"));
            }
        });
    };
    let (location, ()) = tokio::join!(system.post("user-moved", number(1)), move_slot);
    assert_eq!(system.finished(&location).await["state"], "completed");
    for server in &servers {
        assert_nothing_refused(server);
    }
    assert_eq!(documented_rights.uncalled_commands_of(&[CLUSTER_RIGHTS_ITEM], &servers), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_rights_are_enough_with_sentinels_and_each_right_is_needed() {
    let documented_rights = DocumentedRights::parse_document();
    let mut sentinel_group = RedisSentinels::start(0, 1);
    documented_rights.create_user(&sentinel_group.servers[0], &[PATTERN_RIGHTS_ITEM]);
    assert_eq!(sentinel_group.command(&documented_rights.sentinel_user), "+OK");
    let password = password_in(&documented_rights.sentinel_user);
    let config = format!("[redis]\nsentinel = {{ username = \"drover\", password = \"{password}\" }}\n");
    let (primary, url) = (sentinel_group.servers.remove(0), sentinel_group.url());
    let system = start(&documented_rights, primary, &url, &config).await;
    let _worker = use_everything(&system).await;
    assert_nothing_refused(&system.redis);
    assert!(!sentinel_group.command("ACL LOG").contains("object"));
    // Without the rights of subscriptions a process works, but learns of another primary later.
    for right in named_rights(&documented_rights.sentinel_user).filter(|right| right.starts_with("+sentinel|")) {
        sentinel_group.command(&format!("ACL SETUSER drover {}", right.replace('+', "-")));
        let mut redis_options = RedisOptions::new(documented_rights.with_user(&url), TIME_LIMIT);
        redis_options.sentinel_login = Some((Some("drover".into()), password.to_owned()));
        let Err(Error::Unavailable(text)) = redis_options.prepare().unwrap().ping().await else { panic!("{right}") };
        assert!(text.contains("lacks a right"), "{text}");
        sentinel_group.command(&format!("ACL SETUSER drover {right}"));
    }
}
