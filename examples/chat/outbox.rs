//! Posts the messages of one page to Drover, in order.

use serde_json::json;
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    drover::{Drover, NewMessage},
    frames::{Draft, ServerFrame},
    user::User,
};

/// The maximum number of characters of a message. The text field of the chat page allows the same number of characters.
const MAX_TEXT: usize = 4_000;

/// Posts one message after the other, and tells the page whether each message is stored or refused. A message is posted only
/// after the one before it was stored or refused, so the order of a sender's messages is the order in which the page sent
/// them.
pub(crate) async fn post_all(
    drover: &Drover,
    sender: &User,
    mut drafts: mpsc::Receiver<Draft>,
    frames: mpsc::Sender<ServerFrame>,
) {
    while let Some(draft) = drafts.recv().await {
        let frame = match post(drover, sender, &draft).await {
            Ok(()) => ServerFrame::Sent { id: draft.id },
            Err(reason) => ServerFrame::Refused { id: draft.id, reason },
        };
        if frames.send(frame).await.is_err() {
            return;
        }
    }
}

/// Posts a message. The error says why the message is refused for good.
async fn post(drover: &Drover, sender: &User, Draft { id, to, text }: &Draft) -> Result<(), String> {
    if !sender.may_use_id(id) {
        return Err("the id of the message is not valid: reload the page and send the message again".into());
    }
    let to: User = to.parse().map_err(|error| format!("{error}"))?;
    if text.trim().is_empty() || text.chars().count() > MAX_TEXT {
        return Err(format!("a message has 1 to {MAX_TEXT} characters: change its length"));
    }
    let message = NewMessage { id, name: "text", group: sender.as_str(), data: json!({"text": text}) };
    drover.post(&to, &message).await.map_err(|error| {
        warn!("message {id} is refused: {error}");
        match error.code() {
            "queue_full" => format!("too many messages wait for {to}: try again when {to} has been online"),
            code => format!("the chat server cannot store the message ({code}): ask its operator to read its log"),
        }
    })
}
