use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// Where traces go. Defaults to nowhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The collector. Defaults to none: nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<OtlpEndpoint>,
    /// Which share of the traces that begin here is sent, 0 to 1; one that began elsewhere is sent if it is there.
    /// Defaults to 1.
    pub sample_ratio: f64,
}

/// Where a collector takes OTLP over HTTP: `http://127.0.0.1:4318`, or with a path of its own. A user and password in it are
/// never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct OtlpEndpoint(Url);

impl OtlpEndpoint {
    /// Where a collector takes traces unless it says otherwise.
    const PATH: &str = "/v1/traces";

    /// The URL that traces are posted to, without user and password: without a path it is that of the specification.
    pub fn url(&self) -> String {
        let mut url = self.without_user();
        if url.path() == "/" {
            url.set_path(Self::PATH);
        }
        url.into()
    }

    /// The user and the password of the URL as the header `authorization`. They stand there and not in the URL, which
    /// libraries show in their logs.
    pub fn authorization(&self) -> Option<String> {
        let password = self.0.password().unwrap_or_default();
        if self.0.username().is_empty() && password.is_empty() {
            return None;
        }
        let mut both: Vec<u8> = percent_decode_str(self.0.username()).collect();
        both.push(b':');
        both.extend(percent_decode_str(password));
        Some(format!("Basic {}", STANDARD.encode(both)))
    }

    fn without_user(&self) -> Url {
        let mut url = self.0.clone();
        // These can't fail: an http URL has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url
    }
}

impl TryFrom<String> for OtlpEndpoint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.query().or(url.fragment()).is_none() => {
                Ok(Self(url))
            }
            // The text itself is not told: it may hold a password.
            _ => Err("not a place for OTLP over HTTP: write its URL without a query, \"http://127.0.0.1:4318\""),
        }
    }
}

impl fmt::Display for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = self.without_user();
        if self.authorization().is_some() {
            let _ = url.set_username("***");
        }
        url.fmt(f)
    }
}

impl fmt::Debug for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for OtlpEndpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_specification_is_added_where_there_is_none() {
        let url = |text: &str| OtlpEndpoint::try_from(text.to_owned()).map(|endpoint| endpoint.url());
        assert_eq!(url("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url("https://otel.example.org/").unwrap(), "https://otel.example.org/v1/traces");
        assert_eq!(url("https://otel.example.org/mine").unwrap(), "https://otel.example.org/mine");
        let with_password = OtlpEndpoint::try_from("https://me:p%40ss@otel.example.org".to_owned()).unwrap();
        assert_eq!(with_password.url(), "https://otel.example.org/v1/traces");
        assert_eq!(with_password.authorization().unwrap(), format!("Basic {}", STANDARD.encode("me:p@ss")));
        assert_eq!(
            format!("{with_password} {with_password:?}"),
            "https://***@otel.example.org/ https://***@otel.example.org/"
        );
        for wrong in ["", "127.0.0.1:4318", "grpc://127.0.0.1:4317", "/v1/traces"] {
            assert!(url(wrong).unwrap_err().contains("http://127.0.0.1:4318"), "{wrong}");
        }
    }
}
