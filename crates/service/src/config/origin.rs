//! The origins whose pages may call the API.

use axum::http::{HeaderValue, Uri};
use serde::{Deserialize, Serialize};

/// Where a web page comes from, as browsers write it: `https://example.org`, `http://localhost:3000`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(HeaderValue);

impl Origin {
    /// As it stands in the header `Origin`.
    pub fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}

impl TryFrom<String> for Origin {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let uri = text.parse::<Uri>().unwrap_or_default();
        let as_written = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority)) if !authority.as_str().contains('@') => {
                Some(format!("{scheme}://{authority}").to_ascii_lowercase())
            }
            _ => None,
        };
        match HeaderValue::try_from(&text) {
            Ok(value) if as_written.is_some_and(|origin| origin == text) => Ok(Self(value)),
            // Not *: it would open a queue without keys to every page that somebody on this machine looks at.
            _ => Err("not an origin: write it as browsers do, \"https://example.org\", one for each"),
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0.to_str().unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_scheme_a_host_and_perhaps_a_port() {
        for text in ["https://example.org", "http://localhost:3000", "http://[::1]:80"] {
            assert_eq!(String::from(Origin::try_from(text.to_owned()).unwrap()), text);
        }
        for text in
            ["*", "null", "", "example.org", "https://example.org/", "https://Example.org", "ftp://a", "https://u@a"]
        {
            let error = Origin::try_from(text.to_owned()).unwrap_err();
            assert!(error.contains("as browsers do"), "{error}");
        }
    }
}
