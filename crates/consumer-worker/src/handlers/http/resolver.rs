use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use tokio::net::lookup_host;
use tower::Service;

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

impl Service<Name> for Resolver {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let networks = self.networks.clone();
        Box::pin(async move {
            let mut refused = None;
            let mut allowed: Vec<SocketAddr> = Vec::new();
            for address in lookup_host((name.as_str(), 0)).await? {
                if networks.allow(address.ip()) {
                    allowed.push(address);
                } else {
                    refused = Some(address.ip());
                }
            }
            match refused {
                Some(address) if allowed.is_empty() => {
                    Err(io::Error::other(PrivateAddress { host: name.as_str().to_owned(), address }))
                }
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}
