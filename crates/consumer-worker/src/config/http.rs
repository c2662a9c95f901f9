//! The configuration of the handler `http`: its keys, the hosts that messages may name, and the secrets that sign requests.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use ipnet::IpNet;
use queue_core::{DurationIn, Millis};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use service::config::{FilePath, HttpUrl, must_be_within};
use url::{Host, Url};

use super::exec::{HandlerTimeout, Output};

/// Posts each message to a URL, signed by the rules of Standard Webhooks: all messages to one URL, or each message to the URL
/// in one of its headers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpHandler {
    /// The URL to which the handler sends every message, by HTTP POST. The host of the configured URL may have any address, private
    /// addresses included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpUrl>,
    /// The name of the message header that contains the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_header: Option<String>,
    /// The hosts that are allowed in the URL that a message names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<AllowedHost>,
    /// The private networks in which the host of a message's URL may be (default: none).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "network_list")]
    pub allowed_networks: Vec<IpNet>,
    /// The secrets that sign requests: each request has one signature by each secret (default: none, so that requests are not
    /// signed).
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_several_secrets")]
    pub secret: Vec<WebhookSecret>,
    /// A file with secrets that sign requests in addition to those of `secret`, one per line (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<FilePath>,
    /// The time within which the answer must be complete (default: 10 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<HandlerTimeout>,
    /// The time within which the connection must be open (default: 5 s).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_timeout: Option<DurationIn<100, 60_000>>,
    /// The maximum number of concurrent requests of this route to one host (default: no limit but the worker's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<usize>,
    /// A PEM file of certificate authorities that are trusted in addition to the system's (default: none).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<FilePath>,
    /// The use of the body of a successful response (default: `result`).
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

/// Reads a list of networks. If an entry is not a network, the error text shows how to write a network.
fn network_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let network = |(index, text): (usize, String)| {
        text.parse().map_err(|_| D::Error::custom(format!("entry {} is no network; write \"10.1.0.0/16\"", index + 1)))
    };
    Vec::<String>::deserialize(deserializer)?.into_iter().enumerate().map(network).collect()
}

/// A host that messages may name in their URLs: `hooks.example.org` on the default ports of http and https, or
/// `hooks.example.org:8443` on another port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AllowedHost {
    host: String,
    port: Option<u16>,
}

impl AllowedHost {
    /// Returns whether a URL has the host and the port of this `AllowedHost`.
    pub fn matches(&self, url: &Url) -> bool {
        url.host_str() == Some(&self.host) && url.port() == self.port
    }
}

impl TryFrom<String> for AllowedHost {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        // The error does not repeat the invalid host, which may be a URL with a password.
        let invalid_host = || "not a host; write \"hooks.example.org\", or \"hooks.example.org:8443\"";
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, Some(port.parse().map_err(|_| invalid_host())?)),
            _ => (text.as_str(), None),
        };
        // The host is normalized as in a URL, so that it can be compared with the host of a URL.
        let host = Host::parse(host).map_err(|_| invalid_host())?.to_string();
        if host.contains('*') {
            return Err("a host has no *: name each host");
        }
        Ok(Self { host, port })
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

impl Serialize for AllowedHost {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A secret that signs requests, in the form of Standard Webhooks: `whsec_` and 24 to 64 bytes as base64. Logs and printed
/// configurations do not show webhook secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    const SECRET_PREFIX: &str = "whsec_";
    const HIDDEN_TEXT: &str = "whsec_***";

    /// Returns the bytes of the secret.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Parses the content of a file of secrets, one per line.
    ///
    /// # Errors
    ///
    /// If a line is not a secret, returns the mistake and the number of the line, but not the text of the line.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, String> {
        let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
        let parse = |(index, line): (usize, &str)| line.parse().map_err(|error| format!("line {}: {error}", index + 1));
        let secrets: Vec<Self> = lines.map(parse).collect::<Result<_, _>>()?;
        if secrets.is_empty() { Err("there is no secret in it".into()) } else { Ok(secrets) }
    }
}

