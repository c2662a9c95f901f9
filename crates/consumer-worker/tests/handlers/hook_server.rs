//! A receiver of webhooks for tests: a server on a real socket, whose answers a test decides.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use consumer_worker::{Outcome, Routes, TestJob};
use serde_json::{Value, json};

use crate::routes;

/// A request that a receiver got.
pub(crate) struct ReceivedRequest {
    pub(crate) line: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

/// A receiver that answers each request with the same bytes.
pub(crate) struct HookServer {
    pub(crate) address: SocketAddr,
    pub(crate) requests: Receiver<ReceivedRequest>,
    pub(crate) connection_count: Arc<AtomicUsize>,
}

impl HookServer {
    pub(crate) fn with_answer(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream| stream.write_all(&answer).is_ok())
    }

    /// Starts a receiver. `answer` writes the answer to each request, and returns whether the connection stays open.
    pub(crate) fn start(answer: impl Fn(&TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, connection_count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let (sender, requests) = channel();
        let (answer, count) = (Arc::new(answer), Arc::clone(&connection_count));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let (sender, answer) = (sender.clone(), Arc::clone(&answer));
                thread::spawn(move || serve(&stream, &sender, &*answer));
            }
        });
        Self { address, requests, connection_count }
    }

    pub(crate) fn routes(&self, other_keys: &Value) -> Routes {
        let mut handler = json!({"type": "http", "url": format!("http://{}/hook?a=1", self.address)});
        handler.as_object_mut().unwrap().extend(other_keys.as_object().unwrap().clone());
        routes(&handler)
    }

    pub(crate) async fn post(&self) -> Outcome {
        self.post_with_keys(&json!({})).await
    }

    pub(crate) async fn post_with_keys(&self, other_keys: &Value) -> Outcome {
        self.routes(other_keys).handle(TestJob::new("q", &json!({"n": 1})).job()).await
    }
}

/// Reads requests and calls `answer` for each, until either side closes the connection.
fn serve(stream: &TcpStream, sender: &Sender<ReceivedRequest>, answer: &dyn Fn(&TcpStream) -> bool) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let mut headers = BTreeMap::new();
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let Some((name, value)) = header.trim_end().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers["content-length"].parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        // Sending the request to the test fails if the test has ended.
        let _ = sender.send(ReceivedRequest {
            line: line.trim_end().to_owned(),
            headers,
            body: String::from_utf8(body).unwrap(),
        });
        if !answer(stream) {
            return;
        }
    }
}

pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}
