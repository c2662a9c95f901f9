//! A load of HTTP requests over connections that are kept. One thread makes it, the same for every system, so its cost
//! falls on all alike.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime,
    task::JoinSet,
};

use crate::{Result, times::Times};

/// When a load is over.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After so long.
    Over(Duration),
    /// When each request was sent once.
    AllSent,
}

/// What came of a load. Every request was answered 2xx.
pub(crate) struct Loaded {
    pub(crate) requests: usize,
    pub(crate) took: Duration,
    pub(crate) times: Times,
}

impl Loaded {
    pub(crate) fn per_second(&self) -> f64 {
        count(self.requests) / self.took.as_secs_f64()
    }
}

/// A number of things as a quantity.
#[expect(clippy::cast_precision_loss, reason = "no bench counts beyond 2^52")]
pub(crate) fn count(things: usize) -> f64 {
    things as f64
}

/// A `POST` of JSON, or of what `media_type` says.
pub(crate) fn post(path: &str, media_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into()
}

/// Sends the requests one after the other over each of so many connections, all of them in turn.
pub(crate) fn send(address: SocketAddr, requests: Vec<Vec<u8>>, connections: usize, until: Until) -> Result<Loaded> {
    let sending = thread::spawn(move || -> Result<Loaded> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
            let mut clients = JoinSet::new();
            let start = Instant::now();
            for _ in 0..connections {
                clients.spawn(client(address, Arc::clone(&requests), Arc::clone(&next), start, until));
            }
            let mut times = Times::default();
            while let Some(ended) = clients.join_next().await {
                times.append(ended??);
            }
            Ok(Loaded { requests: times.len(), took: start.elapsed(), times })
        })
    });
    sending.join().map_err(|_| "the load broke")?
}

async fn client(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    start: Instant,
    until: Until,
) -> Result<Times> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut answer) = (Times::default(), Vec::with_capacity(64 * 1_024));
    loop {
        let turn = next.fetch_add(1, Ordering::Relaxed);
        let is_over = match until {
            Until::Over(duration) => start.elapsed() >= duration,
            Until::AllSent => turn >= requests.len(),
        };
        if is_over {
            return Ok(times);
        }
        let sent = Instant::now();
        stream.write_all(&requests[turn % requests.len()]).await?;
        read_answer(&mut stream, &mut answer).await?;
        times.note(sent.elapsed());
    }
}

/// Reads one answer to its end; errs unless it is 2xx.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> Result<()> {
    answer.clear();
    let end = loop {
        if stream.read_buf(answer).await? == 0 {
            return Err("the server closed a connection".into());
        }
        if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 2") {
        return Err(format!("not a success: {}", String::from_utf8_lossy(answer)).into());
    }
    let length: usize = match head.split("content-length:").nth(1) {
        Some(rest) => rest.split("\r\n").next().unwrap_or("").trim().parse()?,
        None => return Err("an answer without a length".into()),
    };
    while answer.len() < end + length {
        if stream.read_buf(answer).await? == 0 {
            return Err("the server closed a connection".into());
        }
    }
    Ok(())
}
