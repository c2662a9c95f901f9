//! Where a service listens: an address of this machine, or a host name, with a port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Serialize};

/// A host and a port: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, `api.internal:8080`.
///
/// A name is resolved when the service starts to listen, but `localhost` (and what ends with `.localhost`) is always
/// 127.0.0.1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BindAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Address(IpAddr),
    Name(String),
}

impl BindAddress {
    /// Whether only this machine reaches it, as far as the text tells: a name is taken for one that others reach.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Address(address) => address.is_loopback(),
            Host::Name(name) => is_localhost(name),
        }
    }

    /// The host as the system resolves it, and the port.
    pub(crate) fn host_and_port(&self) -> (String, u16) {
        let host = match &self.host {
            Host::Name(name) if is_localhost(name) => Ipv4Addr::LOCALHOST.to_string(),
            Host::Name(name) => name.clone(),
            Host::Address(address) => address.to_string(),
        };
        (host, self.port)
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

impl TryFrom<String> for BindAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        const EXPECTED: &str =
            "expected a host and a port, such as \"127.0.0.1:8080\", \"localhost:8080\" or \"[::1]:8080\"";
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Host::Address(address.ip()), port: address.port() });
        }
        let (name, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
            && name.bytes().any(|byte| byte.is_ascii_alphabetic());
        let port = port.parse().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
        match port {
            Some(port) if is_name => Ok(Self { host: Host::Name(name.to_owned()), port }),
            _ => Err(EXPECTED),
        }
    }
}

impl From<BindAddress> for String {
    fn from(address: BindAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_address_is_an_address_or_a_name_with_a_port() {
        for (text, is_loopback) in [
            ("127.0.0.1:8080", true),
            ("[::1]:80", true),
            ("localhost:8080", true),
            ("api.localhost:0", true),
            ("0.0.0.0:8080", false),
            ("api.internal:8080", false),
        ] {
            let address = BindAddress::try_from(text.to_owned()).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_loopback()), (text, is_loopback));
        }
        for bad in
            ["", "8080", ":8080", "localhost", "localhost:", "localhost:+1", "a b:1", "u:hunter2@a:1", "127.0.0:1"]
        {
            let error = BindAddress::try_from(bad.to_owned()).unwrap_err();
            assert!(error.contains("localhost:8080"), "{bad}: {error}");
        }
    }
}
