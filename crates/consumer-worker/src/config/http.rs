//! The keys of the handler `http`.

use ipnet::IpNet;
use queue_core::{Millis, Span};
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use service::config::{FilePath, HttpUrl, must_be_within};

use super::{AllowedHost, Output, WebhookSecret, handler::HandlerTimeout, webhook_secret};

/// POSTs each message to a URL, signed as Standard Webhooks say: all to one, or each to the one that its header names.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpHandler {
    /// The URL of all messages, wherever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// The header that names the URL of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_header: Option<String>,
    /// The hosts that the header may name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<AllowedHost>,
    /// Networks that may be reached by the header though they are private. Defaults to none.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "networks")]
    pub allowed_networks: Vec<IpNet>,
    /// The secrets that sign requests: each request has one signature by each secret. Defaults to none: requests are not signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "webhook_secret::one_or_several")]
    pub secret: Vec<WebhookSecret>,
    /// More secrets stand in this file, one a line. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<FilePath>,
    /// When the answer must be complete. Defaults to 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HandlerTimeout>,
    /// When the connection must be there. Defaults to 5 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<Span<100, 60_000>>,
    /// So many requests of this route are under way to one host at once. Defaults to as many as the worker runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// Certificates of authorities, as PEM, that are trusted beside the system's. Defaults to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FilePath>,
    /// How the answer to a message that was taken is used. Defaults to the result.
    #[serde(default)]
    pub response: Output,
}

impl HttpHandler {
    /// The default of `timeout`.
    pub const DEFAULT_TIMEOUT: Millis = Millis::from_secs(10);
    /// The default of `connect_timeout`.
    pub const DEFAULT_CONNECT_TIMEOUT: Millis = Millis::from_secs(5);

    pub(super) fn validate(&self) -> Result<(), String> {
        let mistake = match (&self.url, &self.url_header) {
            (Some(_), Some(_)) => Some("url and url_header exclude each other: remove one of them"),
            (None, None) => Some("an http handler needs url = \"https://example.org/hook\""),
            (Some(_), None) if !(self.allowed_hosts.is_empty() && self.allowed_networks.is_empty()) => {
                Some("allowed_hosts and allowed_networks go with url_header, not with url")
            }
            (None, Some(_)) if self.allowed_hosts.is_empty() => Some(
                "url_header lets messages choose the URL: write allowed_hosts = [\"hooks.example.org\"] with the hosts that they \
                 may choose",
            ),
            _ => None,
        };
        if let Some(mistake) = mistake {
            return Err(format!(": {mistake}"));
        }
        must_be_within(".concurrency", self.concurrency.unwrap_or(1), 1, 100_000)
    }
}

/// Networks; what is none is told with how to write one.
fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |(n, text): (usize, String)| {
        text.parse().map_err(|_| D::Error::custom(format!("entry {} is no network; write \"10.1.0.0/16\"", n + 1)))
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().enumerate().map(network).collect()
}
