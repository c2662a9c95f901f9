//! Tests of the lists in docs/PROTOCOL.md that say which calls may be repeated: a proxy loses the answer to each call.

use std::{collections::BTreeSet, fmt::Debug, sync::Arc};

use drover_tests::{Proxy, RedisCluster, RedisServer, eventually};
use queue_core::{
    Action, ConsumerId, DefinedBy, Delivery, Error, LeaseRequest, Message, MessagePatch, MessageRef, Millis,
    NewMessage, Queue, Queues, Redis, Settlement, Signal, State,
    settings::{DeclaredSettings, RateLimit},
    wakeup::Subscriber,
};
use serde_json::{json, value::to_raw_value};

use crate::{TIME_LIMIT, completion, failure, message_with_delay, numbered_message, wait_millis};

/// The effect of repeating an operation whose answer was lost.
enum RepeatEffect {
    /// Neither the first call of the operation nor the repeated call changes anything, and both calls get the same
    /// answer.
    Reads,
    /// The repeated call leaves the same data as one call, and gets the same answer.
    Yes,
    /// The repeated call leaves the same data as one call, and gets this answer.
    Answers(&'static str),
    /// The repeated call changes the [count of affected messages](OperationCase::affected_count) from the first number
    /// to the second number.
    No(u64, u64),
    /// The repeated call has a new token, undoes the leases of the lost call, and gets the same answer.
    NewToken,
}
use RepeatEffect::{Answers, NewToken, No, Reads, Yes};

/// The calls that the lists in docs/PROTOCOL.md name, and the effect of a repetition. A name in `OPERATIONS` that begins with
/// `command-` stands for a Redis command that is called without a script; docs/PROTOCOL.md names all such commands `command`.
const OPERATIONS: [(&str, RepeatEffect); 34] = [
    ("declare", Yes),
    ("configure", Yes),
    ("delete", No(1, 0)),
    ("status", Reads),
    ("enqueue", No(2, 3)),
    ("await", Yes),
    ("cancel", No(1, 0)),
    ("erase", No(1, 0)),
    ("promote", No(2, 1)),
    ("patch", No(0, 1)),
    ("retry", No(2, 1)),
    ("signal", No(1, 0)),
    ("purge", No(1, 0)),
    ("lease", NewToken),
    ("settle", Yes),
    ("extend", Yes),
    ("progress", Yes),
    ("find_leases", Yes),
    ("undo_leases", Answers("0")),
    ("end_ownership", Yes),
    ("maintain", Yes),
    ("read", Reads),
    ("list", Reads),
    ("listen", Yes),
    ("audit", Reads),
    ("put_schedule", Yes),
    ("change_schedule", No(1, 0)),
    ("schedules", Reads),
    ("tick", Answers("0")),
    ("quota", No(1, 2)),
    ("command-ZRANGE", Reads),
    ("command-ZADD", Yes),
    ("command-ZREM", Yes),
    ("WAIT", No(2, 3)),
];

/// The time for which the operation `await` waits for the end of its message.
const AWAIT_TIME: Millis = Millis::new(1_013);

/// A Redis with a replica and behind a proxy, and this process's connections through the proxy.
struct Network<'r> {
    redis: &'r RedisServer,
    proxy: Proxy,
    queues: Queues,
}

impl Network<'_> {
    /// Returns the number of successful calls of a command that Redis has done so far.
    fn calls_done(&self, command: &str) -> u64 {
        let stats = self.redis.command("INFO commandstats");
        let command_stats = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:")));
        let stat_value = |name: &str| -> u64 {
            let call_count_text =
                command_stats.and_then(|stats| stats.split(',').find_map(|stat| stat.strip_prefix(name)));
            call_count_text.map_or(0, |digits| digits.parse().unwrap())
        };
        stat_value("calls=") - stat_value("failed_calls=")
    }

    /// Returns the stored values of a queue, and the entry of its name in the index. In the stored values, `#` replaces
    /// ids, instants and random values, because they differ between two queues.
    fn stored(&self, queue: &Queue) -> String {
        let keys = self.redis.command(&format!("KEYS drover:{{{}}}:*", queue.name()));
        let keys: BTreeSet<&str> = keys.lines().filter(|line| line.starts_with("drover:")).collect();
        let mut stored_text =
            vec![format!("index: {}", self.redis.command(&format!("ZSCORE drover:queues {}", queue.name())))];
        for key in keys {
            let command = match self.redis.command(&format!("TYPE {key}")).as_str() {
                "+hash" => format!("HGETALL {key}"),
                "+list" => format!("LRANGE {key} 0 -1"),
                "+set" => format!("SMEMBERS {key}"),
                "+zset" => format!("ZRANGE {key} 0 -1 WITHSCORES"),
                "+stream" => format!("XRANGE {key} - +"),
                _ => format!("GET {key}"),
            };
            let stored_value = without_random_words(&self.redis.command(&command));
            let mut lines: Vec<&str> = stored_value.lines().map(str::trim_end).collect();
            // A hash and a set have no order.
            lines.sort_unstable();
            stored_text.push(format!("{}: {lines:?}", key.rsplit(':').next().unwrap()));
        }
        stored_text.join("\n")
    }
}

