//! Checks whether the version, role or configuration of the Redis server endangers messages.

use std::collections::HashMap;

use deadpool_redis::redis::{self, RedisError, RedisResult, aio::MultiplexedConnection};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::{
    error::{Error, Result},
    redis::{client::Redis, endpoint::Endpoint, node::Node},
};

/// The oldest versions of Redis and Valkey that have all commands that the scripts of Drover use.
const OLDEST_REDIS: (u32, u32) = (7, 0);
const OLDEST_VALKEY: (u32, u32) = (7, 2);

/// A danger to the messages in a Redis because of its version or configuration. The text of a danger says what may happen and what
/// an operator should do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Danger {
    /// The server is older than Redis 7.0 or Valkey 7.2: the scripts do not work.
    #[error(
        "{found} is too old: Drover needs Redis {}.{} or newer, or Valkey {}.{} or newer; upgrade the server",
        OLDEST_REDIS.0, OLDEST_REDIS.1, OLDEST_VALKEY.0, OLDEST_VALKEY.1
    )]
    TooOld {
        /// The server's product and version, such as "Redis 6.2.14".
        found: String,
    },
    /// The server is a replica: it refuses writes, or loses them at its next synchronization with its primary.
    #[error(
        "the server is a replica, where no message can be stored for good; point redis.url at the primary, or promote this \
         server"
    )]
    Replica,
    /// When the server's memory is full, it deletes keys instead of refusing new messages.
    #[error(
        "maxmemory-policy is {policy}: when its memory is full, Redis may delete messages to make room; set maxmemory-policy \
         to noeviction, so that Redis refuses new messages instead"
    )]
    Evicts {
        /// The server's `maxmemory-policy`.
        policy: String,
    },
    /// The server keeps neither an append-only file nor snapshots: a restart loses every message.
    #[error(
        "Redis keeps nothing on disk (appendonly is no, and there are no save points): when it restarts, every message is \
         lost; set appendonly to yes"
    )]
    NotPersistent,
    /// The server keeps no append-only file, and does not answer whether it takes snapshots.
    #[error(
        "appendonly is no, and whether Redis takes snapshots is unknown, for it does not answer CONFIG GET save: without \
         snapshots, every message is lost when it restarts; set appendonly to yes, or permit CONFIG GET (+config|get)"
    )]
    PersistenceUnknown,
    /// The server does not let this user run INFO, so its version and configuration are unknown.
    #[error(
        "Redis does not answer INFO: whether its version, eviction and persistence are safe for messages is unknown; permit \
         INFO (+info)"
    )]
    Unexamined,
}

impl Danger {
    /// Whether no work should be sent to the server until the danger is removed, as for a replica. In spite of a danger that does
    /// not prevent work, the server works, but may lose messages.
    pub fn prevents_work(&self) -> bool {
        matches!(self, Self::TooOld { .. } | Self::Replica)
    }
}

/// Whether a server takes snapshots by itself.
#[derive(Clone, Copy)]
enum Snapshots {
    Taken,
    NotTaken,
    Unknown,
}

impl Redis {
    /// Finds the dangers to messages in the servers that answer now; dangers that prevent work come first. A server of a cluster
    /// that does not answer while other servers do is not examined. A server that has become a replica is no danger if another
    /// server may become the primary.
    ///
    /// `examine` opens its own connection to each server, because a refused command must not discard the connections that calls
    /// share. A new connection also reaches the server that has the address now.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when no server answers in time.
    pub async fn examine(&self) -> Result<Vec<Danger>> {
        let nodes = self.topology().nodes().await?;
        let (mut dangers, mut errors) = (Vec::new(), Vec::new());
        for found in join_all(nodes.iter().map(|node| self.examine_node(node))).await {
            match found {
                Ok(found) => dangers.push(found),
                Err(error) => errors.push(error),
            }
        }
        match errors.pop() {
            Some(error) if dangers.is_empty() => Err(error),
            _ => Ok(merge_dangers(dangers)),
        }
    }

