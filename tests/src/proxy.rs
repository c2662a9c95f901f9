//! A TCP proxy between the services and Redis that simulates faults of a network.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
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

use crate::{ReservedPort, eventually};

/// A TCP proxy between the services and Redis that simulates faults of a network.
///
/// A method that changes the mode returns when all connections have the new mode, so that the mode applies to the next step of
/// a test. The proxy runs in its own thread, so that a test may block.
#[derive(Debug)]
pub struct Proxy {
    port: ReservedPort,
    // The current mode. Each task of the proxy has a reference to the mode in which the task passes bytes. When `set_mode` has the only
    // reference to the old mode, no task is in the old mode any more.
    mode: watch::Sender<Arc<Mode>>,
    /// A text in the request whose answer will be lost.
    lost_request: LostRequest,
    runtime: Option<Runtime>,
}

type LostRequest = Arc<Mutex<Option<String>>>;

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
    /// Starts a proxy that passes all bytes to this port of the loopback interface.
    pub fn start(target_port: u16) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let port = ReservedPort::reserve();
        let (mode, modes) = watch::channel(Arc::new(Mode::Pass));
        let target = SocketAddr::from(([127, 0, 0, 1], target_port));
        let listener = std::net::TcpListener::bind(port.address()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let lost_request = LostRequest::default();
        let lost_text = Arc::clone(&lost_request);
        runtime.spawn(async move { listen(TcpListener::from_std(listener).unwrap(), target, modes, lost_text).await });
        Self { port, mode, lost_request, runtime: Some(runtime) }
    }

    /// Returns the port of the proxy on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Returns the URL of Redis behind the proxy.
    pub fn url(&self) -> String {
        format!("redis://{}", self.port.address())
    }

    /// Passes all bytes, including the bytes that waited during a stall. Broken connections stay broken.
    pub fn pass(&self) {
        self.set_mode(Mode::Pass);
    }

    /// Passes all bytes after a delay, in both directions.
    pub fn slow(&self, latency: Duration) {
        self.set_mode(Mode::Slow(latency));
    }

    /// Passes no bytes. All connections stay open, new connections are accepted, and bytes wait.
    pub fn stall(&self) {
        self.set_mode(Mode::Stall);
    }

    /// Closes all connections, and refuses new connections.
    pub fn cut(&self) {
        self.set_mode(Mode::Cut);
    }

    /// Resets all connections, and resets new connections as soon as they are made.
    pub fn reset(&self) {
        self.set_mode(Mode::Reset);
    }

    /// Closes all connections, including new connections, in the direction of the client: Redis executes commands, but its
    /// answers are lost.
    pub fn half_close(&self) {
        self.set_mode(Mode::HalfClose);
    }

    /// Passes the next request that contains `text`, and closes its connection instead of passing the answer. The proxy passes all other
    /// requests, and the answers to them.
    pub fn lose_answer_to(&self, text: &str) {
        *self.lost_request.lock().unwrap() = Some(text.to_owned());
    }

    fn set_mode(&self, mode: Mode) {
        let old = self.mode.send_replace(Arc::new(mode));
        eventually("the proxy has the new mode", || (Arc::strong_count(&old) == 1).then_some(()));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Dropping a Tokio runtime blocks until its tasks end, and Tokio forbids this inside another runtime.
            runtime.shutdown_background();
        }
    }
}

async fn listen(
    listener: TcpListener,
    target: SocketAddr,
    mut modes: watch::Receiver<Arc<Mode>>,
    lost_request: LostRequest,
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
                let next_modes = Arc::clone(&modes.borrow_and_update());
                if *next_modes == Mode::Cut {
                    listener = None;
                } else if listener.is_none() {
                    listener = Some(TcpListener::bind(address).await.unwrap());
                }
                mode = next_modes;
            }
            client = accept_connection(listener.as_ref()) => {
                let connection = Connection {
                    client,
                    target,
                    redis: None,
                    answers_are_dropped: false,
                    lost_request: Arc::clone(&lost_request),
                    next_answer_is_lost: AtomicBool::new(false),
                    requests: Vec::new(),
                    answers: Vec::new(),
                };
                tokio::spawn(connection.serve_connection(Arc::clone(&mode), modes.clone()));
            }
        }
    }
}

async fn accept_connection(listener: Option<&TcpListener>) -> TcpStream {
    match listener {
        Some(listener) => listener.accept().await.unwrap().0,
        None => std::future::pending().await,
    }
}

struct Connection {
    client: TcpStream,
    target: SocketAddr,
    redis: Option<TcpStream>,
    /// Whether answers of Redis no longer reach the client.
    answers_are_dropped: bool,
    lost_request: LostRequest,
    next_answer_is_lost: AtomicBool,
    // The bytes that were read but not yet written, which are kept even if forwarding is interrupted.
    requests: Vec<u8>,
    answers: Vec<u8>,
}

impl Connection {
    /// Forwards bytes until either side or a mode ends the connection.
    async fn serve_connection(self, mut mode: Arc<Mode>, mut modes: watch::Receiver<Arc<Mode>>) {
        let mut open_connection = self.apply_mode(*mode).await;
        while let Some(mut connection) = open_connection {
            select! {
                biased;
                changed = modes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let next_modes = Arc::clone(&modes.borrow_and_update());
                    open_connection = connection.apply_mode(*next_modes).await;
                    mode = next_modes;
                }
                _ = connection.forward(*mode) => return,
            }
        }
    }

    /// Applies a new mode to the connection. Returns `None` if the proxy's new mode ends the connection.
    async fn apply_mode(mut self, mode: Mode) -> Option<Self> {
        match mode {
            Mode::Pass | Mode::Slow(_) | Mode::Stall => Some(self),
            Mode::Cut => None,
            Mode::Reset => {
                // A socket that is closed without lingering sends RST.
                let _ = self.client.set_zero_linger();
                None
            }
            Mode::HalfClose => {
                self.answers_are_dropped = true;
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
        let answer_receiver = (!self.answers_are_dropped).then_some(&self.client);
        let contains_lost_text = |request: &[u8]| {
            let mut lost_text = self.lost_request.lock().unwrap();
            let found_text = lost_text.take_if(|text| request.windows(text.len()).any(|part| part == text.as_bytes()));
            self.next_answer_is_lost.fetch_or(found_text.is_some(), Ordering::SeqCst);
            false
        };
        let is_lost = |_: &[u8]| self.next_answer_is_lost.load(Ordering::SeqCst);
        select! {
            ended = copy_bytes(&self.client, Some(redis), latency, &mut self.requests, contains_lost_text) => ended,
            ended = copy_bytes(redis, answer_receiver, latency, &mut self.answers, is_lost) => ended,
        }
    }
}

/// Copies bytes from `from` to `to` until `from` ends, or until `is_lost` returns true. If `to` is `None`, the bytes that were read from
/// `from` are dropped.
async fn copy_bytes(
    from: &TcpStream,
    to: Option<&TcpStream>,
    latency: Duration,
    buffer: &mut Vec<u8>,
    is_lost: impl Fn(&[u8]) -> bool,
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
            Some(_) if is_lost(buffer) => return Ok(()),
            _ => {}
        }
    }
}

/// Converts the error of a socket that was not ready to `None`.
fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
