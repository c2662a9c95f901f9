use std::path::PathBuf;

use ipnet::IpNet;
use queue_core::Millis;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use super::{AllowedHost, HttpUrl, LONGEST_TIMEOUT, Output, WebhookSecret, must_be_within, webhook_secret};

/// POSTs each message to a URL, signed as Standard Webhooks say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct HttpHandler {
    /// Where to.
    pub target: HttpTarget,
    /// What requests are signed with: each has a signature by each. Defaults to none, and no signature.
    pub secrets: Vec<WebhookSecret>,
    /// More secrets stand in this file, one a line. Defaults to none.
    pub secret_file: Option<PathBuf>,
    /// When the answer must be complete. Defaults to 10 s.
    pub timeout: Option<Millis>,
    /// When the connection must be there. Defaults to 5 s.
    pub connect_timeout: Option<Millis>,
    /// So many requests of this route are under way to one host at once. Defaults to as many as the worker runs.
    pub concurrency: Option<usize>,
    /// Certificates of authorities, as PEM, that are trusted beside the system's. Defaults to none.
    pub ca_file: Option<PathBuf>,
    /// What becomes of the answer to a message that was taken. Defaults to the result.
    pub response: Output,
}

/// Where messages are posted to.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpTarget {
    /// All to one URL, wherever it is.
    Fixed(HttpUrl),
    /// Each to the URL that its header names.
    Header {
        /// The name of the header.
        name: String,
        /// The hosts that it may name.
        allowed_hosts: Vec<AllowedHost>,
        /// Networks that may be reached though they are private. Defaults to none.
        allowed_networks: Vec<IpNet>,
    },
}

impl HttpHandler {
    /// The default of `timeout`.
    pub const DEFAULT_TIMEOUT: Millis = Millis::from_secs(10);
    /// The default of `connect_timeout`.
    pub const DEFAULT_CONNECT_TIMEOUT: Millis = Millis::from_secs(5);

    pub(super) fn validate(&self) -> Result<(), String> {
        let least = Millis::new(100);
        must_be_within("timeout", self.timeout, least, LONGEST_TIMEOUT)?;
        must_be_within("connect_timeout", self.connect_timeout, least, Millis::from_secs(60))?;
        match self.concurrency {
            Some(0 | 100_001..) => Err("concurrency must be 1 to 100000".into()),
            _ => Ok(()),
        }
    }
}

/// The keys as they are written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<HttpUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url_header: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allowed_hosts: Vec<AllowedHost>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "networks")]
    allowed_networks: Vec<IpNet>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "webhook_secret::one_or_several")]
    secret: Vec<WebhookSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect_timeout: Option<Millis>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    concurrency: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
    #[serde(default)]
    response: Output,
}

/// Networks; what is none is told with how to write one.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |(n, text): (usize, String)| {
        text.parse().map_err(|_| D::Error::custom(format!("entry {} is no network; write \"10.1.0.0/16\"", n + 1)))
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().enumerate().map(network).collect()
}

impl TryFrom<Keys> for HttpHandler {
    type Error = &'static str;

    fn try_from(keys: Keys) -> Result<Self, &'static str> {
        let target = match (keys.url, keys.url_header) {
            (Some(url), None) if keys.allowed_hosts.is_empty() && keys.allowed_networks.is_empty() => {
                HttpTarget::Fixed(url)
            }
            (Some(_), None) => return Err("allowed_hosts and allowed_networks go with url_header, not with url"),
            (None, Some(_)) if keys.allowed_hosts.is_empty() => {
                return Err("url_header lets messages choose the URL: write allowed_hosts = [\"hooks.example.org\"] \
                            with the hosts that they may choose");
            }
            (None, Some(name)) => {
                HttpTarget::Header { name, allowed_hosts: keys.allowed_hosts, allowed_networks: keys.allowed_networks }
            }
            (Some(_), Some(_)) => return Err("url and url_header exclude each other: remove one of them"),
            (None, None) => return Err("an http handler needs url = \"https://example.org/hook\""),
        };
        Ok(Self {
            target,
            secrets: keys.secret,
            secret_file: keys.secret_file,
            timeout: keys.timeout,
            connect_timeout: keys.connect_timeout,
            concurrency: keys.concurrency,
            ca_file: keys.ca_file,
            response: keys.response,
        })
    }
}

impl From<HttpHandler> for Keys {
    fn from(http: HttpHandler) -> Self {
        let (url, url_header, allowed_hosts, allowed_networks) = match http.target {
            HttpTarget::Fixed(url) => (Some(url), None, Vec::new(), Vec::new()),
            HttpTarget::Header { name, allowed_hosts, allowed_networks } => {
                (None, Some(name), allowed_hosts, allowed_networks)
            }
        };
        Self {
            url,
            url_header,
            allowed_hosts,
            allowed_networks,
            secret: http.secrets,
            secret_file: http.secret_file,
            timeout: http.timeout,
            connect_timeout: http.connect_timeout,
            concurrency: http.concurrency,
            ca_file: http.ca_file,
            response: http.response,
        }
    }
}
