//! The addresses that the configuration names: of listeners, of web pages, of servers and of files. Logs and errors mask the
//! parts of an address that may be secrets.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use axum::http::{HeaderValue, Uri};
use base64::{Engine, engine::general_purpose::STANDARD};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;

/// A host and a port to listen on: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `api.internal:8080`.
///
/// A host name is resolved when the service starts to listen; `localhost` and names that end with `.localhost` are always
/// 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct BindAddress(String);

impl BindAddress {
    /// Returns whether only this machine can reach the address, because the address is a loopback address or `localhost`. A
    /// host name other than `localhost` and names that end with `.localhost` counts as reachable by other machines.
    pub fn is_loopback(&self) -> bool {
        self.0.parse::<SocketAddr>().map_or_else(|_| self.is_localhost(), |address| address.ip().is_loopback())
    }

    /// Returns the host and the port in the form that is passed to the system's resolver.
    pub(crate) fn host_and_port_to_resolve(&self) -> String {
        let port = self.0.rsplit(':').next().unwrap_or_default();
        if self.is_localhost() { format!("{}:{port}", Ipv4Addr::LOCALHOST) } else { self.0.clone() }
    }

    fn is_localhost(&self) -> bool {
        let name = self.0.rsplit_once(':').map_or_else(String::new, |(name, _)| name.to_ascii_lowercase());
        name == "localhost" || name.ends_with(".localhost")
    }
}

impl TryFrom<String> for BindAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        const EXPECTED_ADDRESS: &str =
            "expected a host and a port, such as \"127.0.0.1:8080\", \"localhost:8080\" or \"[::1]:8080\"";
        if text.parse::<SocketAddr>().is_ok() {
            return Ok(Self(text));
        }
        let (name, port) = text.rsplit_once(':').ok_or(EXPECTED_ADDRESS)?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            && name.bytes().any(|byte| byte.is_ascii_alphabetic());
        let is_port = port.parse::<u16>().is_ok() && port.bytes().all(|byte| byte.is_ascii_digit());
        if is_name && is_port { Ok(Self(text)) } else { Err(EXPECTED_ADDRESS) }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The origin of web pages in the form that browsers use: `https://example.org`, `http://localhost:3000`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(HeaderValue);

impl Origin {
    /// Returns the value of the header `Origin`.
    pub fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}

impl TryFrom<String> for Origin {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let uri = text.parse::<Uri>().unwrap_or_default();
        let normalized_origin = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority)) if !authority.as_str().contains('@') => {
                Some(format!("{scheme}://{authority}").to_ascii_lowercase())
            }
            _ => None,
        };
        match HeaderValue::try_from(&text) {
            Ok(value) if normalized_origin.is_some_and(|origin| origin == text) => Ok(Self(value)),
            // The origin `*` is refused: without API keys, every web page that is open on this machine could use the API.
            _ => Err("not an origin: write each origin as browsers do, such as \"https://example.org\""),
        }
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0.to_str().unwrap_or_default().to_owned()
    }
}

/// An http or https URL. Logs and errors mask the user, the password and the query of the URL.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// Returns the whole URL, secrets included.
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // The error does not repeat the invalid URL, which may contain a password.
        let url = Url::parse(&text).map_err(|error| format!("{error}; write it as https://example.org/hook"))?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            _ => Err("requests are sent to http:// or https://, and to nothing else".into()),
        }
    }
}

impl fmt::Debug for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask_secrets(self.0.clone()))
    }
}

impl Serialize for HttpUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

/// The URL of a collector that takes OTLP over HTTP: `http://127.0.0.1:4318`, or with a path. Logs and errors mask the user and
/// the password of the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "HttpUrl")]
pub struct OtlpEndpoint(HttpUrl);

impl OtlpEndpoint {
    /// The path of the URL for traces that the OTLP specification defines.
    const TRACES_PATH: &str = "/v1/traces";

    /// Returns the URL that traces are posted to, without user and password. If the URL has no path, the path for traces
    /// that the OTLP specification defines is added.
    pub fn url(&self) -> String {
        let mut url = self.0.expose().clone();
        // `set_username` and `set_password` can't fail, because an http URL has a host.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if url.path() == "/" {
            url.set_path(Self::TRACES_PATH);
        }
        url.into()
    }

    /// Returns the user and the password of the URL as the value of the header `authorization`. The user and the password are
    /// not sent in the URL, because libraries log URLs.
    pub fn authorization(&self) -> Option<String> {
        let url: &Url = self.0.expose();
        let password = url.password().unwrap_or_default();
        if url.username().is_empty() && password.is_empty() {
            return None;
        }
        let mut credentials: Vec<u8> = percent_decode_str(url.username()).collect();
        credentials.push(b':');
        credentials.extend(percent_decode_str(password));
        Some(format!("Basic {}", STANDARD.encode(credentials)))
    }
}

impl TryFrom<HttpUrl> for OtlpEndpoint {
    type Error = &'static str;

    fn try_from(url: HttpUrl) -> Result<Self, &'static str> {
        if url.expose().query().or(url.expose().fragment()).is_some() {
            return Err("not an OTLP endpoint: write its URL without a query, \"http://127.0.0.1:4318\"");
        }
        Ok(Self(url))
    }
}

/// The text that is shown instead of a secret.
pub(super) const HIDDEN_TEXT: &str = "***";