fn without_random_words(text: &str) -> String {
    let is_word_char = |char: char| char.is_ascii_alphanumeric() || "-_".contains(char);
    let mut words: Vec<String> = text.split_inclusive(|char| !is_word_char(char)).map(ToOwned::to_owned).collect();
    for word in &mut words {
        let word_length = word.trim_end_matches(|char| !is_word_char(char)).len();
        if word_length >= 20 || word_length >= 13 && word.contains(|char: char| char.is_ascii_digit()) {
            word.replace_range(..word_length, "#");
        }
    }
    words.concat()
}

/// A queue with a failed, an active, a delayed, a held and a waiting message, for one operation.
struct OperationCase<'n> {
    network: &'n Network<'n>,
    operation: &'static str,
    queue: Arc<Queue>,
    request: LeaseRequest,
    failed: MessageRef,
    active: Delivery,
    delayed: MessageRef,
}

impl<'n> OperationCase<'n> {
    async fn prepare(network: &'n Network<'n>, operation: &'static str, run: &str) -> Self {
        let queue = network.queues.queue(&format!("{operation}-{run}").parse().unwrap());
        let request = LeaseRequest::new("consumer".parse::<ConsumerId>().unwrap(), 1);
        if operation == "end_ownership" {
            queue.configure(&json!({"exclusive": true})).await.unwrap();
        }
        queue.enqueue(vec![numbered_message(1)]).await.unwrap();
        let failed_delivery = queue.lease(&request).await.unwrap().deliveries.remove(0);
        settle_lease(&queue, failed_delivery.lease, Action::FailForGood(failure())).await;
        queue.enqueue(vec![numbered_message(2)]).await.unwrap();
        let active_delivery = queue.lease(&request).await.unwrap().deliveries.remove(0);
        let held_message = NewMessage { hold: Some("key".parse().unwrap()), ..numbered_message(4) };
        let enqueue_outcomes = queue
            .enqueue(vec![message_with_delay(3, 60_000), held_message, numbered_message_with_own_id(5)])
            .await
            .unwrap();
        match operation {
            "declare" => assert!(queue.delete().await.unwrap()),
            // An interrupted creation or deletion leaves a queue without a name, or a name without a queue.
            "command-ZADD" => {
                network.redis.command(&format!("ZREM drover:queues {}", queue.name()));
            }
            "command-ZREM" => {
                assert!(queue.delete().await.unwrap());
                network.redis.command(&format!("ZADD drover:queues 0 {}", queue.name()));
            }
            "find_leases" => {
                network.proxy.lose_answer_to("EVALSHA");
                assert!(queue.lease(&request).await.is_err());
            }
            "maintain" => {
                queue.enqueue(vec![message_with_delay(6, 1)]).await.unwrap();
                wait_millis(5).await;
            }
            "change_schedule" | "schedules" => put_schedule(&queue).await.unwrap(),
            "tick" => {
                put_schedule(&queue).await.unwrap();
                wait_millis(1_100).await;
            }
            _ => {}
        }
        Self {
            network,
            operation,
            queue,
            request,
            failed: failed_delivery.message.id,
            active: active_delivery,
            delayed: enqueue_outcomes[0].id().clone(),
        }
    }

