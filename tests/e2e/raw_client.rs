//! An HTTP client on a bare socket, which can send and read any bytes at any time.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use drover_tests::TIME_LIMIT;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::System;

pub(crate) const LIVEZ_REQUEST: &str = "GET /livez HTTP/1.1\r\nhost: a\r\n\r\n";

pub(crate) struct RawClient<S = TcpStream> {
    pub(crate) stream: S,
    /// The bytes that were received but not parsed yet.
    received: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with_stream(TcpStream::connect(address).await.unwrap())
    }
}

impl System {
    /// Opens a connection to the API.
    pub(crate) async fn connect(&self) -> RawClient {
        RawClient::connect(self.api_port.address()).await
    }

    /// Opens a connection from 127.0.0.`last_byte`. The kernel keeps only a few KiB that this client has not read.
    pub(crate) async fn connect_from(&self, last_byte: u8) -> RawClient {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, last_byte), 0).into()).unwrap();
        RawClient::with_stream(socket.connect(self.api_port.address()).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> RawClient<S> {
    pub(crate) fn with_stream(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may close the connection during the send; then the answer of the server has the reason.
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Sends a request and returns the answer.
    pub(crate) async fn request(&mut self, request: &str) -> Answer {
        self.send(request).await;
        self.answer().await
    }

    /// Waits for the next answer, and returns it.
    pub(crate) async fn answer(&mut self) -> Answer {
        timeout(TIME_LIMIT, self.next_answer()).await.expect("the server answers in time").expect("an answer")
    }

    /// Waits for the next answer for at most `time`, and returns the answer if it arrives.
    pub(crate) async fn wait_for_answer_within(&mut self, time: Duration) -> Option<Answer> {
        timeout(time, self.next_answer()).await.ok().flatten()
    }

    /// Waits until the server requests the body with `100 Continue`.
    pub(crate) async fn wait_for_continue(&mut self) {
        const CONTINUE_ANSWER: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
        let receive_answer = async {
            while !self.received.starts_with(CONTINUE_ANSWER) {
                assert!(self.read_more().await, "the server requests the body");
            }
        };
        timeout(TIME_LIMIT, receive_answer).await.expect("the server requests the body");
        self.received.drain(..CONTINUE_ANSWER.len());
    }

    async fn next_answer(&mut self) -> Option<Answer> {
        loop {
            if let Some(answer) = self.parse() {
                return Some(answer);
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// Waits until the server closes the connection. Returns the answers that arrived before the close; each answer must have a
    /// `content-length`.
    pub(crate) async fn read_until_closed(&mut self) -> Vec<Answer> {
        let wait_for_close = async { while self.read_more().await {} };
        timeout(TIME_LIMIT, wait_for_close).await.expect("the server closes the connection");
        std::iter::from_fn(|| self.parse()).collect()
    }

    /// Returns the number of received bytes that were not returned as an answer.
    pub(crate) fn unparsed_bytes(&self) -> usize {
        self.received.len()
    }

    /// Reads more bytes. Returns whether bytes arrived before the end of the stream; a reset is an end of the stream, too.
    async fn read_more(&mut self) -> bool {
        self.stream.read_buf(&mut self.received).await.is_ok_and(|bytes| bytes > 0)
    }

    fn parse(&mut self) -> Option<Answer> {
        let head_end = self.received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let response_head = String::from_utf8(self.received[..head_end].to_vec()).unwrap().to_ascii_lowercase();
        let body_length: usize = response_head.split("content-length: ").nth(1)?.lines().next()?.parse().unwrap();
        if self.received.len() < head_end + body_length {
            return None;
        }
        let following_bytes = self.received.split_off(head_end + body_length);
        let answer = std::mem::replace(&mut self.received, following_bytes);
        let status = response_head.split(' ').nth(1)?.parse().unwrap();
        Some(Answer { status, head: response_head, body: String::from_utf8_lossy(&answer[head_end..]).into_owned() })
    }
}
