//! Parses the URL of Redis: of one server, of Sentinels, or of a cluster.

use deadpool_redis::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::redis::endpoint::Address;

/// The parts of a URL of Redis.
pub(crate) struct RedisUrl {
    pub(crate) kind: TopologyKind,
    /// The server, the Sentinels, or some servers of the cluster.
    pub(crate) servers: Vec<Address>,
    /// The user, the password and the number of the database.
    pub(crate) login: RedisConnectionInfo,
    pub(crate) uses_tls: UsesTls,
}

/// The kind of servers that the URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopologyKind {
    Server,
    /// Sentinels, and the name under which they know the primary.
    Sentinels {
        service: String,
    },
    Cluster,
}

/// Whether connections use TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UsesTls {
    Yes,
    No,
}

const DEFAULT_PORT: u16 = 6379;
const DEFAULT_SENTINEL_PORT: u16 = 26379;

impl RedisUrl {
    /// Returns the parts of a URL; `None` if the text is not the URL of a Redis.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            // Only the URL of a Unix socket may lack `://`.
            let connection_info = url.into_connection_info().ok()?;
            return Some(Self::from_server(&connection_info, address_of(&connection_info)?, UsesTls::No));
        };
        let (scheme, uses_tls) = match scheme.strip_prefix("rediss") {
            Some(rest) => (format!("redis{rest}"), UsesTls::Yes),
            None => (scheme.to_owned(), UsesTls::No),
        };
        match scheme.as_str() {
            "redis" | "unix" => {
                // The client library would refuse rediss://, because its own TLS is not compiled in.
                let connection_info = format!("{scheme}://{rest}").into_connection_info().ok()?;
                let address = address_of(&connection_info)?;
                (scheme == "redis" || uses_tls == UsesTls::No)
                    .then(|| Self::from_server(&connection_info, address, uses_tls))
            }
            "redis+sentinel" => {
                let (authority, path) = rest.split_once('/')?;
                let (service, db) = path.split_once('/').unwrap_or((path, ""));
                let (servers, login) = parse_servers(authority, db, DEFAULT_SENTINEL_PORT)?;
                let kind = TopologyKind::Sentinels { service: service.to_owned() };
                (!service.is_empty()).then_some(Self { kind, servers, login, uses_tls })
            }
            "redis+cluster" => {
                // A cluster has only the database 0.
                let (servers, login) = parse_servers(rest.trim_end_matches('/'), "", DEFAULT_PORT)?;
                Some(Self { kind: TopologyKind::Cluster, servers, login, uses_tls })
            }
            _ => None,
        }
    }

    fn from_server(connection_info: &ConnectionInfo, address: Address, uses_tls: UsesTls) -> Self {
        Self {
            kind: TopologyKind::Server,
            servers: vec![address],
            login: connection_info.redis_settings().clone(),
            uses_tls,
        }
    }
}

/// Parses `[user:password@]host[:port],…`.
fn parse_servers(authority: &str, db: &str, default_port: u16) -> Option<(Vec<Address>, RedisConnectionInfo)> {
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    let mut servers = Vec::new();
    for host in hosts.split(',') {
        // The port of an IPv6 address follows the closing bracket of the address.
        let has_port = host.rsplit(']').next().is_some_and(|after| after.contains(':'));
        let host = if has_port { host.to_owned() } else { format!("{host}:{default_port}") };
        servers.push(address_of(&format!("redis://{host}").into_connection_info().ok()?)?);
    }
    let login = format!("redis://{user}127.0.0.1/{db}").into_connection_info().ok()?.redis_settings().clone();
    Some((servers, login))
}

fn address_of(connection_info: &ConnectionInfo) -> Option<Address> {
    match connection_info.addr() {
        ConnectionAddr::Tcp(host, port) => Some(Address::Tcp(host.clone(), *port)),
        ConnectionAddr::Unix(path) => Some(Address::Unix(path.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_parts(url: &str) -> Option<(TopologyKind, Vec<String>, UsesTls)> {
        let RedisUrl { kind, servers, uses_tls, .. } = RedisUrl::parse(url)?;
        Some((kind, servers.iter().map(ToString::to_string).collect(), uses_tls))
    }

    #[test]
    fn redis_url_names_a_server_sentinels_or_a_cluster() {
        let sentinels = |service: &str| TopologyKind::Sentinels { service: service.to_owned() };
        for (url, kind, servers, uses_tls) in [
            ("redis://h", TopologyKind::Server, &["h:6379"][..], UsesTls::No),
            ("rediss://u:p@h:7000/2", TopologyKind::Server, &["h:7000"], UsesTls::Yes),
            ("unix:/run/redis.sock", TopologyKind::Server, &["/run/redis.sock"], UsesTls::No),
            ("unix:///run/redis.sock", TopologyKind::Server, &["/run/redis.sock"], UsesTls::No),
            ("redis+sentinel://h1,h2:7000/main", sentinels("main"), &["h1:26379", "h2:7000"], UsesTls::No),
            ("rediss+sentinel://u:p@h1/main/3", sentinels("main"), &["h1:26379"], UsesTls::Yes),
            (
                "redis+cluster://u:p%40q@h1,[::1],[::1]:7000/",
                TopologyKind::Cluster,
                &["h1:6379", "[::1]:6379", "[::1]:7000"],
                UsesTls::No,
            ),
            ("rediss+cluster://h1", TopologyKind::Cluster, &["h1:6379"], UsesTls::Yes),
        ] {
            let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
            assert_eq!(parse_parts(url), Some((kind, servers, uses_tls)), "{url}");
        }
        for url in [
            "",
            "h:6379",
            "http://h",
            "redis://",
            "redis+sentinel://h",
            "redis+sentinel://h/",
            "redis+cluster://h/1",
            "redis+cluster://h,,h",
            "rediss+unix:///a",
        ] {
            assert_eq!(parse_parts(url), None, "{url}");
        }
    }

    #[test]
    fn user_password_and_database_are_read_from_every_kind_of_redis_url() {
        for url in ["redis://u:p%40q@h/3", "redis+sentinel://u:p%40q@h1,h2/main/3"] {
            let login = RedisUrl::parse(url).unwrap().login;
            assert_eq!((login.username(), login.password(), login.db()), (Some("u"), Some("p@q"), 3), "{url}");
        }
        let login = RedisUrl::parse("redis+cluster://:p@h1,h2").unwrap().login;
        assert_eq!((login.username(), login.password(), login.db()), (None, Some("p"), 0));
    }
}