    /// Calls the operation, and returns the answer without random values.
    async fn call(&self) -> Result<String, Error> {
        let Self { network, queue, request, active, .. } = self;
        let lease = &active.lease;
        Ok(match self.operation {
            "declare" => debug_text(queue.declare().await.map(drop)?),
            "configure" => debug_text(queue.configure(&json!({"max_attempts": 7})).await?),
            "delete" | "command-ZREM" => debug_text(queue.delete().await?),
            "status" => debug_text(queue.status().await?.unwrap().counts),
            "enqueue" | "WAIT" => debug_text(queue.enqueue(vec![numbered_message(7)]).await?.len()),
            "await" => {
                let subscriber = Subscriber::new(network.queues.redis().clone());
                debug_text(queue.read_when_finished(&active.message.id, AWAIT_TIME, &subscriber).await?.unwrap().state)
            }
            "cancel" => debug_text(queue.cancel(&own_id_ref()).await?),
            "erase" => debug_text(queue.erase(&own_id_ref()).await?),
            "promote" => debug_text(queue.promote(&self.delayed).await?),
            "patch" => debug_text(queue.patch(&own_id_ref(), &patch_with_name("patched")).await?.unwrap()),
            "retry" => debug_text(queue.retry(&self.failed).await?),
            "signal" => debug_text(queue.signal(&"key".parse().unwrap(), &Signal::default()).await?),
            "purge" => debug_text(queue.purge(State::Waiting).await?),
            "lease" => {
                let messages = queue.lease(request).await?.deliveries.into_iter().map(|delivery| delivery.message);
                debug_text(
                    messages.map(|message| (message.data, message.deliveries, message.lapses)).collect::<Vec<_>>(),
                )
            }
            "settle" => debug_text(queue.settle(&[Settlement { lease: lease.clone(), action: completion() }]).await?),
            "extend" => debug_text(queue.extend(std::slice::from_ref(lease), Some(Millis::from_secs(120))).await?),
            "progress" => debug_text(queue.report_progress(lease, &to_raw_value(&50).unwrap()).await?),
            "find_leases" => debug_text(queue.return_lost_leases().await?),
            "undo_leases" => debug_text(queue.undo_leases(std::slice::from_ref(lease)).await?),
            "end_ownership" => debug_text(queue.end_ownership(&request.consumer).await?),
            "maintain" => debug_text(queue.maintain().await.map(drop)?),
            "read" => debug_text(queue.read(&[own_id_ref()]).await?[0].as_ref().unwrap().state),
            "list" => debug_text(queue.list(State::Failed, 10, None).await?.messages.len()),
            "listen" => debug_text(queue.listen().await?),
            "audit" => debug_text(queue.audit().await?.messages),
            "put_schedule" => debug_text(put_schedule(queue).await?),
            "change_schedule" => debug_text(queue.pause_schedule(&SCHEDULE_NAME.parse().unwrap()).await?),
            "schedules" => debug_text(queue.schedule(&SCHEDULE_NAME.parse().unwrap()).await?.unwrap().runs),
            "tick" => debug_text(queue.tick_due().await?),
            "quota" => {
                let limit = RateLimit { max: 5.try_into().unwrap(), duration: QUOTA_DURATION.try_into().unwrap() };
                debug_text(network.queues.redis().use_quota(queue.name().as_str(), limit).await?.is_granted)
            }
            "command-ZRANGE" => debug_text(network.queues.names().await?.contains(queue.name())),
            "command-ZADD" => debug_text(network.queues.restore_all_names().await?),
            other => panic!("no call for {other}"),
        })
    }

    /// Returns a text of the last command that the call sends before its answer is lost, the name of that command, and how many
    /// such commands the call sends.
    fn lost_command(&self) -> (&str, &str, u64) {
        match self.operation {
            // The operation `declare` calls `declare.lua` twice. Only the second call may create the queue: it has the new
            // queue's epoch, whose length in bytes is 16.
            "declare" => ("$16\r\n", "evalsha", 2),
            // `await` and `patch` read the message with one call, and make a second call. The second call of `await`
            // sends `AWAIT_TIME`: 1013 ms.
            "await" => ("$4\r\n1013\r\n", "evalsha", 2),
            "patch" => ("patched", "evalsha", 2),
            // `put_schedule` and `tick` read schedules with one call, and change a schedule with a second call.
            "put_schedule" => ("\"every\":1000", "evalsha", 2),
            "tick" => (SCHEDULE_NAME, "evalsha", 2),
            "command-ZRANGE" => ("$6\r\nZRANGE\r\n", "zrange", 1),
            "command-ZADD" => ("$4\r\nZADD\r\n", "zadd", 1),
            "command-ZREM" => ("$4\r\nZREM\r\n", "zrem", 1),
            "WAIT" => ("$4\r\nWAIT\r\n", "wait", 1),
            _ => ("EVALSHA", "evalsha", 1),
        }
    }

