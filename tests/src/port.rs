//! A port that belongs to one test.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A reserved port of the loopback interface: no other program gets it, also while no server listens on it.
///
/// The socket is bound and never listens, with `SO_REUSEADDR` as servers have it. So a server may listen on the port, and a
/// program that wants any free port gets another one. A server that was killed finds its port free at its restart.
#[derive(Debug)]
pub struct HeldPort {
    socket: TcpSocket,
}

impl HeldPort {
    /// Reserves a free port.
    pub fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { socket }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address().port()
    }
}
