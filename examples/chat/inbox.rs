//! Delivers the messages of one user to the user's page: leases them, and completes each after the page has acknowledged it.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::warn;

use crate::{
    drover::{Action, Drover, Error, Leased, NewMessage, Settled, Settlement},
    frames::ServerFrame,
    user::User,
};

/// The maximum number of messages of one lease request.
const MAX_LEASES: usize = 20;
/// The number of unacknowledged messages at which the inbox stops leasing messages.
const MAX_UNACKNOWLEDGED: usize = 100;
/// The interval of extensions. A lease is extended several times within its visibility timeout of 5 s.
const EXTEND_EVERY: Duration = Duration::from_millis(1_500);
/// The time limit to release all leases. A lease that is not released lapses.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// Leases the messages of a user, and keeps those that the page has not acknowledged yet, by id.
pub(crate) struct Inbox {
    drover: Arc<Drover>,
    user: User,
    unacknowledged: HashMap<String, Unacknowledged>,
}

#[derive(Clone)]
struct Unacknowledged {
    /// The token of the lease.
    lease: String,
    /// The sender who gets a receipt for the message; `None` if the message is itself a receipt.
    sender: Option<User>,
}

/// The content of a message in the queue of a user.
enum Content {
    Text {
        from: User,
        text: String,
    },
    /// The receipt of a message that this user had sent.
    Receipt {
        of: String,
    },
}

#[derive(Deserialize)]
struct TextData {
    text: String,
}

#[derive(Deserialize)]
struct ReceiptData {
    of: String,
}

impl Inbox {
    pub(crate) fn new(drover: Arc<Drover>, user: User) -> Self {
        Self { drover, user, unacknowledged: HashMap::new() }
    }

    /// Forwards messages to the page, and settles the messages that the page acknowledges. When the connection has ended, the caller drops
    /// the future of `deliver`, which closes a waiting lease request, and calls [`release_all`](Self::release_all).
    pub(crate) async fn deliver(&mut self, mut acks: mpsc::Receiver<String>, frames: mpsc::Sender<ServerFrame>) {
        let (drover, user) = (Arc::clone(&self.drover), self.user.clone());
        let mut leasing = pin!(drover.lease(&user, MAX_LEASES));
        // Each future of `settling` returns the tokens of leases that have ended.
        let mut settling: FuturesUnordered<BoxFuture<'static, Vec<String>>> = FuturesUnordered::new();
        let mut extensions = interval(EXTEND_EVERY);
        extensions.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // A lease request is sent when its future is first polled, so none is sent while the page has too many messages to
                // acknowledge.
                leased = &mut leasing, if self.unacknowledged.len() < MAX_UNACKNOWLEDGED => {
                    let leased = match leased {
                        Ok(leased) => leased,
                        Err(error) => {
                            warn!("the messages of {user} cannot be leased: {error}");
                            return;
                        }
                    };
                    // All leases are recorded before the first frame is sent, so that the leases are released if the connection ends while
                    // frames are sent.
                    let (new_frames, foreign) = self.record_leases(leased);
                    for lease in foreign {
                        settling.push(Box::pin(fail(Arc::clone(&drover), user.clone(), lease)));
                    }
                    for frame in new_frames {
                        if frames.send(frame).await.is_err() {
                            return;
                        }
                    }
                    leasing.set(drover.lease(&user, MAX_LEASES));
                }
                Some(id) = acks.recv() => {
                    // The id of a message is unknown if its lease has lapsed; the message is then delivered and acknowledged again.
                    if let Some(message) = self.unacknowledged.get(&id) {
                        settling.push(Box::pin(complete(Arc::clone(&drover), user.clone(), id, message.clone())));
                    }
                }
                Some(over) = settling.next() => {
                    // A message that was leased again while its old lease was settled has another token, and stays in `unacknowledged`.
                    self.unacknowledged.retain(|_, message| !over.contains(&message.lease));
                }
                _ = extensions.tick(), if !self.unacknowledged.is_empty() => {
                    settling.push(Box::pin(extend(Arc::clone(&drover), user.clone(), self.settlements(&Action::Extend))));
                }
            }
        }
    }

    /// Records leased messages. Returns the frames for the page, and the leases of messages that do not belong to the chat.
    fn record_leases(&mut self, messages: Vec<Leased>) -> (Vec<ServerFrame>, Vec<String>) {
        let (mut frames, mut foreign) = (Vec::new(), Vec::new());
        for message in messages {
            let Some(content) = parse_content(&message) else {
                foreign.push(message.lease);
                continue;
            };
            let Leased { id, created_at: at, lease, .. } = message;
            let (sender, frame) = match content {
                Content::Text { from, text } => {
                    (Some(from.clone()), ServerFrame::Message { id: id.clone(), from: from.to_string(), text, at })
                }
                Content::Receipt { of } => (None, ServerFrame::Delivered { id: id.clone(), of }),
            };
            self.unacknowledged.insert(id, Unacknowledged { lease, sender });
            frames.push(frame);
        }
        (frames, foreign)
    }

    fn settlements(&self, action: &Action) -> Vec<Settlement> {
        let settlement = |message: &Unacknowledged| Settlement { lease: message.lease.clone(), action: action.clone() };
        self.unacknowledged.values().map(settlement).collect()
    }

    /// Releases the messages that the page has not acknowledged. Each released message becomes the first message of its sender
    /// again.
    pub(crate) async fn release_all(self) {
        let settlements = self.settlements(&Action::Release);
        if settlements.is_empty() {
            return;
        }
        match timeout(RELEASE_WITHIN, self.drover.settle(&self.user, &settlements)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => warn!("the leases of {} are not released: {error}; they lapse", self.user),
            Err(_) => warn!("the leases of {} are not released in time; they lapse", self.user),
        }
    }
}

