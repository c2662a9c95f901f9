//! A Redis Cluster for one test: primaries with their replicas.

use std::{collections::BTreeSet, process::Command};

use crate::{
    CertificateAuthority, RedisServer, ReservedPort, eventually,
    redis_server::{Access, ServerTls},
};

/// A Redis Cluster for one test. A replica replaces a primary that does not answer for a second.
#[derive(Debug)]
pub struct RedisCluster {
    /// All servers of the cluster. The servers at the beginning of the list are primaries at the start, each with an equal part of the
    /// slots; their replicas follow.
    pub servers: Vec<RedisServer>,
    bus_ports: Vec<ReservedPort>,
    access: Access,
}

const SLOT_COUNT: usize = 16_384;

impl RedisCluster {
    /// Starts servers that do not know each other, and have no slots.
    pub fn start_servers(count: usize) -> Self {
        Self::start_servers_with(count, Access::Direct)
    }

    fn start_servers_with(count: usize, access: Access) -> Self {
        let mut cluster = Self { servers: Vec::new(), bus_ports: Vec::new(), access };
        for _ in 0..count {
            cluster.add_server();
        }
        cluster
    }

    /// Starts a cluster, and waits until it is complete. Each primary has the same number of replicas.
    pub fn start(primaries: usize, replicas_per_primary: usize) -> Self {
        Self::start_with(primaries, replicas_per_primary, Access::Direct)
    }

    /// Starts a cluster like [`start`](Self::start), with a proxy in front of each server. Clients and replicas connect to the
    /// proxies; the servers watch each other over direct connections.
    pub fn start_behind_proxies(primaries: usize, replicas_per_primary: usize) -> Self {
        Self::start_with(primaries, replicas_per_primary, Access::Proxied)
    }

    /// Starts a cluster like [`start`](Self::start), with TLS between all servers, and for clients at
    /// [`tls_url`](Self::tls_url). The servers show certificates of this CA for `localhost`, and tell clients only this host
    /// name.
    pub fn start_with_tls(primaries: usize, replicas_per_primary: usize, ca: &CertificateAuthority) -> Self {
        Self::start_with(primaries, replicas_per_primary, Access::Tls(ServerTls::of_localhost(ca)))
    }

