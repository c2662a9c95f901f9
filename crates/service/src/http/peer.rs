//! The other end of a connection, as far as requests and the server tell each other of it: where it is, whether it has proven
//! itself, and whether its connection must end.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// The client of one connection. Each of its requests has it in its extensions, as `Arc<Peer>`.
#[derive(Debug)]
pub struct Peer {
    address: IpAddr,
    is_trusted: AtomicBool,
    is_displaced: AtomicBool,
    /// A token of its own: connections that shared one would wait for each other at its lock.
    stopping: CancellationToken,
}

impl Peer {
    /// A client that has proven nothing yet. `stopping` is cancelled when no other request of its connection is to be answered.
    pub(super) fn new(address: IpAddr, stopping: CancellationToken) -> Self {
        let (is_trusted, is_displaced) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { address, is_trusted, is_displaced, stopping }
    }

    /// Where it connects from. Of an IPv6 address only the network (the first 64 bits) is told: one client may have all the
    /// others in it.
    pub fn network(&self) -> IpAddr {
        match self.address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
            address @ IpAddr::V4(_) => address,
        }
    }

    /// Keeps its connection from being closed to make room for another one. The service decides what a proof is, such as a
    /// valid key.
    pub fn note_trusted(&self) {
        self.is_trusted.store(true, Ordering::Relaxed);
    }

    /// Whether it was ever trusted.
    pub fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// Ends its connection, after the request under way.
    pub(super) fn displace(&self) {
        self.is_displaced.store(true, Ordering::Relaxed);
        self.stopping.cancel();
    }

    /// Whether its connection must make room for another one.
    pub(super) fn is_displaced(&self) -> bool {
        self.is_displaced.load(Ordering::Relaxed)
    }

    /// Cancelled when the request under way is the last.
    pub(super) fn stopping(&self) -> &CancellationToken {
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
