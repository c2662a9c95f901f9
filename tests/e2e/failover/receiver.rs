//! The HTTP server that gets the requests of a worker's handler `http`, and records each request in the account of the load.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

use super::{account::Account, load::HANDLING_TIME};

/// An HTTP server that completes each message after a moment.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Starts a server that receives the messages of these queues from a worker.
    pub(super) async fn start(queues: Vec<String>, account: Arc<Mutex<Account>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let queues = Arc::new(queues);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&queues), Arc::clone(&account)));
            }
        });
        Self { address, task }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, queues: Arc<Vec<String>>, account: Arc<Mutex<Account>>) {
    let mut received_bytes = Vec::new();
    loop {
        let head_end = loop {
            if let Some(end) = received_bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut received_bytes).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let request_head = String::from_utf8(received_bytes[..head_end].to_vec()).unwrap();
        let header = |name: &str| {
            let is_named = |line: &&str| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
            request_head.lines().find(is_named).unwrap()[name.len()..].trim_start_matches(':').trim()
        };
        let length: usize = header("content-length").parse().unwrap();
        while received_bytes.len() < head_end + length {
            if stream.read_buf(&mut received_bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let number = std::str::from_utf8(&received_bytes[head_end..head_end + length]).unwrap().parse().unwrap();
        let queue = queues.iter().position(|queue| queue == header("drover-queue")).unwrap();
        account.lock().unwrap().record_delivery(queue, header("drover-message-id").to_owned(), number);
        received_bytes.drain(..head_end + length);
        sleep(HANDLING_TIME).await;
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull").await.is_err() {
            return;
        }
    }
}
