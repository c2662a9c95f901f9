//! A host that messages may name in their URLs.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use url::{Host, Url};

/// A host that messages may name in their URLs: `hooks.example.org` on the ports of http and https, or with a port of its
/// own, `hooks.example.org:8443`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AllowedHost {
    host: String,
    port: Option<u16>,
}

impl AllowedHost {
    /// Whether a URL names this host and port.
    pub fn fits(&self, url: &Url) -> bool {
        url.host_str() == Some(&self.host) && url.port() == self.port
    }
}

impl TryFrom<String> for AllowedHost {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        // The text itself is not told: it may be a URL with a password.
        let invalid = || "not a host; write \"hooks.example.org\", or \"hooks.example.org:8443\"";
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, Some(port.parse().map_err(|_| invalid())?)),
            _ => (text.as_str(), None),
        };
        // As URLs are read, so that the two can be compared.
        let host = Host::parse(host).map_err(|_| invalid())?.to_string();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_fits_as_a_whole_and_with_its_port() {
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
            let allowed = AllowedHost::try_from(host.to_owned()).unwrap();
            assert_eq!(allowed.fits(&url.parse().unwrap()), fits, "{host} {url}");
        }
        for bad in ["", "https://example.org", "example.org/a", "a b", "example.org:port", "*.example.org"] {
            assert!(AllowedHost::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }
}