    async fn examine_node(&self, node: &Node) -> Result<Vec<Danger>> {
        let found_dangers = tokio::select! {
            found_dangers = timeout(self.time_limit(), find_server_dangers(node.endpoint())) => found_dangers,
            () = node.retire_token().cancelled() => {
                return Err(Error::Unavailable("the server is no longer a primary".into()));
            }
        };
        let mut found_dangers =
            found_dangers.unwrap_or_else(|_| Err(Error::Unavailable("the server was not examined in time".into())))?;
        if self.topology().servers_may_change() && found_dangers.contains(&Danger::Replica) {
            self.topology().note_failure();
            found_dangers.retain(|danger| *danger != Danger::Replica);
        }
        Ok(found_dangers)
    }
}

/// Returns each danger of any server once; dangers that prevent work come first.
fn merge_dangers(of_servers: Vec<Vec<Danger>>) -> Vec<Danger> {
    let mut dangers: Vec<Danger> = Vec::new();
    for danger in of_servers.into_iter().flatten() {
        if !dangers.contains(&danger) {
            dangers.push(danger);
        }
    }
    dangers.sort_by_key(|danger| !danger.prevents_work());
    dangers
}

async fn find_server_dangers(server: &Endpoint) -> Result<Vec<Danger>> {
    let mut connection = server.open().await?;
    let connection = &mut connection.multiplexed;
    // INFO without a name reads all default sections at once, because an old server accepts the name of at most one section.
    let info: String = match redis::cmd("INFO").query_async(connection).await {
        Err(error) if is_not_permitted(&error) => return Ok(vec![Danger::Unexamined]),
        answer => answer?,
    };
    // The save points are read only without an append-only file, because a Redis with ACLs logs each refused command.
    let snapshots = match info_field(&info, "aof_enabled") {
        Some("0") => query_snapshots(connection).await?,
        _ => Snapshots::Unknown,
    };
    Ok(dangers_in_info(&info, snapshots))
}

/// Reads the save points, which INFO does not show.
async fn query_snapshots(connection: &mut MultiplexedConnection) -> RedisResult<Snapshots> {
    let mut read_command = redis::cmd("CONFIG");
    read_command.arg("GET").arg("save");
    match read_command.query_async::<HashMap<String, String>>(connection).await {
        Err(error) if is_not_permitted(&error) => Ok(Snapshots::Unknown),
        answer => Ok(match answer?.get("save") {
            Some(points) if points.is_empty() => Snapshots::NotTaken,
            Some(_) => Snapshots::Taken,
            None => Snapshots::Unknown,
        }),
    }
}

/// Whether Redis forbids a command: a managed Redis often answers that the command is unknown; a Redis with ACLs answers NOPERM.
fn is_not_permitted(error: &RedisError) -> bool {
    matches!(error.code(), Some("ERR" | "NOPERM"))
}

/// Returns the dangers to stored messages that a server's reply to INFO and its setting `save` show. A field that INFO lacks is no
/// danger, because compatible servers have fewer fields.
fn dangers_in_info(info: &str, snapshots: Snapshots) -> Vec<Danger> {
    let mut dangers = Vec::new();
    dangers.extend(too_old_danger(info));
    if info_field(info, "role") == Some("slave") {
        dangers.push(Danger::Replica);
    }
    if let Some(policy) = info_field(info, "maxmemory_policy").filter(|policy| *policy != "noeviction") {
        dangers.push(Danger::Evicts { policy: policy.into() });
    }
    match (info_field(info, "aof_enabled"), snapshots) {
        (Some("0"), Snapshots::NotTaken) => dangers.push(Danger::NotPersistent),
        (Some("0"), Snapshots::Unknown) => dangers.push(Danger::PersistenceUnknown),
        _ => {}
    }
    dangers
}

