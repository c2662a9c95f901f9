//! Sends a load of HTTP requests over keep-alive connections. One thread sends the load to every system in the same way, so
//! sending takes the same part of the machine from each system.

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

/// The condition that ends a load.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// The load ends after this duration.
    Elapsed(Duration),
    /// The load sends `per_second` requests a second, and ends after `duration`. The duration of a request counts from the instant at which
    /// the request is due, even if the connection is then still busy with the previous request.
    Paced { duration: Duration, per_second: f64 },
    /// The load ends when each request was sent once.
    AllSent,
}

/// The result of a load in which every request was answered with 2xx.
pub(crate) struct LoadResult {
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
    pub(crate) times: Times,
}

impl LoadResult {
    pub(crate) fn per_second(&self) -> f64 {
        to_f64(self.requests) / self.elapsed.as_secs_f64()
    }
}

/// Converts a number of items to a float.
#[expect(clippy::cast_precision_loss, reason = "no bench counts more than 2^52 items")]
pub(crate) fn to_f64(number: usize) -> f64 {
    number as f64
}

/// A `POST` request with a body of this media type.
pub(crate) fn post_request(path: &str, media_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into()
}

/// Sends the requests over this many connections, until the condition `until` is met. Each connection sends the next request
/// when the previous one is answered.
pub(crate) fn send_load(
    address: SocketAddr,
    requests: Vec<Vec<u8>>,
    connections: usize,
    until: Until,
) -> Result<LoadResult> {
    let sender_thread = thread::spawn(move || -> Result<LoadResult> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (requests, next) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)));
            let mut connection_tasks = JoinSet::new();
            let started_at = Instant::now();
            for _ in 0..connections {
                connection_tasks.spawn(run_connection(
                    address,
                    Arc::clone(&requests),
                    Arc::clone(&next),
                    started_at,
                    until,
                ));
            }
            let mut times = Times::default();
            while let Some(ended) = connection_tasks.join_next().await {
                times.append(ended??);
            }
            Ok(LoadResult { requests: times.len(), elapsed: started_at.elapsed(), times })
        })
    });
    sender_thread.join().map_err(|_| "the thread of the load panicked")?
}

async fn run_connection(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    start: Instant,
    until: Until,
) -> Result<Times> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut times, mut response) = (Times::default(), Vec::with_capacity(64 * 1_024));
    loop {
        let request_number = next.fetch_add(1, Ordering::Relaxed);
        let mut sent_at = Instant::now();
        let is_load_over = match until {
            Until::Elapsed(duration) => start.elapsed() >= duration,
            Until::Paced { duration, per_second } => {
                sent_at = start + Duration::from_secs_f64(to_f64(request_number) / per_second);
                sent_at >= start + duration
            }
            Until::AllSent => request_number >= requests.len(),
        };
        if is_load_over {
            return Ok(times);
        }
        tokio::time::sleep_until(sent_at.into()).await;
        stream.write_all(&requests[request_number % requests.len()]).await?;
        read_response(&mut stream, &mut response).await?;
        times.record(sent_at.elapsed());
    }
}

/// Reads one response to its end, and fails unless the status is 2xx.
async fn read_response(stream: &mut TcpStream, response: &mut Vec<u8>) -> Result<()> {
    response.clear();
    let head_end = loop {
        if stream.read_buf(response).await? == 0 {
            return Err("the server closed a connection".into());
        }
        if let Some(head_end) = response.windows(4).position(|window| window == b"\r\n\r\n") {
            break head_end + 4;
        }
    };
    let lowercase_head = std::str::from_utf8(&response[..head_end])?.to_ascii_lowercase();
    if !lowercase_head.starts_with("http/1.1 2") {
        return Err(format!("the request failed: {}", String::from_utf8_lossy(response)).into());
    }
    let body_length: usize = match lowercase_head.split("content-length:").nth(1) {
        Some(rest) => rest.split("\r\n").next().unwrap_or("").trim().parse()?,
        None => return Err("the response has no content-length".into()),
    };
    while response.len() < head_end + body_length {
        if stream.read_buf(response).await? == 0 {
            return Err("the server closed a connection".into());
        }
    }
    Ok(())
}