    /// Does the changes that other clients make between the call and its repetition.
    async fn act_as_other_clients(&self) {
        match self.operation {
            "delete" | "purge" => drop(self.queue.enqueue(vec![numbered_message(8)]).await.unwrap()),
            "cancel" => drop(self.queue.retry(&own_id_ref()).await.unwrap()),
            "patch" => drop(self.queue.patch(&own_id_ref(), &patch_with_name("other")).await.unwrap().unwrap()),
            "erase" => drop(self.queue.enqueue(vec![numbered_message_with_own_id(8)]).await.unwrap()),
            "change_schedule" => drop(self.queue.resume_schedule(&SCHEDULE_NAME.parse().unwrap()).await.unwrap()),
            "signal" => {
                let held_message = NewMessage { hold: Some("key".parse().unwrap()), ..numbered_message(8) };
                self.queue.enqueue(vec![held_message]).await.unwrap();
            }
            "promote" => self.lease_and_settle_all(Action::FailAndRetryAfter(failure(), Millis::from_secs(60))).await,
            "retry" => self.lease_and_settle_all(Action::FailForGood(failure())).await,
            _ => {}
        }
    }

    async fn lease_and_settle_all(&self, action: Action) {
        let request = LeaseRequest { max: 10, ..self.request.clone() };
        for delivery in self.queue.lease(&request).await.unwrap().deliveries {
            settle_lease(&self.queue, delivery.lease, action.clone()).await;
        }
    }

    /// Returns a number that each call of the operation changes: the number of messages in the state that the operation
    /// changes, of patched messages, of schedules that are not paused, or of uses of the quota.
    async fn affected_count(&self) -> u64 {
        if self.operation == "quota" {
            let key = format!("drover:quota:{}:{}", self.queue.name(), QUOTA_DURATION.get());
            let stored_slices = self.network.redis.command(&format!("GET {key}"));
            // The reply of GET has the length of the quota's stored value, and then the slices of the value. In each slice
            // the number of uses follows the comma.
            let slice_counts = stored_slices.split_whitespace().filter_map(|slice| slice.split_once(','));
            return slice_counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum();
        }
        if self.operation == "change_schedule" {
            let schedule = self.queue.schedule(&SCHEDULE_NAME.parse().unwrap()).await.unwrap().unwrap();
            return u64::from(!schedule.paused);
        }
        if self.operation == "patch" {
            let waiting_messages = self.queue.list(State::Waiting, 10, None).await.unwrap().messages;
            let is_patched = |message: &&Message| message.name.as_ref().is_some_and(|name| name.as_str() == "patched");
            return waiting_messages.iter().filter(is_patched).count().try_into().unwrap();
        }
        let message_counts = self.queue.status().await.unwrap().map(|status| status.counts).unwrap_or_default();
        message_counts.of(match self.operation {
            "signal" => State::Held,
            "promote" => State::Delayed,
            "retry" => State::Failed,
            _ => State::Waiting,
        })
    }

    fn stored(&self) -> String {
        self.network.stored(&self.queue)
    }
}

const QUOTA_DURATION: Millis = Millis::from_secs(60);

const SCHEDULE_NAME: &str = "every-second-once";

/// Creates a schedule that posts one message.
async fn put_schedule(queue: &Queue) -> Result<(), Error> {
    let definition = json!({"every": "1s", "max_runs": 1, "message": {"data": 1}});
    let definition = serde_json::from_value(definition).unwrap();
    queue.put_schedule(&SCHEDULE_NAME.parse().unwrap(), definition, DefinedBy::Client).await.map(drop)
}

fn own_id_ref() -> MessageRef {
    MessageRef::Own("own".parse().unwrap())
}

fn patch_with_name(name: &str) -> MessagePatch {
    MessagePatch { name: Some(Some(name.parse().unwrap())), ..MessagePatch::default() }
}

fn numbered_message_with_own_id(data: u64) -> NewMessage {
    NewMessage { id: Some("own".parse().unwrap()), ..numbered_message(data) }
}

async fn settle_lease(queue: &Queue, lease: queue_core::LeaseToken, action: Action) {
    queue.settle(&[Settlement { lease, action }]).await.unwrap();
}

