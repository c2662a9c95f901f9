//! The frames that pages and the server exchange over a WebSocket: one JSON object in each text frame.

use serde::{Deserialize, Serialize};

/// A frame that a page sends to the server.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PageFrame {
    /// A message to another user. The page repeats the frame `send` after each reconnect until the page gets `sent` or `refused`.
    Send(Draft),
    /// The page has stored the `message` or `delivered` frame with this id, and will recognise the id if it comes again.
    Ack {
        /// The id of the frame.
        id: String,
    },
}

/// A message that Drover has not stored yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    /// The id of the message, which the page has chosen; it begins with the sender's name.
    pub(crate) id: String,
    /// The name of the receiver.
    pub(crate) to: String,
    pub(crate) text: String,
}

/// A frame that the server sends to a page.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum ServerFrame {
    /// Drover has stored the page's message.
    Sent {
        /// The id of the message.
        id: String,
    },
    /// The message that the page has sent is refused for good, and not stored.
    Refused {
        /// The id of the message.
        id: String,
        /// The reason why the message is refused, and what the user can do.
        reason: String,
    },
    /// A message of another user. The page acknowledges it.
    Message {
        /// The id of the message.
        id: String,
        /// The name of the sender.
        from: String,
        text: String,
        /// When Drover stored the message, as RFC 3339.
        at: String,
    },
    /// The receiver's page has acknowledged a message of this user. As the receiver's page acknowledges the message, the sender's page
    /// acknowledges the receipt to the server.
    Delivered {
        /// The id of the receipt.
        id: String,
        /// The id of the message.
        of: String,
    },
}
