//! The networks that requests may connect to, and a DNS resolver that removes all other addresses of a host.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::LazyLock,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

/// The networks that IANA's registry of special-purpose addresses does not mark as global (including tunnels such as Teredo and
/// 6to4), and 168.63.129.16, which Azure uses for its own services.
static SPECIAL_NETWORKS: LazyLock<Vec<IpNet>> = LazyLock::new(|| {
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 \
     192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32 \
     2001::/23 2001:db8::/32 2002::/16 3fff::/20"
        .split_whitespace()
        .map(parse_network)
        .collect()
});
/// The network that contains all global IPv6 addresses, but also IPv6 addresses that are not global.
static GLOBAL_V6: LazyLock<IpNet> = LazyLock::new(|| parse_network("2000::/3"));
/// The network of IPv6 addresses that represent IPv4 addresses in IPv6-only networks (NAT64).
static NAT64: LazyLock<IpNet> = LazyLock::new(|| parse_network("64:ff9b::/96"));

fn parse_network(text: &str) -> IpNet {
    text.parse().expect("a network is written as an address and a length")
}

/// The addresses that requests may connect to.
#[derive(Debug, Clone)]
pub(super) enum Networks {
    /// Requests may connect to any address: the configuration, and not a message, contains the URL.
    All,
    /// Requests may connect to addresses of the public internet and of the listed networks.
    PublicAnd(Vec<IpNet>),
}

impl Networks {
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::PublicAnd(networks) => {
                // A connection to an IPv4-mapped IPv6 address goes to the IPv4 address.
                let address = address.to_canonical();
                is_public(address) || networks.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V6(v6) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = v6.octets();
            is_public(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(_) if !GLOBAL_V6.contains(&address) => false,
        _ => !SPECIAL_NETWORKS.iter().any(|network| network.contains(&address)),
    }
}

/// Resolves host names to addresses that requests may connect to. The client connects to the checked addresses, so a second
/// DNS answer can't replace them (DNS rebinding).
#[derive(Debug, Clone)]
pub(super) struct Resolver(pub(super) Networks);

/// The error for a host of which no address is allowed.
#[derive(Debug, thiserror::Error)]
#[error("{host} is at {address}, which is not a public address; to allow it, add its network to allowed_networks")]
pub(super) struct PrivateAddress {
    pub(super) host: String,
    pub(super) address: IpAddr,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.0.clone();
        Box::pin(async move {
            let found_addresses: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found_addresses.into_iter().partition(|address| networks.allows(address.ip()));
            match refused.first() {
                Some(address) if allowed.is_empty() => {
                    Err(PrivateAddress { host: name.as_str().to_owned(), address: address.ip() }.into())
                }
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_may_connect_only_to_public_addresses_and_listed_networks() {
        let public_networks = Networks::PublicAnd(Vec::new());
        for address in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"]
        {
            assert!(public_networks.allows(address.parse().unwrap()), "{address}");
        }
        let private_addresses = "0.0.0.0 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254 172.16.0.1 \
                       172.31.255.255 192.168.1.1 198.19.0.1 224.0.0.1 255.255.255.255 168.63.129.16 :: ::1 ::127.0.0.1 \
                       ::ffff:127.0.0.1 ::ffff:a9fe:a9fe 64:ff9b::10.0.0.1 64:ff9b:1::1 fc00::1 fd00:ec2::254 fe80::1 \
                       fec0::1 ff02::1 2001::1 2001:db8::1 2002:7f00:1::";
        for address in private_addresses.split_whitespace() {
            assert!(!public_networks.allows(address.parse().unwrap()), "{address}");
            assert!(Networks::All.allows(address.parse().unwrap()), "{address}");
        }
        let public_and_two_networks =
            Networks::PublicAnd(vec!["10.1.0.0/16".parse().unwrap(), "127.0.0.1/32".parse().unwrap()]);
        for (address, allowed) in
            [("10.1.2.3", true), ("10.2.0.1", false), ("::ffff:10.1.2.3", true), ("127.0.0.1", true), ("1.1.1.1", true)]
        {
            assert_eq!(public_and_two_networks.allows(address.parse().unwrap()), allowed, "{address}");
        }
    }
}