fn debug_text(answer: impl Debug) -> String {
    without_random_words(&format!("{answer:?}"))
}

/// Asserts for each operation that a call whose answer is lost fails, and that Redis executes this call once. Also
/// asserts that repeating the call has the effect that `OPERATIONS` names.
async fn assert_operations(network: &Network<'_>) {
    for (operation, repeat) in &OPERATIONS {
        // The call of the undisturbed case gets its answer. After this call Redis has cached the script, so the
        // disturbed call need not load the script.
        let undisturbed_case = OperationCase::prepare(network, operation, "once").await;
        let stored_before = undisturbed_case.stored();
        let undisturbed_answer = undisturbed_case.call().await.unwrap();
        undisturbed_case.act_as_other_clients().await;

        let disturbed_case = OperationCase::prepare(network, operation, "lost").await;
        let (request, command, count) = disturbed_case.lost_command();
        let calls_before = network.calls_done(command);
        network.proxy.lose_answer_to(request);
        let call_failed = disturbed_case.call().await;
        assert!(matches!(call_failed, Err(Error::Unavailable(_))), "{operation}: {call_failed:?}");
        assert_eq!(network.calls_done(command) - calls_before, count, "{operation} is done once");
        disturbed_case.act_as_other_clients().await;
        if *operation != "find_leases" {
            // After the script `find_leases`, the script `undo_leases` undoes the leases that were found. If the answer to
            // `find_leases` is lost, `undo_leases` is not called, so the stored values differ.
            assert_eq!(disturbed_case.stored(), undisturbed_case.stored(), "{operation} without an answer");
        }

        let effects = (disturbed_case.affected_count().await, undisturbed_case.affected_count().await);
        let repeated_answer = disturbed_case.call().await.unwrap();
        let (changes, repeated_once) =
            (undisturbed_case.stored() != stored_before, disturbed_case.stored() == undisturbed_case.stored());
        match repeat {
            Reads => {
                assert_eq!((repeated_answer, changes, repeated_once), (undisturbed_answer, false, true), "{operation}");
            }
            Yes => {
                assert_eq!((repeated_answer, changes, repeated_once), (undisturbed_answer, true, true), "{operation}");
            }
            Answers(other) => {
                assert_eq!((&*repeated_answer, changes, repeated_once), (*other, true, true), "{operation}");
            }
            NewToken => {
                assert_eq!(
                    (repeated_answer, disturbed_case.affected_count().await),
                    (undisturbed_answer, effects.1),
                    "{operation}"
                );
            }
            No(first, second) => {
                assert_eq!(
                    (effects, disturbed_case.affected_count().await),
                    ((*first, *first), *second),
                    "{operation}"
                );
            }
        }
        for case in [undisturbed_case, disturbed_case] {
            assert_eq!(case.queue.audit().await.unwrap().findings, [], "{operation}");
        }
    }
}

fn connect_queues(url: &str, replicas: u32) -> Queues {
    Queues::new(Redis::new(url, TIME_LIMIT).unwrap().require_replicas(replicas), DeclaredSettings::default())
}

/// Puts a proxy before a server of a cluster, and makes the cluster name the proxy's address instead of the server's.
fn announce_proxy(server: &RedisServer) -> Proxy {
    let proxy = Proxy::start(server.port());
    assert_eq!(server.command("CONFIG SET cluster-announce-ip 127.0.0.1"), "+OK");
    assert_eq!(server.command(&format!("CONFIG SET cluster-announce-port {}", proxy.port())), "+OK");
    proxy
}

fn cluster_url(proxy: &Proxy) -> String {
    proxy.url().replace("redis:", "redis+cluster:")
}

#[tokio::test]
async fn an_operation_whose_answer_is_lost_is_done_once_and_repeats_as_the_protocol_says() {
    let redis = RedisServer::start();
    let _replica = RedisServer::start_replica_of(&redis);
    let proxy = Proxy::start(redis.port());
    let queues = connect_queues(&proxy.url(), 1);
    assert_operations(&Network { redis: &redis, proxy, queues }).await;
}

#[tokio::test]
async fn an_operation_whose_answer_is_lost_is_done_once_in_a_cluster() {
    let cluster = RedisCluster::start(1, 1);
    let proxy = announce_proxy(&cluster.servers[0]);
    let queues = connect_queues(&cluster_url(&proxy), 1);
    assert_operations(&Network { redis: &cluster.servers[0], proxy, queues }).await;
}

