//! Two servers of the example `notifications` and the API are killed in random order, while users come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use reqwest::Client;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::notifications::{Server, User, notification};
use crate::{
    System,
    markdown::document,
    seed::{Seed, from_env},
};

const USERS: usize = 12;
/// The time limit for the delivery of all remaining notifications after the last kill.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// Posts notifications to a user until `is_over`. The function posts each notification again until the notification is stored. Returns the
/// number of notifications.
async fn post_until(is_over: Arc<AtomicBool>, http: Client, base: String, user: String, mut random: StdRng) -> u64 {
    let url = format!("{base}/v1/queues/notifications/messages");
    let mut posted = 0;
    while !is_over.load(Ordering::Relaxed) {
        let mut message = notification(&user, &json!(posted));
        message["id"] = json!(format!("{user}-{posted}"));
        // A post with the same id is repeated until the answer is 2xx.
        let request = http.post(&url).json(&message).timeout(Duration::from_secs(5));
        if request.send().await.is_ok_and(|answer| answer.status().is_success()) {
            posted += 1;
        }
        sleep(Duration::from_millis(random.random_range(0..300))).await;
    }
    posted
}

/// The notifications that a user has received.
#[derive(Default)]
struct Received {
    /// The number of different notifications. The data of the notifications are numbers from 0, which arrived in order.
    count: u64,
    repeated: u64,
    /// Whether a request has acknowledged the last notification.
    is_acknowledged: bool,
}

impl Received {
    /// Records a received notification. Only the notification that the user received last may arrive again.
    fn record_notification(&mut self, user: &str, data: u64) {
        if data + 1 == self.count {
            self.repeated += 1;
        } else {
            assert_eq!(data, self.count, "{user}: a notification is lost or out of order");
            assert!(
                self.count == 0 || self.is_acknowledged,
                "{user}: {data} came before its predecessor was acknowledged"
            );
            self.count += 1;
        }
        self.is_acknowledged = false;
    }

    /// Sends the next request of a user, for at most `patience`.
    async fn request(&mut self, user: &mut User, patience: Duration) {
        self.is_acknowledged |= user.seen.is_some();
        match timeout(patience, user.next()).await {
            Ok(Ok(Some(notification))) => self.record_notification(&user.name, notification["data"].as_u64().unwrap()),
            Ok(Err(_)) => sleep(Duration::from_millis(50)).await,
            // When the user's program has given up a request, the program does not know whether the acknowledgement in the request has
            // arrived.
            Ok(Ok(None)) | Err(_) => {}
        }
    }
}

/// Logs a user in at a random server, fetches notifications, and lets the user leave in a random way, again and again until `is_over`.
async fn come_and_go(
    is_over: Arc<AtomicBool>,
    mut user: User,
    servers: Vec<String>,
    mut random: StdRng,
) -> (User, Received) {
    let mut received = Received::default();
    while !is_over.load(Ordering::Relaxed) {
        servers.choose(&mut random).unwrap().clone_into(&mut user.server);
        for _ in 0..random.random_range(1..20) {
            received.request(&mut user, Duration::from_millis(random.random_range(5..1_000))).await;
        }
        match random.random_range(0..3) {
            // The user's program vanishes, and forgets which notification it has not acknowledged.
            0 => user.seen = None,
            1 => {
                user.seen = None;
                let _ = user.log_out().await;
            }
            _ => {
                received.is_acknowledged |= user.seen.is_some();
                let _ = user.log_out().await;
            }
        }
        sleep(Duration::from_millis(random.random_range(0..1_500))).await;
    }
    (user, received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_notification_arrives_in_order_while_users_come_and_go_and_servers_and_the_api_are_killed() {
    let (_seed, mut random) = Seed::choose();
    let duration = Duration::from_secs(from_env("DROVER_FAULTS_SECS").unwrap_or(15));
    let mut system = System::start(&document("examples/notifications/drover.toml")).await;
    let mut servers = [Server::start(&system, 2), Server::start(&system, 2)];
    let urls: Vec<String> = servers.iter().map(Server::url).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let (mut producers, mut users) = (JoinSet::new(), JoinSet::new());
    for n in 0..USERS {
        let name = format!("user-{n:02}");
        let user = User::new(&system, &name, urls[0].clone());
        let mut fork = || StdRng::seed_from_u64(random.random());
        let (seed_of_post, seed_of_user) = (fork(), fork());
        let base = system.base.clone();
        producers.spawn({
            let (is_over, http) = (Arc::clone(&is_over), system.http.clone());
            async move { (name.clone(), post_until(is_over, http, base, name, seed_of_post).await) }
        });
        users.spawn(come_and_go(Arc::clone(&is_over), user, urls.clone(), seed_of_user));
    }

    let start = Instant::now();
    let mut kills = 0;
    while start.elapsed() < duration || kills < 6 {
        sleep(Duration::from_millis(random.random_range(100..1_200))).await;
        let down_time = Duration::from_millis(random.random_range(0..400));
        match random.random_range(0..3) {
            2 => {
                system.api.kill();
                sleep(down_time).await;
                system.relaunch_api();
            }
            server => {
                servers[server].kill();
                sleep(down_time).await;
                servers[server].restart();
            }
        }
        kills += 1;
    }
    system.wait_until_ready(&system.base).await;
    is_over.store(true, Ordering::Relaxed);
    let mut posted = producers.join_all().await;
    posted.sort();
    let mut users = users.join_all().await;
    users.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));

    // All users log in now, and get the remaining notifications.
    let drained_users = users.iter_mut().zip(&posted).map(async |((user, received), (name, posted))| {
        assert_eq!(user.name, *name);
        let start = Instant::now();
        while received.count < *posted {
            if start.elapsed() > DRAINED_WITHIN {
                let next = system.get(&format!("/v1/queues/notifications/messages/{name}-{}", received.count)).await;
                panic!("{name} received {} of {posted} notifications; the next notification is {next}", received.count);
            }
            received.request(user, Duration::from_secs(30)).await;
        }
        user.log_out().await.unwrap();
    });
    join_all(drained_users).await;
    let (sum, repeated) = (
        posted.iter().map(|(_, posted)| posted).sum::<u64>(),
        users.iter().map(|(_, received)| received.repeated).sum::<u64>(),
    );
    assert!(sum > 100 && repeated > 0, "{sum} notifications, {repeated} repeated");
    // A notification whose acknowledgement came too late is delivered again.
    let start = Instant::now();
    loop {
        let queue = system.get("/v1/queues/notifications").await;
        let (counts, totals) = (&queue["counts"], &queue["totals"]);
        if totals["completed"] == sum {
            assert_eq!((&totals["enqueued"], &totals["failed"]), (&json!(sum), &json!(0)));
            break;
        }
        assert!(start.elapsed() < DRAINED_WITHIN, "all are completed: {counts}");
        for (user, received) in &mut users {
            received.request(user, Duration::from_millis(100)).await;
        }
    }
    system.assert_clean().await;
}
