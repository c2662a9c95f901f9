//! The options of a process's connections to Redis: the URL, the user, the certificates.

use std::{iter, path::PathBuf, sync::Arc, time::Duration};

use deadpool_redis::redis::RedisConnectionInfo;

use crate::redis::{
    Redis,
    cluster::Cluster,
    endpoint::Endpoint,
    sentinel::Sentinels,
    tls::{InvalidTls, TlsClient, TlsFiles},
    topology::TopologySource,
    url::{RedisUrl, TopologyKind, UsesTls},
};

/// How a process connects to Redis.
#[derive(Clone)]
#[non_exhaustive]
pub struct RedisOptions {
    /// The URL of one server is `redis://[user:password@]host:port[/db]`, or `unix:` and a path. The URL of Sentinels is
    /// `redis+sentinel://[user:password@]host[:port],…/service[/db]`. The URL of a cluster is
    /// `redis+cluster://[user:password@]host[:port],…`. A URL with `rediss` in place of `redis` asks for TLS.
    pub url: String,
    /// The time limit of every call, including the time to connect.
    pub time_limit: Duration,
    /// The user, unless the URL names a user; defaults to Redis's user `default`.
    pub username: Option<String>,
    /// The password, unless the URL has a password; defaults to none.
    pub password: Option<String>,
    /// The file of the CAs that sign the certificates of Redis, as PEM; defaults to the CAs of the operating system.
    pub tls_ca: Option<PathBuf>,
    /// The files of the certificate chain and of the key that this process shows to Redis, as PEM; defaults to none.
    pub tls_client: Option<(PathBuf, PathBuf)>,
    /// The user, if any, and the password for the Sentinels themselves; defaults to none.
    pub sentinel_login: Option<(Option<String>, String)>,
}

/// Why the options can't be used. The error text names the keys of the configuration, and never repeats a value, which may be a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InvalidOptions {
    /// `redis.url` is not the URL of a Redis.
    #[error(
        "redis.url: not the URL of a Redis; expected redis://host:port, redis://user:password@host:port/db, unix:/path, \
         redis+sentinel://host:26379,host/service, or redis+cluster://host:6379,host; rediss in place of redis for TLS"
    )]
    Url,
    /// The URL and the options both have a user or a password.
    #[error("redis.url has a {0}, and redis.{0} is set too: remove one of them")]
    Twice(&'static str),
    /// The options have certificates, but the URL does not ask for TLS.
    #[error("redis.tls is set, but redis.url does not ask for TLS: write rediss:// there, or remove redis.tls")]
    UnusedTls,
    /// The options have a login for Sentinels, but the URL names no Sentinels.
    #[error(
        "redis.sentinel is set, but redis.url names no Sentinels: write redis+sentinel:// there, or remove redis.sentinel"
    )]
    UnusedSentinel,
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] InvalidTls),
}

impl Redis {
    /// Prepares connections with [`RedisOptions`] that have only a URL and a time limit.
    ///
    /// # Errors
    ///
    /// An error if `url` is not a Redis URL. The text of the error does not contain the URL, because the URL may have a password.
    pub fn new(url: &str, time_limit: Duration) -> Result<Self, InvalidOptions> {
        RedisOptions::new(url, time_limit).prepare()
    }
}

impl RedisOptions {
    /// Returns options that have only a URL and a time limit.
    pub fn new(url: impl Into<String>, time_limit: Duration) -> Self {
        Self {
            url: url.into(),
            time_limit,
            username: None,
            password: None,
            tls_ca: None,
            tls_client: None,
            sentinel_login: None,
        }
    }

    /// Checks the options, reads the files of the certificates, and prepares connections. No connection is opened yet, so Redis may
    /// start later than this process.
    ///
    /// # Errors
    ///
    /// The options contradict each other, or a certificate can't be read.
    pub fn prepare(&self) -> Result<Redis, InvalidOptions> {
        Ok(Redis::to(self.topology_source()?, self.time_limit, Arc::default()))
    }

    fn topology_source(&self) -> Result<TopologySource, InvalidOptions> {
        let RedisUrl { kind, servers, login, uses_tls } = RedisUrl::parse(&self.url).ok_or(InvalidOptions::Url)?;
        let login = self.add_user(login)?;
        let files = TlsFiles { ca: self.tls_ca.clone(), client: self.tls_client.clone() };
        if uses_tls == UsesTls::No && (files.ca.is_some() || files.client.is_some()) {
            return Err(InvalidOptions::UnusedTls);
        }
        let tls = match uses_tls {
            UsesTls::Yes => Some(TlsClient::load(files)?),
            UsesTls::No => None,
        };
        if self.sentinel_login.is_some() && !matches!(kind, TopologyKind::Sentinels { .. }) {
            return Err(InvalidOptions::UnusedSentinel);
        }
        let endpoint = |address, login: &RedisConnectionInfo| Endpoint {
            address,
            // The client library does not send its name with CLIENT SETINFO, because the Redis user would need the right to this
            // command.
            login: login.clone().set_skip_set_lib_name(),
            tls: tls.clone(),
        };
        let mut servers = servers.into_iter();
        let first_server = servers.next().ok_or(InvalidOptions::Url)?;
        Ok(match kind {
            TopologyKind::Server => TopologySource::Server(endpoint(first_server, &login)),
            TopologyKind::Sentinels { service } => {
                let mut sentinel_login = RedisConnectionInfo::default();
                if let Some((username, password)) = &self.sentinel_login {
                    sentinel_login = sentinel_login.set_password(password);
                    if let Some(username) = username {
                        sentinel_login = sentinel_login.set_username(username);
                    }
                }
                let primary = endpoint(first_server.clone(), &login);
                let servers = iter::once(first_server).chain(servers);
                let servers = servers.map(|address| endpoint(address, &sentinel_login)).collect();
                TopologySource::Sentinels(Sentinels { servers, service, primary })
            }
            TopologyKind::Cluster => {
                let seeds = iter::once(first_server).chain(servers).map(|address| endpoint(address, &login)).collect();
                TopologySource::Cluster(Cluster { seeds })
            }
        })
    }

    fn add_user(&self, mut login: RedisConnectionInfo) -> Result<RedisConnectionInfo, InvalidOptions> {
        if let Some(username) = &self.username {
            if login.username().is_some() {
                return Err(InvalidOptions::Twice("username"));
            }
            login = login.set_username(username);
        }
        if let Some(password) = &self.password {
            if login.password().is_some() {
                return Err(InvalidOptions::Twice("password"));
            }
            login = login.set_password(password);
        }
        Ok(login)
    }
}
