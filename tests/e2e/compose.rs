//! Tests of the files for Docker Compose: the script that creates the cluster of docker-compose.cluster.yml, and the settings
//! of the servers.

use std::process::Command;

use drover_tests::{RedisCluster, RedisServer, eventually};

use crate::markdown::{document, root};

/// Runs the script that creates a cluster of these servers.
fn create_cluster(servers: &[RedisServer]) {
    let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port()));
    let script_output =
        Command::new("bash").arg(root().join("scripts/create-cluster.sh")).args(addresses).output().unwrap();
    assert!(script_output.status.success(), "{}", String::from_utf8_lossy(&script_output.stderr));
}

/// Returns the role of each server, and the primary of each replica.
fn server_roles(servers: &[RedisServer]) -> Vec<String> {
    let own_node_line = |server: &RedisServer| {
        let cluster_nodes = server.command("CLUSTER NODES");
        let own_line = cluster_nodes.lines().find(|own_line| own_line.contains("myself")).unwrap().to_owned();
        let words: Vec<&str> = own_line.split_whitespace().collect();
        format!("{} {} {}", words[2].replace("myself,", ""), words[3], words[8..].join(" "))
    };
    servers.iter().map(own_node_line).collect()
}

#[test]
fn script_makes_one_cluster_of_the_servers_and_keeps_it_after_a_fail_over() {
    let cluster = RedisCluster::start_servers(6);
    create_cluster(&cluster.servers);
    cluster.wait_until_all_slots_are_served();
    let first_roles = server_roles(&cluster.servers);
    assert_eq!(first_roles[..3], ["master - 0-5460", "master - 5461-10921", "master - 10922-16383"]);
    let ids =
        cluster.servers[..3].iter().map(|server| server.command("CLUSTER MYID").lines().nth(1).unwrap().to_owned());
    for id in ids {
        assert_eq!(
            first_roles[3..].iter().filter(|role| role.contains(&id)).count(),
            1,
            "each primary has a replica: {first_roles:?}"
        );
    }
    assert_eq!(cluster.servers[3].command("CLUSTER FAILOVER"), "+OK");
    let new_roles = eventually("the replica has taken over", || {
        let roles = server_roles(&cluster.servers);
        let is_failover_over =
            roles[3].starts_with("master") && roles.iter().filter(|role| role.contains("slave")).count() == 3;
        is_failover_over.then_some(roles)
    });
    create_cluster(&cluster.servers);
    assert_eq!(server_roles(&cluster.servers), new_roles, "the cluster stays as it was");
}

#[test]
fn servers_of_each_compose_file_keep_messages_on_disk_and_evict_no_message() {
    let is_server = |line: &&str| line.trim() == "image: redis:7-bookworm";
    for (file, settings) in [
        ("docker-compose.yml", ["[redis-server, --appendonly, \"yes\"", "--maxmemory-policy, noeviction"]),
        ("docker-compose.cluster.yml", ["- --appendonly\n    - \"yes\"", "- --maxmemory-policy\n    - noeviction"]),
        ("docker-compose.sentinel.yml", ["'appendonly yes'", "'maxmemory-policy noeviction'"]),
    ] {
        let compose_file = document(file);
        assert!(compose_file.lines().any(|line| is_server(&line)), "{file}: all files have the same version of Redis");
        for setting in settings {
            assert!(compose_file.contains(setting), "{file}: {setting}");
        }
    }
}
