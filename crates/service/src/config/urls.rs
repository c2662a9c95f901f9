//! URLs, which are shown without their secrets.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// A URL of http or https. Its user, password and query are never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// The URL, with all that is in it.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The text itself is not told: it may hold a password.
        let url = Url::parse(&text).map_err(|error| format!("{error}; write it as https://example.org/hook"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            _ => Err("requests are sent to http:// or https://, and to nothing else".into()),
        }
    }
}

/// The URL of Redis, which may hold a password, or, for a socket, have it in its query.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct RedisUrl(String);

impl RedisUrl {
    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// As much of a URL as may be shown.
fn hidden(mut url: Url) -> String {
    if !url.username().is_empty() || url.password().is_some() {
        // These can't fail: such a URL has a host.
        let _ = url.set_username("***");
        let _ = url.set_password(None);
    }
    if url.query().is_some() {
        url.set_query(Some("***"));
    }
    url.set_fragment(None);
    url.into()
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hidden(self.0.clone()))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Url::parse(&self.0) {
            Ok(url) if url.has_host() || !(url.cannot_be_a_base() || self.0.contains('@')) => f.write_str(&hidden(url)),
            // Where its parts are not known, any of it may be a password.
            _ => f.write_str("***"),
        }
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_url_has_no_secrets() {
        let shown = |text: &str| HttpUrl::try_from(text.to_owned()).map(|url| format!("{url:?}"));
        assert_eq!(shown("http://127.0.0.1:9000/hook").unwrap(), "http://127.0.0.1:9000/hook");
        assert_eq!(shown("https://me:hunter2@Example.org/a?key=1#f").unwrap(), "https://***@example.org/a?***");
        for (bad, told) in [
            ("ftp://example.org", "http:// or https://"),
            ("example.org/hook", "write it as"),
            ("https://", "write it as"),
        ] {
            let error = shown(bad).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
    }
}