    fn start_with(primaries: usize, replicas_per_primary: usize, access: Access) -> Self {
        let server_count = primaries * (1 + replicas_per_primary);
        let cluster = Self::start_servers_with(server_count, access);
        for (n, primary) in cluster.servers[..primaries].iter().enumerate() {
            let (first, after) = (n * SLOT_COUNT / primaries, (n + 1) * SLOT_COUNT / primaries);
            assert_eq!(primary.command(&format!("CLUSTER ADDSLOTSRANGE {first} {}", after - 1)), "+OK");
            // Each primary gets its own configuration epoch, because the cluster itself would take a while to make equal epochs
            // different.
            assert_eq!(primary.command(&format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)), "+OK");
        }
        for server in &cluster.servers[1..] {
            cluster.meet(server);
        }
        cluster.wait_until_met();
        for (n, replica) in cluster.servers[primaries..].iter().enumerate() {
            cluster.replicate(replica, &cluster.servers[n % primaries]);
        }
        cluster.wait_until_all_slots_are_served();
        for replica in &cluster.servers[primaries..] {
            replica.wait_until_replica_has_copy();
        }
        cluster
    }

    /// Makes a server without slots a replica of a primary.
    pub fn replicate(&self, replica: &RedisServer, primary: &RedisServer) {
        let id = Self::id_of(primary);
        eventually("the replica knows its primary", || {
            replica.command(&format!("CLUSTER REPLICATE {id}")).contains("+OK").then_some(())
        });
    }

    /// Returns the id by which the cluster knows a server.
    pub fn id_of(server: &RedisServer) -> String {
        server.command("CLUSTER MYID").lines().nth(1).unwrap().to_owned()
    }

    /// Adds a server without slots. The server joins the cluster with [`meet`](Self::meet).
    pub fn add_server(&mut self) -> &RedisServer {
        let bus_port = ReservedPort::reserve();
        let bus = bus_port.number().to_string();
        let mut server_options = vec![
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus,
            "--cluster-node-timeout",
            "1000",
            "--cluster-require-full-coverage",
            "no",
            "--cluster-allow-replica-migration",
            "no",
        ];
        if matches!(self.access, Access::Tls(_)) {
            server_options.extend(["--tls-cluster", "yes", "--tls-replication", "yes"]);
            server_options.extend(["--cluster-announce-hostname", "localhost"]);
        }
        self.servers.push(RedisServer::start_member(&server_options, &self.access, "cluster-announce-port"));
        self.bus_ports.push(bus_port);
        &self.servers[self.servers.len() - 1]
    }

    /// Introduces a server to the first server of the cluster.
    pub fn meet(&self, server: &RedisServer) {
        let first_server = &self.servers[0];
        let bus = self.bus_ports[0].number();
        assert_eq!(server.command(&format!("CLUSTER MEET 127.0.0.1 {} {bus}", first_server.announced_port())), "+OK");
    }

    /// Removes the server at the index `first` and all servers after it, which have no slots.
    pub fn remove_servers(&mut self, first: usize) {
        // A primary is forgotten after its replicas, because a replica refuses to forget its primary.
        for removed in self.servers.split_off(first).into_iter().rev() {
            let id = Self::id_of(&removed);
            for server in &self.servers {
                assert_eq!(server.command(&format!("CLUSTER FORGET {id}")), "+OK");
            }
        }
        self.bus_ports.truncate(first);
        self.wait_until_met();
        self.wait_until_all_slots_are_served();
    }

    /// Waits until all servers know each other.
    pub fn wait_until_met(&self) {
        self.wait_until("all servers know each other", |server| {
            let nodes = server.command("CLUSTER NODES");
            let is_connected = |line: &&str| line.contains(" connected") && !line.contains("handshake");
            nodes.lines().filter(is_connected).count() == self.servers.len()
        });
    }

    /// Moves `slots` slots to the server with the id `to`, and waits until all servers know the new owner. `from` is the id of
    /// the server that has the slots, or `all` for an equal part of each server.
    pub fn move_slots(&self, from: &str, to: &str, slots: usize) {
        let first_address = format!("127.0.0.1:{}", self.servers[0].announced_port());
        let mut reshard = Command::new("redis-cli");
        if let Access::Tls(tls) = &self.access {
            reshard.arg("--tls").arg("--cacert").arg(&tls.ca);
        }
        let reshard = reshard
            .args(["--cluster", "reshard", &first_address, "--cluster-from", from, "--cluster-to", to])
            .args(["--cluster-slots", &slots.to_string(), "--cluster-yes"])
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&reshard.stdout);
        let last_lines = output.lines().skip(output.lines().count().saturating_sub(5)).collect::<Vec<_>>();
        assert!(reshard.status.success(), "{last_lines:?}");
        self.wait_until_all_slots_are_served();
    }

    /// Returns the URL that names the first three servers.
    pub fn url(&self) -> String {
        let servers: Vec<String> =
            self.servers.iter().take(3).map(|server| format!("127.0.0.1:{}", server.announced_port())).collect();
        format!("redis+cluster://{}", servers.join(","))
    }

    /// Returns the URL that names the first three servers by their ports for TLS.
    pub fn tls_url(&self) -> String {
        self.url().replace("redis+", "rediss+").replace("127.0.0.1", "localhost")
    }

    /// Waits until all servers report that all slots are served, and report the same owners of the slots.
    pub fn wait_until_all_slots_are_served(&self) {
        self.wait_until("the cluster is complete", |server| {
            let cluster_info = server.command("CLUSTER INFO");
            cluster_info.contains("cluster_state:ok")
                && cluster_info.contains(&format!("cluster_slots_ok:{SLOT_COUNT}"))
        });
        self.wait_until("all servers agree", |server| Self::slot_owners(server) == Self::slot_owners(&self.servers[0]));
    }

    /// Returns the ids of the primaries with their slots, as a server sees them.
    fn slot_owners(server: &RedisServer) -> BTreeSet<Vec<String>> {
        let owner = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ranges = words.get(8..).filter(|ranges| !ranges.is_empty())?;
            Some(words[..1].iter().chain(ranges).map(ToString::to_string).collect())
        };
        server.command("CLUSTER NODES").lines().filter_map(owner).collect()
    }

    fn wait_until(&self, what: &str, is_reached: impl Fn(&RedisServer) -> bool) {
        eventually(what, || self.servers.iter().all(&is_reached).then_some(()));
    }

    /// Returns the slot of a key.
    pub fn slot_of(&self, key: &str) -> u16 {
        let answer = self.servers[0].command(&format!("CLUSTER KEYSLOT {key}"));
        answer.trim_start_matches(':').parse().unwrap()
    }

    /// Returns the index of the primary that has a slot, as the server at index `asked` sees it; `None` while no server has the
    /// slot.
    pub fn owner_of(&self, slot: u16, asked: usize) -> Option<usize> {
        let nodes = self.servers[asked].try_command("CLUSTER NODES")?;
        let has_slot = |range: &str| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse().is_ok_and(|first: u16| first <= slot) && last.parse().is_ok_and(|last: u16| slot <= last)
        };
        let line = nodes.lines().find(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_primary = words.get(2).is_some_and(|flags| flags.contains("master") && !flags.contains("fail"));
            is_primary && words.iter().skip(8).any(|range| has_slot(range))
        })?;
        let port = line.split([':', '@']).nth(1)?;
        // `CLUSTER NODES` names a server's port without TLS if the asking client does not use TLS, as here.
        let has_port =
            |server: &RedisServer| [server.port(), server.announced_port()].iter().any(|own| own.to_string() == port);
        self.servers.iter().position(has_port)
    }
}
