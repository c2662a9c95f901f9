//! Finds the addresses of a host, of which only those are connected to that may be.

use std::net::{IpAddr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use super::networks::Networks;

/// Finds the addresses of a host, of which only those are connected to that may be: what a name means is asked once, here,
/// so it can't mean another address a moment later.
#[derive(Debug, Clone)]
pub(super) struct Resolver {
    pub(super) networks: Networks,
}

/// A host has addresses, but none that may be reached.
#[derive(Debug, thiserror::Error)]
#[error(
    "{host} is at {address}, which is no public address; to reach it all the same add its network to allowed_networks"
)]
pub(super) struct PrivateAddress {
    pub(super) host: String,
    pub(super) address: IpAddr,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let networks = self.networks.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            let (allowed, refused): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|address| networks.allow(address.ip()));
            match refused.first() {
                Some(address) if allowed.is_empty() => {
                    Err(PrivateAddress { host: name.as_str().to_owned(), address: address.ip() }.into())
                }
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}