/// Returns a URL with its secrets masked.
pub(super) fn mask_secrets(mut url: Url) -> String {
    if !url.username().is_empty() || url.password().is_some() {
        // `set_username` and `set_password` can't fail, because a URL with a user has a host.
        let _ = url.set_username(HIDDEN_TEXT);
        let _ = url.set_password(None);
    }
    if url.query().is_some() {
        url.set_query(Some(HIDDEN_TEXT));
    }
    url.set_fragment(None);
    url.into()
}

/// The path of a file. Logs and errors show the path if it begins like a path or the file exists. A text that does not look
/// like a path is masked, because it may be a misplaced secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct FilePath(PathBuf);

impl FilePath {
    /// Returns the path if logs and errors may show the path.
    fn displayable_path(&self) -> Option<&str> {
        let text = self.0.to_str()?;
        let begins_like_a_path = ["/", "./", "../"].iter().any(|beginning| text.starts_with(beginning));
        let may_be_a_path = !text.contains(char::is_control) && (begins_like_a_path || self.0.exists());
        may_be_a_path.then_some(text)
    }
}

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl fmt::Display for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            self.displayable_path()
                .unwrap_or("*** (not shown: there is no such file, and it does not begin with / or ./)"),
        )
    }
}

impl fmt::Debug for FilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.displayable_path().unwrap_or(HIDDEN_TEXT))
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.displayable_path().unwrap_or(HIDDEN_TEXT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_address_is_an_address_or_a_name_with_a_port() {
        for (text, is_loopback, resolved) in [
            ("127.0.0.1:8080", true, "127.0.0.1:8080"),
            ("[::1]:80", true, "[::1]:80"),
            ("localhost:8080", true, "127.0.0.1:8080"),
            ("api.localhost:0", true, "127.0.0.1:0"),
            ("0.0.0.0:8080", false, "0.0.0.0:8080"),
            ("api.internal:8080", false, "api.internal:8080"),
        ] {
            let address = BindAddress::try_from(text.to_owned()).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (text, is_loopback));
            assert_eq!(address.host_and_port_to_resolve(), resolved);
        }
        for bad in
            ["", "8080", ":8080", "localhost", "localhost:", "localhost:+1", "a b:1", "u:hunter2@a:1", "127.0.0:1"]
        {
            let error = BindAddress::try_from(bad.to_owned()).unwrap_err();
            assert!(error.contains("localhost:8080"), "{bad}: {error}");
        }
    }

    #[test]
    fn origin_is_a_scheme_a_host_and_an_optional_port() {
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

    #[test]
    fn http_url_is_shown_without_its_secrets() {
        let shown_url = |text: &str| HttpUrl::try_from(text.to_owned()).map(|url| format!("{url:?}"));
        assert_eq!(shown_url("http://127.0.0.1:9000/hook").unwrap(), "http://127.0.0.1:9000/hook");
        assert_eq!(shown_url("https://me:hunter2@Example.org/a?key=1#f").unwrap(), "https://***@example.org/a?***");
        for (bad, reported) in [
            ("ftp://example.org", "http:// or https://"),
            ("example.org/hook", "write it as"),
            ("https://", "write it as"),
        ] {
            let error = shown_url(bad).unwrap_err();
            assert!(error.contains(reported), "{error}");
        }
    }

    #[test]
    fn otlp_endpoint_without_a_path_gets_the_path_of_the_specification() {
        let endpoint = |text: &str| OtlpEndpoint::try_from(HttpUrl::try_from(text.to_owned()).unwrap());
        let url = |text: &str| endpoint(text).map(|endpoint| endpoint.url());
        assert_eq!(url("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(url("https://otel.example.org/").unwrap(), "https://otel.example.org/v1/traces");
        assert_eq!(url("https://otel.example.org/mine").unwrap(), "https://otel.example.org/mine");
        let endpoint_with_password = endpoint("https://me:p%40ss@otel.example.org").unwrap();
        assert_eq!(endpoint_with_password.url(), "https://otel.example.org/v1/traces");
        assert_eq!(endpoint_with_password.authorization().unwrap(), format!("Basic {}", STANDARD.encode("me:p@ss")));
        assert_eq!(format!("{endpoint_with_password:?}"), "OtlpEndpoint(https://***@otel.example.org/)");
        assert!(url("http://127.0.0.1:4318/?a=1").unwrap_err().contains("without a query"));
    }

    #[test]
    fn text_that_does_not_look_like_a_path_is_not_shown() {
        let shown_path = |text: &str| {
            let path = FilePath(text.into());
            assert_eq!(format!("{path:?}"), serde_json::to_value(&path).unwrap());
            format!("{path:?} {path}")
        };
        // Tests run in the folder of the crate, so `Cargo.toml` is an existing file.
        for path in ["/nowhere/keys.toml", "./keys.toml", "../keys.toml", "Cargo.toml"] {
            assert_eq!(shown_path(path), format!("{path} {path}"));
        }
        for secret in
            ["hunter2", "drv_ops_hunter2", "whsec_hunter2/a", "-----BEGIN PRIVATE KEY-----\nhunter2", "/\nhunter2"]
        {
            assert!(
                shown_path(secret).starts_with("*** ***") && !shown_path(secret).contains("hunter2"),
                "{}",
                shown_path(secret)
            );
        }
    }
}
