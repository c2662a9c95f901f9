//! A port that belongs to one test.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A reserved port of the loopback interface. No other program gets the port, even while no server listens on it.
///
/// The socket is bound but never listens, and has `SO_REUSEADDR`, as the sockets of servers have. `SO_REUSEADDR` lets a server listen on
/// the reserved port. Because the socket is bound, a program that asks for any free port gets another port. A server that was killed can
/// use its port again.
#[derive(Debug)]
pub struct ReservedPort {
    socket: TcpSocket,
}

impl ReservedPort {
    /// Reserves a free port.
    pub fn reserve() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { socket }
    }

    /// Returns the address of the port.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Returns the number of the port.
    pub fn number(&self) -> u16 {
        self.address().port()
    }
}