fn parse_content(message: &Leased) -> Option<Content> {
    let from: User = message.group.as_ref()?.parse().ok()?;
    let data = message.data.get();
    match message.name.as_deref()? {
        "text" => Some(Content::Text { from, text: serde_json::from_str::<TextData>(data).ok()?.text }),
        "receipt" => Some(Content::Receipt { of: serde_json::from_str::<ReceiptData>(data).ok()?.of }),
        _ => None,
    }
}

/// Sends the sender a receipt, then completes the message. If the server is killed after the receipt and before the completion, the message
/// is delivered and acknowledged again. Drover then recognises the second receipt by its id. Returns the token of the message's lease, so
/// that the inbox forgets the lease.
async fn complete(drover: Arc<Drover>, user: User, id: String, message: Unacknowledged) -> Vec<String> {
    let Unacknowledged { lease, sender } = message;
    if let Some(sender) = sender {
        let receipt = NewMessage {
            id: &format!("{user}.receipt.{id}"),
            name: "receipt",
            group: user.as_str(),
            data: json!({"of": id}),
        };
        if let Err(error) = drover.post(&sender, &receipt).await {
            warn!("{sender} gets no receipt of {id}: {error}");
        }
    }
    settle(&drover, &user, Settlement { lease, action: Action::Complete }).await
}

async fn fail(drover: Arc<Drover>, user: User, lease: String) -> Vec<String> {
    warn!("the queue of {user} has a message that is not of this chat: it fails");
    let error = "not a message of the chat: it has no group, or another name or data";
    settle(&drover, &user, Settlement { lease, action: Action::Fail { error, retry: false } }).await
}

/// Settles a lease. Returns the token of this lease, so that the inbox forgets the lease.
async fn settle(drover: &Drover, user: &User, settlement: Settlement) -> Vec<String> {
    // The outcome "gone" needs no reaction: the lease had lapsed, and the message will be delivered again.
    if let Err(error) = drover.settle(user, std::slice::from_ref(&settlement)).await {
        warn!("a lease of {user} is not settled: {error}; it lapses");
    }
    vec![settlement.lease]
}

/// Extends leases. Returns the tokens of the leases that were over already.
async fn extend(drover: Arc<Drover>, user: User, settlements: Vec<Settlement>) -> Vec<String> {
    match drover.settle_once(&user, &settlements).await {
        Ok(settled) => settled.into_iter().filter(Settled::is_gone).map(|settled| settled.lease).collect(),
        Err(Error::NoAnswer(_) | Error::Refused { .. }) => Vec::new(),
    }
}
