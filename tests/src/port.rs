use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of the loopback interface that stays one test's own, also while nobody listens on it.
///
/// It is bound but never listens, with `SO_REUSEADDR` as all servers have it: they may listen on it, and what asks for
/// any free port gets another. So a server that was killed finds its port free when it comes back.
#[derive(Debug)]
pub struct HeldPort {
    socket: TcpSocket,
}

impl HeldPort {
    /// Takes a free one.
    pub fn take() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self { socket }
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.address().port()
    }
}