fn too_old_danger(info: &str) -> Option<Danger> {
    // Valkey has the fields `valkey_version` and `redis_version`; `redis_version` is the Redis version with which Valkey is compatible.
    let (product, version, oldest) = match info_field(info, "valkey_version") {
        Some(version) => ("Valkey", version, OLDEST_VALKEY),
        None => ("Redis", info_field(info, "redis_version")?, OLDEST_REDIS),
    };
    let mut numbers = version.split('.').map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    ((major, minor) < oldest).then(|| Danger::TooOld { found: format!("{product} {version}") })
}

fn info_field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An INFO reply as servers write it: sections with headings, fields with a common prefix, CRLF.
    fn info_reply(version: &str, role: &str, policy: &str, aof_enabled: u8) -> String {
        let info_text = format!(
            "# Server\n{version}\nredis_git_sha1:00000000\nredis_mode:standalone\n\n\
             # Memory\nmaxmemory:0\nmaxmemory_human:0B\nmaxmemory_policy:{policy}\n\n\
             # Persistence\nloading:0\nrdb_last_bgsave_status:ok\nrdb_saves:0\naof_enabled:{aof_enabled}\n\
             aof_rewrite_in_progress:0\n\n\
             # Replication\nrole:{role}\nconnected_slaves:0\n"
        );
        info_text.replace('\n', "\r\n")
    }

    fn dangers_of_version(version: &str) -> Vec<Danger> {
        dangers_in_info(&info_reply(version, "master", "noeviction", 1), Snapshots::NotTaken)
    }

    #[test]
    fn well_configured_server_has_no_danger() {
        for snapshots in [Snapshots::Taken, Snapshots::NotTaken, Snapshots::Unknown] {
            assert_eq!(dangers_in_info(&info_reply("redis_version:7.0.15", "master", "noeviction", 1), snapshots), []);
        }
        let only_snapshots = info_reply("redis_version:7.0.15", "master", "noeviction", 0);
        assert_eq!(dangers_in_info(&only_snapshots, Snapshots::Taken), []);
        assert_eq!(dangers_in_info("", Snapshots::Unknown), [], "nothing is known, so nothing is reported");
    }

    #[test]
    fn versions_are_compared_as_numbers_and_by_product() {
        for version in ["redis_version:7.0.0", "redis_version:7.4.1", "redis_version:10.1.0", "redis_version:unstable"]
        {
            assert_eq!(dangers_of_version(version), [], "{version}");
        }
        let valkey = |version: &str| format!("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:{version}");
        for version in ["7.2.5", "8.0.1", "9.0.0"] {
            assert_eq!(dangers_of_version(&valkey(version)), [], "Valkey {version}");
        }
        assert_eq!(dangers_of_version(&valkey("7.1.0")), [Danger::TooOld { found: "Valkey 7.1.0".into() }]);
        for version in ["6.2.14", "5.0.3", "2.8.0"] {
            let too_old = Danger::TooOld { found: format!("Redis {version}") };
            assert!(too_old.prevents_work());
            assert_eq!(dangers_of_version(&format!("redis_version:{version}")), [too_old]);
        }
    }

    #[test]
    fn each_danger_is_found_and_dangers_that_prevent_work_come_first() {
        let all_dangers =
            dangers_in_info(&info_reply("redis_version:6.2.14", "slave", "allkeys-lru", 0), Snapshots::NotTaken);
        let too_old = Danger::TooOld { found: "Redis 6.2.14".into() };
        let eviction_danger = Danger::Evicts { policy: "allkeys-lru".into() };
        assert_eq!(all_dangers, [too_old, Danger::Replica, eviction_danger, Danger::NotPersistent]);
        assert_eq!(all_dangers.iter().map(Danger::prevents_work).collect::<Vec<_>>(), [true, true, false, false]);
    }

    #[test]
    fn persistence_is_unknown_if_the_save_points_can_not_be_read() {
        let info = info_reply("redis_version:7.0.15", "master", "noeviction", 0);
        assert_eq!(dangers_in_info(&info, Snapshots::Unknown), [Danger::PersistenceUnknown]);
    }
}