impl FromStr for WebhookSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == Self::HIDDEN_TEXT {
            return Err("the secret is hidden here, as --print-config does; put the secret itself in".into());
        }
        // The error does not repeat the invalid text, which may be a mistyped secret.
        let bytes = text.strip_prefix(Self::SECRET_PREFIX).and_then(|rest| STANDARD.decode(rest).ok());
        match bytes {
            Some(bytes) if (24..=64).contains(&bytes.len()) => Ok(Self(bytes)),
            Some(bytes) => Err(format!("a secret has 24 to 64 bytes behind \"whsec_\", this one has {}", bytes.len())),
            None => Err("a secret is \"whsec_\" and 24 to 64 bytes as base64; make one with: \
                         echo whsec_$(openssl rand -base64 32)"
                .into()),
        }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::HIDDEN_TEXT)
    }
}

impl Serialize for WebhookSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(Self::HIDDEN_TEXT)
    }
}

/// Reads one secret, or a list of secrets.
fn one_or_several_secrets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<WebhookSecret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a secret as a text, or a list of them")]
    enum SecretOrList {
        One(String),
        Several(Vec<String>),
    }
    let secret_texts = match SecretOrList::deserialize(deserializer)? {
        SecretOrList::One(text) => vec![text],
        SecretOrList::Several(secret_texts) => secret_texts,
    };
    secret_texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn webhook_secret_is_24_to_64_bytes_as_base64_behind_a_prefix() {
        let secret_of_length =
            |bytes: usize| format!("whsec_{}", STANDARD.encode(vec![7; bytes])).parse::<WebhookSecret>();
        assert_eq!(SAMPLE_SECRET.parse::<WebhookSecret>().unwrap().expose().len(), 24);
        assert!(secret_of_length(24).is_ok() && secret_of_length(64).is_ok());
        assert!(secret_of_length(23).unwrap_err().contains("24 to 64"));
        assert!(secret_of_length(65).unwrap_err().contains("24 to 64"));
        for bad in ["", "whsec_", "secret-of-mine", &SAMPLE_SECRET[6..], "whsec_not base64 at all!"] {
            let error = bad.parse::<WebhookSecret>().unwrap_err();
            assert!(
                bad.len() < 7 || !error.contains(bad),
                "an error must not show a text that may be a secret: {error}"
            );
        }
        assert!("whsec_***".parse::<WebhookSecret>().unwrap_err().contains("--print-config"));
    }

    #[test]
    fn file_of_secrets_has_one_secret_per_line() {
        assert_eq!(WebhookSecret::parse_lines(&format!("{SAMPLE_SECRET}\n\n  {SAMPLE_SECRET}\n")).unwrap().len(), 2);
        assert_eq!(
            WebhookSecret::parse_lines(&format!("{SAMPLE_SECRET}\nhunter2")).unwrap_err().find("line 2"),
            Some(0)
        );
        assert!(WebhookSecret::parse_lines("\n").is_err());
    }

    #[test]
    fn allowed_host_matches_the_whole_name_and_its_port() {
        for (host, url, fits) in [
            ("hooks.example.org", "https://hooks.example.org/a", true),
            ("Hooks.Example.org", "http://HOOKS.example.ORG", true),
            ("hooks.example.org", "https://hooks.example.org:443/a", true),
            ("hooks.example.org", "https://hooks.example.org:8443/", false),
            ("hooks.example.org:8443", "https://hooks.example.org:8443/", true),
            ("hooks.example.org:8443", "https://hooks.example.org/", false),
            ("example.org", "https://hooks.example.org/", false),
            ("example.org", "https://example.org.evil.net/", false),
            ("example.org", "https://example.org@evil.net/", false),
            ("example.org", "https://example.org./", false),
            ("[::1]", "http://[0:0::1]/", true),
            ("[::1]:80", "http://[::1]:8080/", false),
            ("127.0.0.1", "http://0x7f.1/", true),
        ] {
            let allowed_host = AllowedHost::try_from(host.to_owned()).unwrap();
            assert_eq!(allowed_host.matches(&url.parse().unwrap()), fits, "{host} {url}");
        }
        for bad in ["", "https://example.org", "example.org/a", "a b", "example.org:port", "*.example.org"] {
            assert!(AllowedHost::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
