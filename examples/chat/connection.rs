//! A WebSocket connection of a user's page: reads and writes frames, while the outbox posts messages and the inbox delivers messages.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::{
    Sink, SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tracing::{info, warn};

use crate::{
    App,
    frames::{Draft, PageFrame, ServerFrame},
    inbox::Inbox,
    outbox,
    user::User,
};

/// The maximum number of frames that wait in each channel of a connection.
const MAX_FRAMES: usize = 64;
/// The interval in which the server pings the page.
const PING_EVERY: Duration = Duration::from_secs(10);
/// The time without any frame from the page (not even a pong) after which the server ends the connection.
const SILENT_AFTER: Duration = Duration::from_secs(30);
/// The time limit to write one frame.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// The WebSocket close code for a connection that was replaced by a newer connection of the same user. A page does not connect again after
/// close code 4001.
const CLOSE_CODE_REPLACED: u16 = 4001;

/// The reason why a connection has ended.
enum End {
    /// The page closed the connection, or does not answer pings.
    Gone,
    /// The page sent a frame that the server does not understand.
    Invalid(String),
    /// The user has a newer connection.
    Replaced,
    /// Drover refused a lease request.
    Failed,
    /// The connection ended because the server stops.
    Stopped,
}

/// Serves a connection until it ends, and then releases the messages that the page has not acknowledged.
pub(crate) async fn serve(socket: WebSocket, user: User, app: &App) {
    let (mut sink, mut stream) = socket.split();
    let Some(session) = app.sessions.open(&user) else {
        warn!("too many users are connected: {user} is refused");
        close(&mut sink, close_code::AGAIN, "too many users are connected: try again later").await;
        return;
    };
    info!("{user} is connected");
    let (frames, frames_to_write) = mpsc::channel(MAX_FRAMES);
    let (draft_sender, drafts_to_post) = mpsc::channel(MAX_FRAMES);
    let (ack_sender, acks_to_handle) = mpsc::channel(MAX_FRAMES);
    let mut inbox = Inbox::new(app.drover.clone(), user.clone());
    // All futures of the connection run in this task. When one future ends, `select!` drops the other futures.
    let end = tokio::select! {
        end = read(&mut stream, draft_sender, ack_sender) => end,
        () = write(&mut sink, frames_to_write) => End::Gone,
        () = outbox::post_all(&app.drover, &user, drafts_to_post, frames.clone()) => End::Gone,
        () = inbox.deliver(acks_to_handle, frames) => End::Failed,
        () = session.replaced() => End::Replaced,
        () = app.stop.cancelled() => End::Stopped,
    };
    inbox.release_all().await;
    match end {
        End::Gone => {}
        End::Invalid(what) => close(&mut sink, close_code::POLICY, &what).await,
        End::Replaced => close(&mut sink, CLOSE_CODE_REPLACED, "the chat was opened elsewhere").await,
        End::Failed => close(&mut sink, close_code::AGAIN, "Drover refuses requests: read the server's log").await,
        End::Stopped => close(&mut sink, close_code::AWAY, "the server stops").await,
    }
    info!("{user} is disconnected");
}

/// Reads the page's frames, and hands them to the outbox and the inbox.
async fn read(
    stream: &mut SplitStream<WebSocket>,
    draft_sender: mpsc::Sender<Draft>,
    ack_sender: mpsc::Sender<String>,
) -> End {
    loop {
        let Ok(Some(Ok(message))) = timeout(SILENT_AFTER, stream.next()).await else { return End::Gone };
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return End::Gone,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Binary(_) => return End::Invalid("a binary frame: send JSON as text".into()),
        };
        let is_handed_over = match serde_json::from_str(&text) {
            Ok(PageFrame::Send(draft)) => draft_sender.send(draft).await.is_ok(),
            Ok(PageFrame::Ack { id }) => ack_sender.send(id).await.is_ok(),
            Err(error) => return End::Invalid(format!("not a frame of the chat: {error}")),
        };
        if !is_handed_over {
            return End::Gone;
        }
    }
}

/// Writes frames and pings to the page until the page no longer reads.
async fn write(sink: &mut SplitSink<WebSocket, Message>, mut frames: mpsc::Receiver<ServerFrame>) {
    let mut pings = interval(PING_EVERY);
    loop {
        let message = tokio::select! {
            Some(frame) = frames.recv() => match serde_json::to_string(&frame) {
                Ok(text) => Message::Text(text.into()),
                Err(error) => {
                    warn!("a frame cannot be written as JSON: {error}");
                    return;
                }
            },
            _ = pings.tick() => Message::Ping(Vec::new().into()),
        };
        if !matches!(timeout(WRITE_WITHIN, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
}

async fn close(sink: &mut (impl Sink<Message> + Unpin), code: u16, reason: &str) {
    // The reason in a WebSocket close frame has at most 123 bytes.
    let reason: String = reason.chars().take(100).collect();
    let frame = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
    // Sending the close frame may fail, because the connection may be closed already.
    let _ = timeout(WRITE_WITHIN, sink.send(frame)).await;
}
