//! The section `traces`.

use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use url::Url;

use super::HttpUrl;

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HttpUrl")]
pub struct OtlpEndpoint(HttpUrl);

impl OtlpEndpoint {
    /// Where a collector takes traces unless it says otherwise.
    const PATH: &str = "/v1/traces";

    /// The URL that traces are posted to, without user and password: without a path it is that of the specification.
    pub fn url(&self) -> String {
        let mut url = self.0.expose().clone();
        // These can't fail: an http URL has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if url.path() == "/" {
            url.set_path(Self::PATH);
        }
        url.into()
    }

    /// The user and the password of the URL as the header `authorization`. They stand there and not in the URL, which
    /// libraries show in their logs.
    pub fn authorization(&self) -> Option<String> {
        let url: &Url = self.0.expose();
        let password = url.password().unwrap_or_default();
        if url.username().is_empty() && password.is_empty() {
            return None;
        }
        let mut both: Vec<u8> = percent_decode_str(url.username()).collect();
        both.push(b':');
        both.extend(percent_decode_str(password));
        Some(format!("Basic {}", STANDARD.encode(both)))
    }
}

impl TryFrom<HttpUrl> for OtlpEndpoint {
    type Error = &'static str;

    fn try_from(url: HttpUrl) -> Result<Self, &'static str> {
        if url.expose().query().or(url.expose().fragment()).is_some() {
            return Err("not a place for OTLP over HTTP: write its URL without a query, \"http://127.0.0.1:4318\"");
        }
        Ok(Self(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_specification_is_added_where_there_is_none() {
        let endpoint = |text: &str| OtlpEndpoint::try_from(HttpUrl::try_from(text.to_owned()).unwrap());
        let url = |text: &str| endpoint(text).map(|endpoint| endpoint.url());
        assert_eq!(url("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url("https://otel.example.org/").unwrap(), "https://otel.example.org/v1/traces");
        assert_eq!(url("https://otel.example.org/mine").unwrap(), "https://otel.example.org/mine");
        let with_password = endpoint("https://me:p%40ss@otel.example.org").unwrap();
        assert_eq!(with_password.url(), "https://otel.example.org/v1/traces");
        assert_eq!(with_password.authorization().unwrap(), format!("Basic {}", STANDARD.encode("me:p@ss")));
        assert_eq!(format!("{with_password:?}"), "OtlpEndpoint(https://***@otel.example.org/)");
        assert!(url("http://127.0.0.1:4318/?a=1").unwrap_err().contains("without a query"));
    }
}
