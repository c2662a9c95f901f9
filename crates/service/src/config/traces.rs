use axum::http::Uri;
use serde::{Deserialize, Serialize};

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

/// Where a collector takes OTLP over HTTP: `http://127.0.0.1:4318`, or with a path of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OtlpEndpoint(Uri);

impl OtlpEndpoint {
    /// Where a collector takes traces unless it says otherwise.
    const PATH: &str = "/v1/traces";

    /// The URL that traces are posted to: without a path it is that of the specification.
    pub fn url(&self) -> String {
        let url = self.0.to_string();
        if self.0.path() == "/" { format!("{}{}", url.trim_end_matches('/'), Self::PATH) } else { url }
    }
}

impl TryFrom<String> for OtlpEndpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let uri = text.parse::<Uri>().unwrap_or_default();
        match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(_)) if uri.query().is_none() => Ok(Self(uri)),
            _ => Err(format!("\"{text}\" is no place for OTLP over HTTP: write its URL, \"http://127.0.0.1:4318\"")),
        }
    }
}

impl From<OtlpEndpoint> for String {
    fn from(endpoint: OtlpEndpoint) -> Self {
        endpoint.0.to_string()
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
        for wrong in ["", "127.0.0.1:4318", "grpc://127.0.0.1:4317", "/v1/traces"] {
            assert!(url(wrong).unwrap_err().contains("http://127.0.0.1:4318"), "{wrong}");
        }
    }
}
