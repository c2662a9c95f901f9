//! A page of the chat without a browser: the WebSocket of one user.

use std::time::Duration;

use drover_tests::TIME_LIMIT;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, protocol::CloseFrame},
};

use super::Chat;

/// The events that a page gets from its connection.
#[derive(Debug)]
pub(super) enum Event {
    Frame(Value),
    /// The connection has ended. The value of `Closed` is the close frame, if the server has sent a close frame.
    Closed(Option<CloseFrame>),
}

pub(super) struct Page(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Page {
    /// Connects a user to the chat server at this address.
    pub(super) async fn connect(address: &str, user: &str) -> Result<Self, Error> {
        let (socket, _) = connect_async(format!("ws://{address}/ws?user={user}")).await?;
        Ok(Self(socket))
    }

    /// Connects a user as soon as the chat server listens.
    pub(super) async fn open(chat: &Chat, user: &str) -> Self {
        let address = chat.port.address().to_string();
        timeout(TIME_LIMIT, async {
            loop {
                if let Ok(page) = Self::connect(&address, user).await {
                    return page;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the chat server accepts connections")
    }

    /// Sends a frame, or returns an error if the connection has ended.
    pub(super) async fn send(&mut self, frame: &Value) -> Result<(), Error> {
        self.0.send(Message::text(frame.to_string())).await
    }

    /// Sends a message.
    pub(super) async fn write(&mut self, id: &str, to: &str, text: &str) -> Result<(), Error> {
        self.send(&json!({"type": "send", "id": id, "to": to, "text": text})).await
    }

    /// Acknowledges a frame.
    pub(super) async fn ack(&mut self, frame: &Value) -> Result<(), Error> {
        self.send(&json!({"type": "ack", "id": frame["id"]})).await
    }

    /// Waits for the next event. If the caller drops the future of `next`, no event is lost.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Event::Frame(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Event::Closed(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Event::Closed(None),
            }
        }
    }

    /// Waits for a frame of this type.
    pub(super) async fn frame(&mut self, kind: &str) -> Value {
        match timeout(TIME_LIMIT, self.next()).await.expect("a frame comes in time") {
            Event::Frame(frame) if frame["type"] == kind => frame,
            other => panic!("{other:?} came instead of the frame {kind}"),
        }
    }

    /// Waits until the server closes the connection, and returns the code and the reason.
    pub(super) async fn closed(&mut self) -> (u16, String) {
        match timeout(TIME_LIMIT, self.next()).await.expect("the server closes the connection in time") {
            Event::Closed(Some(frame)) => (frame.code.into(), frame.reason.to_string()),
            other => panic!("{other:?} came instead of a close frame"),
        }
    }
}
