//! The client of one connection: its address, and whether the connection may be displaced.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// The client of one connection, with state that requests and the server share. Each request has its client in its extensions, as
/// `Arc<Peer>`.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    is_trusted: AtomicBool,
    is_displaced: AtomicBool,
    /// The token that is cancelled when the connection must close. Each connection has its own child token, because the lock of
    /// a shared token would be contended.
    stopping: CancellationToken,
}

impl Peer {
    /// Creates a client that is not trusted yet. The token `stop_token` is cancelled when the connection must close after the
    /// current request.
    pub(super) fn new(address: IpAddr, stopping: CancellationToken) -> Self {
        let (is_trusted, is_displaced) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { address, is_trusted, is_displaced, stopping }
    }

    /// Returns the client's IPv4 address, or the /64 network of its IPv6 address, because one client may use all addresses of
    /// such a network.
    pub fn network(&self) -> IpAddr {
        match self.address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        }
    }

    /// Marks the client as trusted, so that its connection is not displaced. The service decides which clients it trusts, such
    /// as clients with a valid key.
    pub fn note_trusted_client(&self) {
        self.is_trusted.store(true, Ordering::Relaxed);
    }

    /// Returns whether the client is trusted.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// Closes the client's connection after the current request, because a new connection takes its place.
    pub(super) fn displace_by_new_connection(&self) {
        self.is_displaced.store(true, Ordering::Relaxed);
        self.stopping.cancel();
    }

    /// Returns whether the connection closes to make room for a new connection.
    pub(super) fn is_displaced_by_new_connection(&self) -> bool {
        self.is_displaced.load(Ordering::Relaxed)
    }

    /// Returns the token that is cancelled when the connection must close after the current request.
    pub(super) fn stop_token(&self) -> &CancellationToken {
        &self.stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_of_a_peer_is_its_ipv4_address_or_the_first_half_of_its_ipv6_address() {
        let network =
            |address: &str| Peer::new(address.parse().unwrap(), CancellationToken::new()).network().to_string();
        assert_eq!(network("192.0.2.1"), "192.0.2.1");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }
}