#[tokio::test]
async fn a_redirected_call_whose_answer_is_lost_is_done_once() {
    let cluster = RedisCluster::start(2, 0);
    let [from, to] = [&cluster.servers[0], &cluster.servers[1]];
    let proxies = [announce_proxy(from), announce_proxy(to)];
    eventually("the servers name the proxies", || {
        let knows_both_servers = |server: &RedisServer| {
            let nodes = server.command("CLUSTER NODES");
            proxies.iter().all(|proxy| nodes.contains(&format!("127.0.0.1:{}@", proxy.port())))
        };
        cluster.servers.iter().all(knows_both_servers).then_some(())
    });
    let ids = [from, to].map(|server| server.command("CLUSTER MYID").lines().nth(1).unwrap().to_owned());
    let queues = connect_queues(&cluster_url(&proxies[0]), 0);
    queues.redis().ping().await.unwrap();
    let slot_of = |name: &String| cluster.slot_of(&format!("drover:quota:{name}:60000"));
    // The first server has the slots below 8,192.
    let names: Vec<String> = (0..100).map(|n| format!("key{n}")).filter(|name| slot_of(name) < 8_192).take(2).collect();
    let [moving, moved] = [slot_of(&names[0]), slot_of(&names[1])];
    assert_eq!(from.command(&format!("CLUSTER SETSLOT {moving} MIGRATING {}", ids[1])), "+OK");
    assert_eq!(to.command(&format!("CLUSTER SETSLOT {moving} IMPORTING {}", ids[0])), "+OK");
    for server in [to, from] {
        assert_eq!(server.command(&format!("CLUSTER SETSLOT {moved} NODE {}", ids[1])), "+OK");
    }
    for name in &names {
        to.command("SCRIPT FLUSH");
        let limit = RateLimit { max: 5.try_into().unwrap(), duration: QUOTA_DURATION.try_into().unwrap() };
        // The second server does not know the script, so the call has three steps: redirection, NOSCRIPT, EVAL.
        proxies[1].lose_answer_to("$4\r\nEVAL\r\n");
        let lost_result = queues.redis().use_quota(name, limit).await;
        assert!(matches!(lost_result, Err(Error::Unavailable(_))), "{lost_result:?}");
        assert_eq!(queues.redis().use_quota(name, limit).await.unwrap().remaining, 3, "one use was counted before");
    }
}

#[tokio::test]
async fn progress_that_is_repeated_after_a_lost_answer_is_a_second_event() {
    let redis = RedisServer::start();
    let proxy = Proxy::start(redis.port());
    let network = Network { redis: &redis, queues: connect_queues(&proxy.url(), 0), proxy };
    let case = OperationCase::prepare(&network, "progress", "heard").await;
    case.queue.listen().await.unwrap().unwrap();
    let events = || redis.command("XRANGE drover:{progress-heard}:events - +").matches("progress").count();
    // The first call makes Redis cache the script.
    case.call().await.unwrap();
    network.proxy.lose_answer_to("EVALSHA");
    assert!(matches!(case.call().await, Err(Error::Unavailable(_))));
    assert_eq!(events(), 2);
    case.call().await.unwrap();
    assert_eq!(events(), 3);
}

/// Returns the calls that a list of docs/PROTOCOL.md names. The calls are listed in a table, in the row that begins
/// with `word`.
fn documented_calls(word: &str) -> BTreeSet<&'static str> {
    let protocol_page = include_str!("../../../../docs/PROTOCOL.md");
    let table_row = protocol_page.lines().find_map(|line| line.strip_prefix(&format!("{word} | ")));
    table_row.expect("the table has this row").split('`').skip(1).step_by(2).collect()
}

#[test]
fn protocol_page_lists_each_operation_as_these_tests_prove() {
    let proven_operations = |word: &str| {
        let word_of_effect = |repeat: &RepeatEffect| match repeat {
            Reads | Yes | Answers(_) => "yes",
            No(..) => "no",
            NewToken => "new token",
        };
        OPERATIONS
            .iter()
            .filter(|(_, repeat)| word_of_effect(repeat) == word)
            .map(|(operation, _)| if operation.starts_with("command-") { "command" } else { *operation })
            .collect::<BTreeSet<_>>()
    };
    for word in ["yes", "no", "new token"] {
        assert_eq!(documented_calls(word), proven_operations(word), "{word}");
    }
}
