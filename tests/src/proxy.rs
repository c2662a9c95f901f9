use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    select,
    sync::watch,
    time::sleep,
};

use crate::{HeldPort, eventually};

/// A network that can be broken: a TCP proxy between the services and Redis.
///
/// Each of its controls returns when the proxy obeys: what a test does then meets the network as it was told to be. It
/// runs in a thread of its own, so that a test may block.
#[derive(Debug)]
pub struct Proxy {
    port: HeldPort,
    // A task keeps the mode that it acts in, so nobody acts in an old one any longer when only we know it.
    mode: watch::Sender<Arc<Mode>>,
    loses_next_answer: Arc<AtomicBool>,
    runtime: Option<Runtime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    Slow(Duration),
    Stall,
    Cut,
    Reset,
    HalfClose,
}

impl Proxy {
    /// Starts one that passes everything to this port of the loopback interface.
    pub fn start(target_port: u16) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = HeldPort::take();
        let (mode, modes) = watch::channel(Arc::new(Mode::Pass));
        let target = SocketAddr::from(([127, 0, 0, 1], target_port));
        let listener = std::net::TcpListener::bind(port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let loses_next_answer = Arc::new(AtomicBool::new(false));
        let loses = Arc::clone(&loses_next_answer);
        runtime.spawn(async move { listen(TcpListener::from_std(listener).unwrap(), target, modes, loses).await });
        Self { port, mode, loses_next_answer, runtime: Some(runtime) }
    }

    /// The URL under which Drover finds Redis behind it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Passes everything, also what waited while it stalled. Connections that were broken stay so.
    pub fn pass(&self) {
        self.set(Mode::Pass);
    }

    /// Passes everything after so long, either way.
    pub fn slow(&self, latency: Duration) {
        self.set(Mode::Slow(latency));
    }

    /// Passes nothing. Connections stay open, new ones too, and what is sent waits.
    pub fn stall(&self) {
        self.set(Mode::Stall);
    }

    /// Closes all connections and refuses new ones.
    pub fn cut(&self) {
        self.set(Mode::Cut);
    }

    /// Resets all connections, and new ones as soon as they are made.
    pub fn reset(&self) {
        self.set(Mode::Reset);
    }

    /// Ends the answers of all connections, and of new ones: Redis gets and does what it is sent, and nobody hears of it.
    pub fn half_close(&self) {
        self.set(Mode::HalfClose);
    }

    /// Closes the connection over which the next answer comes, instead of passing that answer. Passes everything else.
    pub fn lose_next_answer(&self) {
        self.loses_next_answer.store(true, Ordering::SeqCst);
    }

    fn set(&self, mode: Mode) {
        let old = self.mode.send_replace(Arc::new(mode));
        eventually("the proxy obeys", || (Arc::strong_count(&old) == 1).then_some(()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait, which a test's own runtime does not allow.
            runtime.shutdown_background();
        }
    }
}

async fn listen(
    listener: TcpListener,
    target: SocketAddr,
    mut modes: watch::Receiver<Arc<Mode>>,
    loses_next_answer: Arc<AtomicBool>,
) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    let mut mode = Arc::clone(&modes.borrow_and_update());
    loop {
        select! {
            changed = modes.changed() => {
                if changed.is_err() {
                    return;
                }
                let next = Arc::clone(&modes.borrow_and_update());
                if *next == Mode::Cut {
                    listener = None;
                } else if listener.is_none() {
                    listener = Some(TcpListener::bind(address).await.unwrap());
                }
                mode = next;
            }
            client = accept(listener.as_ref()) => {
                let connection = Connection {
                    client,
                    target,
                    redis: None,
                    is_deaf: false,
                    loses_next_answer: Arc::clone(&loses_next_answer),
                    requests: Vec::new(),
                    answers: Vec::new(),
                };
                tokio::spawn(connection.serve(Arc::clone(&mode), modes.clone()));
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        Some(listener) => listener.accept().await.unwrap().0,
        None => std::future::pending().await,
    }
}

struct Connection {
    client: TcpStream,
    target: SocketAddr,
    redis: Option<TcpStream>,
    /// Its answers have ended.
    is_deaf: bool,
    loses_next_answer: Arc<AtomicBool>,
    // What was read and not yet written: kept here, so that forwarding may be broken off anywhere.
    requests: Vec<u8>,
    answers: Vec<u8>,
}

impl Connection {
    /// Serves until either side ends it or the mode does.
    async fn serve(self, mut mode: Arc<Mode>, mut modes: watch::Receiver<Arc<Mode>>) {
        let mut obeying = self.obey(*mode).await;
        while let Some(mut connection) = obeying {
            select! {
                biased;
                changed = modes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let next = Arc::clone(&modes.borrow_and_update());
                    obeying = connection.obey(*next).await;
                    mode = next;
                }
                _ = connection.forward(*mode) => return,
            }
        }
    }

    /// Does what the new mode does to a connection; none is left when it ends it.
    async fn obey(mut self, mode: Mode) -> Option<Self> {
        match mode {
            Mode::Pass | Mode::Slow(_) | Mode::Stall => Some(self),
            Mode::Cut => None,
            Mode::Reset => {
                // Closed without lingering, a socket sends RST.
                let _ = self.client.set_zero_linger();
                None
            }
            Mode::HalfClose => {
                self.is_deaf = true;
                self.client.shutdown().await.ok()?;
                Some(self)
            }
        }
    }

    async fn forward(&mut self, mode: Mode) -> io::Result<()> {
        if mode == Mode::Stall {
            std::future::pending::<()>().await;
        }
        let latency = if let Mode::Slow(latency) = mode { latency } else { Duration::ZERO };
        let redis = match &mut self.redis {
            Some(redis) => redis,
            none => none.insert(TcpStream::connect(self.target).await?),
        };
        let hears_answers = (!self.is_deaf).then_some(&self.client);
        let loses = || self.loses_next_answer.swap(false, Ordering::SeqCst);
        select! {
            ended = pump(&self.client, Some(redis), latency, &mut self.requests, || false) => ended,
            ended = pump(redis, hears_answers, latency, &mut self.answers, loses) => ended,
        }
    }
}

/// Copies until `from` ends, or until `loses` says that what was just read is lost; into nothing when there is no `to`.
async fn pump(
    from: &TcpStream,
    to: Option<&TcpStream>,
    latency: Duration,
    buffer: &mut Vec<u8>,
    loses: impl Fn() -> bool,
) -> io::Result<()> {
    loop {
        match to {
            None => buffer.clear(),
            Some(to) => {
                if !buffer.is_empty() && !latency.is_zero() {
                    sleep(latency).await;
                }
                while !buffer.is_empty() {
                    to.writable().await?;
                    if let Some(written) = unless_blocked(to.try_write(buffer))? {
                        buffer.drain(..written);
                    }
                }
            }
        }
        from.readable().await?;
        buffer.reserve(16 * 1024);
        match unless_blocked(from.try_read_buf(buffer))? {
            Some(0) => return Ok(()),
            Some(_) if loses() => return Ok(()),
            _ => {}
        }
    }
}

/// `None` when the socket was not ready after all.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
