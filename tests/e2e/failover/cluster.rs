//! A cluster of three primaries, each with a replica, and the changes of the cluster: slots that move, and servers that join
//! and leave.

use std::time::{Duration, Instant};

use drover_tests::{RedisCluster, RedisServer};

use super::scene::{CutOff, Servers, wait_for_servers};

const PRIMARY_COUNT: usize = 3;
const SLOT_COUNT: usize = 16_384;
/// The time after which a planned fail-over has succeeded or was given up by the servers.
const PLANNED_FAIL_OVER_TIME_LIMIT: Duration = Duration::from_secs(6);
/// The number of slots at the start of a range that move to another server.
const MOVED_SLOTS: usize = 200;

/// A change of the servers and slots of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change {
    /// Some hash slots of one primary move to another primary.
    Move,
    /// A primary and a replica join, and get slots from all other primaries.
    Join,
}

impl Servers for RedisCluster {
    type Change = Change;
    const TOPOLOGY_NAME: &'static str = "cluster";
    const REPLICAS_PER_PRIMARY: usize = 1;
    /// The other servers do not replace a primary whose proxy is cut off, because the servers watch each other without the
    /// proxies.
    const CUT_OFF: CutOff = CutOff::Kept;

    fn start_direct() -> Self {
        Self::start(PRIMARY_COUNT, Self::REPLICAS_PER_PRIMARY)
    }

    fn start_proxied() -> Self {
        Self::start_behind_proxies(PRIMARY_COUNT, Self::REPLICAS_PER_PRIMARY)
    }

    fn url(&self) -> String {
        self.url()
    }

    /// Returns the names of two queues for each range of slots: the slot of the first queue is among the slots that move.
    fn queues(&self) -> Vec<String> {
        let (mut queues, mut names) = (Vec::new(), 0..);
        for (range, after) in first_slots_of_ranges().zip(first_slots_of_ranges().skip(1).chain([SLOT_COUNT])) {
            for slots in [range..range + MOVED_SLOTS, range + MOVED_SLOTS..after] {
                let has_slot = |name: &String| slots.contains(&usize::from(self.slot_of(&format!("{{{name}}}"))));
                queues.push(names.by_ref().map(|n| format!("q{n}")).find(has_slot).unwrap());
            }
        }
        queues
    }

    fn all_servers(&self) -> &[RedisServer] {
        &self.servers
    }

    fn server(&mut self, index: usize) -> &mut RedisServer {
        &mut self.servers[index]
    }

    /// In a planned fail-over of a cluster, the former primary refuses writes until its successor has all of its data, so no
    /// delivery is repeated.
    fn fail_over(&self, primary: usize) -> Option<u64> {
        let port = format!("master_port:{}", self.servers[primary].announced_port());
        let is_replica = |server: &&RedisServer| server.command("INFO replication").lines().any(|line| line == port);
        let replica = self.servers.iter().find(is_replica).expect("the primary has a replica");
        let mut ordered_at: Option<Instant> = None;
        wait_for_servers("the replica replaces its primary", || {
            // The other servers refuse a fail-over if they voted about this primary moments ago.
            if ordered_at.is_none_or(|at| at.elapsed() > PLANNED_FAIL_OVER_TIME_LIMIT) {
                assert_eq!(replica.command("CLUSTER FAILOVER"), "+OK");
                ordered_at = Some(Instant::now());
            }
            replica.command("ROLE").contains("master").then_some(())
        });
        None
    }

    fn restart_others(&mut self) {}

    fn make_change(&mut self, change: Change) {
        match change {
            Change::Move => move_first_slots(self, owner_of_range(self, 0), owner_of_range(self, SLOT_COUNT - 1)),
            Change::Join => join_servers(self),
        }
    }

    fn undo_change(&mut self, change: Change) {
        match change {
            Change::Move => move_first_slots(self, owner_of_range(self, SLOT_COUNT - 1), owner_of_range(self, 0)),
            Change::Join => remove_joined_servers(self),
        }
    }

    fn wait_until_settled(&self) {
        self.wait_until_all_slots_are_served();
    }
}

/// Returns the first slot of each range of slots: each primary has one range.
fn first_slots_of_ranges() -> impl Iterator<Item = usize> {
    (0..PRIMARY_COUNT).map(|primary| primary * SLOT_COUNT / PRIMARY_COUNT)
}

/// The range of slots that begins with `slot` has first slots that the test moves. Returns the server that has the other slots of the
/// range.
fn owner_of_range(cluster: &RedisCluster, slot: usize) -> usize {
    let first_unmoved_slot = u16::try_from((slot + MOVED_SLOTS).min(SLOT_COUNT - 1)).unwrap();
    wait_for_servers("the slot has a server", || cluster.owner_of(first_unmoved_slot, 0))
}

/// Moves the first slots of one server to another server.
fn move_first_slots(cluster: &RedisCluster, from: usize, to: usize) {
    let id = |index: usize| RedisCluster::id_of(&cluster.servers[index]);
    cluster.move_slots(&id(from), &id(to), MOVED_SLOTS);
}

fn join_servers(cluster: &mut RedisCluster) {
    let (primary, replica) = (cluster.servers.len(), cluster.servers.len() + 1);
    for _ in [primary, replica] {
        cluster.add_server();
    }
    for server in &cluster.servers[primary..] {
        cluster.meet(server);
    }
    cluster.wait_until_met();
    cluster.replicate(&cluster.servers[replica], &cluster.servers[primary]);
    cluster.servers[replica].wait_until_replica_has_copy();
    cluster.wait_until_all_slots_are_served();
    for range in first_slots_of_ranges() {
        move_first_slots(cluster, owner_of_range(cluster, range), primary);
    }
}

/// Moves the slots back from the primary that the test has added, and removes this primary and its replica from the cluster.
fn remove_joined_servers(cluster: &mut RedisCluster) {
    let primary = cluster.servers.len() - 2;
    for range in first_slots_of_ranges() {
        move_first_slots(cluster, primary, owner_of_range(cluster, range));
    }
    cluster.remove_servers(primary);
}
