//! The section `redis`: the address of Redis, the user that a service logs in as, and the certificates. Logs and errors mask the
//! passwords.

use std::{fmt, fs, path::PathBuf};

use queue_core::{DurationIn, RedisOptions};
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

use super::{
    FilePath, InvalidConfig,
    addresses::{HIDDEN_TEXT, mask_secrets},
};

/// The section `redis`: the connection to Redis.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// The URL of Redis.
    pub url: RedisUrl,
    /// The Redis user that a service logs in as (default: the user in the URL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password of the Redis user (default: the password in the URL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// A file that contains the password of the Redis user (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<FilePath>,
    /// The certificates for a URL that begins with `rediss://` (default: the CAs of the operating system).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
    /// The user and the password for the Sentinels themselves (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelLogin>,
    /// The time limit of every call to Redis (default: 1.5 s).
    pub timeout: DurationIn<100, 60_000>,
}

/// The certificates of the connections to Redis, as PEM. A service reads the certificate files again for each new
/// connection to Redis.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisTls {
    /// The file of the CAs that sign the certificates of Redis (default: the CAs of the operating system).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<FilePath>,
    /// The file of the certificate that the service shows to Redis (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<FilePath>,
    /// The file of the private key of `certificate` (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<FilePath>,
}

/// The user and the password with which a service logs in to Sentinels. Sentinels have users of their own.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentinelLogin {
    /// The Sentinel user that a service logs in as (default: the user `default`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password for the Sentinels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// A file that contains the password for the Sentinels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<FilePath>,
}

impl Redis {
    /// Creates a client of Redis from this section of the configuration. The client connects when it is first used.
    ///
    /// # Errors
    ///
    /// Returns an error if the URL is not a valid URL of Redis, if keys contradict each other, or if a file can't be read. The
    /// error text contains no secret.
    pub fn connect(&self) -> Result<queue_core::Redis, InvalidConfig> {
        let mut options = RedisOptions::new(self.url.expose(), self.timeout.to_std());
        options.username.clone_from(&self.username);
        options.password = read_password("redis", self.password.as_ref(), self.password_file.as_ref())?;
        if let Some(SentinelLogin { username, password: plain, password_file }) = &self.sentinel {
            let Some(password) = read_password("redis.sentinel", plain.as_ref(), password_file.as_ref())? else {
                return Err(InvalidConfig("redis.sentinel has no password: set redis.sentinel.password".into()));
            };
            options.sentinel_login = Some((username.clone(), password));
        }
        if let Some(tls) = &self.tls {
            let path = |file: &FilePath| -> PathBuf { file.as_ref().to_owned() };
            options.tls_ca = tls.ca.as_ref().map(path);
            options.tls_client = match (&tls.certificate, &tls.key) {
                (Some(certificate), Some(key)) => Some((path(certificate), path(key))),
                (None, None) => None,
                _ => return Err(InvalidConfig("redis.tls: certificate and key belong together: set both".into())),
            };
        }
        options.prepare().map_err(|error| InvalidConfig(error.to_string()))
    }
}

/// Returns the password in a section of the configuration, or in the file that the section names.
fn read_password(
    section: &str,
    password: Option<&Password>,
    file: Option<&FilePath>,
) -> Result<Option<String>, InvalidConfig> {
    match (password, file) {
        (Some(_), Some(_)) => Err(InvalidConfig(format!(
            "{section}.password and {section}.password_file are both set: remove one of them"
        ))),
        (None, Some(file)) => match fs::read_to_string(file) {
            Ok(text) => Ok(Some(text.trim_end().to_owned())),
            Err(error) => Err(InvalidConfig(format!("{section}.password_file: can't read {file}: {error}"))),
        },
        (password, None) => Ok(password.map(|password| password.0.clone())),
    }
}

/// The beginnings of URLs that name several hosts.
const MULTI_HOST_SCHEMES: [&str; 4] =
    ["redis+sentinel://", "rediss+sentinel://", "redis+cluster://", "rediss+cluster://"];

/// The URL of Redis. The URL may contain a password; the URL of a Unix socket has the password in its query.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// Returns the URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `Url::parse` does not accept a list of hosts, so the URL is split at its last @: the text after the last @ has no
        // part of a user or a password.
        if MULTI_HOST_SCHEMES.iter().any(|scheme| self.0.starts_with(scheme)) {
            let (scheme, rest) = self.0.split_once("://").unwrap_or_default();
            let (user, hosts) = match rest.rsplit_once('@') {
                Some((_, hosts)) => ("***@", hosts),
                None => ("", rest),
            };
            return write!(f, "{scheme}://{user}{}", hosts.split(['?', '#']).next().unwrap_or_default());
        }
        match Url::parse(&self.0) {
            Ok(url) if url.has_host() || !(url.cannot_be_a_base() || self.0.contains('@')) => {
                f.write_str(&mask_secrets(url))
            }
            // If the text is not the URL of a host or of a Unix socket, any part of the text may be a password.
            _ => f.write_str(HIDDEN_TEXT),
        }
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// A password, which logs and errors mask.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN_TEXT)
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN_TEXT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error text for a section `redis` that consists of `lines`.
    fn error_of(lines: &str) -> String {
        let section: Redis = toml::from_str(&format!("timeout = \"1s\"\n{lines}")).unwrap();
        let error = section.connect().map(drop).unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
        error
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused_with_their_names() {
        let url = "url = \"redis://127.0.0.1\"\n";
        let sentinels = "url = \"redis+sentinel://127.0.0.1/main\"\n";
        for (lines, expected) in [
            (
                format!("{url}password = \"hunter2\"\npassword_file = \"/nowhere/a\""),
                "redis.password and redis.password_file are both set: remove one of them",
            ),
            (
                format!("{url}password_file = \"/nowhere/a\""),
                "redis.password_file: can't read /nowhere/a: No such file",
            ),
            (
                format!("{url}tls = {{ certificate = \"/nowhere/a\" }}"),
                "redis.tls: certificate and key belong together: set both",
            ),
            (format!("{url}tls = {{ ca = \"/nowhere/a\" }}"), "redis.tls is set, but redis.url does not ask for TLS"),
            (
                format!("{sentinels}sentinel = {{ username = \"hunter2\" }}"),
                "redis.sentinel has no password: set redis.sentinel.password",
            ),
            (
                format!("{sentinels}sentinel = {{ password = \"hunter2\", password_file = \"/nowhere/a\" }}"),
                "redis.sentinel.password and redis.sentinel.password_file are both set",
            ),
            (
                format!("{url}sentinel = {{ password = \"hunter2\" }}"),
                "redis.sentinel is set, but redis.url names no Sentinels",
            ),
            (
                "url = \"redis://:hunter2@127.0.0.1\"\npassword = \"hunter2\"".into(),
                "redis.url has a password, and redis.password",
            ),
        ] {
            let error = error_of(&lines);
            assert!(error.contains(expected), "{lines}: {error}");
        }
    }

    #[test]
    fn password_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hunter2\n").unwrap();
        let path = FilePath::deserialize(serde_json::Value::from(file.path().to_str().unwrap())).unwrap();
        assert_eq!(read_password("redis", None, Some(&path)).unwrap().as_deref(), Some("hunter2"));
    }
}
