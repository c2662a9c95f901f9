//! The users that are logged in at this server, each with a mailbox for one notification.
//!
//! A mailbox has room for one notification, because Drover leases the next notification of a user only after the previous one was
//! acknowledged: all notifications of a user are a group, and a group has one active message at a time.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{drover::Leased, times::Times, user::User};

/// The maximum number of users that are logged in at one server.
const MAX_USERS: usize = 10_000;

/// A leased notification of a user.
#[derive(Debug)]
pub(crate) struct Notification {
    pub(crate) user: User,
    pub(crate) message: Leased,
    pub(crate) leased_at: Instant,
    /// Whether the server has sent the notification to the user's client, which may now acknowledge the notification.
    is_sent_to_client: AtomicBool,
}

impl Notification {
    pub(crate) fn new(user: User, message: Leased, leased_at: Instant) -> Self {
        Self { user, message, leased_at, is_sent_to_client: AtomicBool::new(false) }
    }

    /// Records that the server has sent the notification to the user's client.
    pub(crate) fn set_sent_to_client(&self) {
        self.is_sent_to_client.store(true, Ordering::Relaxed);
    }

    fn is_overdue(&self, now: Instant, times: &Times) -> bool {
        let limit = if self.is_sent_to_client.load(Ordering::Relaxed) { times.acknowledge } else { times.fetch };
        now.duration_since(self.leased_at) >= limit
    }
}

/// The mailboxes of the users that are logged in.
pub(crate) struct Mailboxes {
    mailboxes: Mutex<HashMap<User, Mailbox>>,
    times: Times,
}

struct Mailbox {
    content: watch::Sender<Content>,
    /// The instant of the user's last request.
    last_request: Instant,
    /// The instant at which the server last told Drover that the user is logged in; `None` if the server has not done so yet.
    announced: Option<Instant>,
}

/// The content of a mailbox.
pub(crate) type Content = Option<Arc<Notification>>;

/// Whether the server must tell Drover that a user is logged in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Announcement {
    /// The server must tell Drover that the user is logged in, because the user has just logged in, or because the last announcement is
    /// old.
    Due,
    /// Drover knows that the user is logged in.
    NotDue,
}

/// The error when the maximum number of users is logged in at the server.
#[derive(Debug)]
pub(crate) struct Full;

impl Mailboxes {
    pub(crate) fn new(times: Times) -> Self {
        Self { mailboxes: Mutex::new(HashMap::new()), times }
    }

    /// Opens the mailbox of a user who sent a request, unless the mailbox is open already. While the mailbox is open, notifications of the
    /// user are put into the mailbox.
    pub(crate) fn open(&self, user: &User) -> Result<(watch::Receiver<Content>, Announcement), Full> {
        let now = Instant::now();
        let mut mailboxes = self.mailboxes.lock();
        let count = mailboxes.len();
        let mailbox = match mailboxes.entry(user.clone()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(_) if count >= MAX_USERS => return Err(Full),
            Entry::Vacant(vacant) => {
                vacant.insert(Mailbox { content: watch::Sender::new(None), last_request: now, announced: None })
            }
        };
        mailbox.last_request = now;
        let is_known = mailbox.announced.is_some_and(|at| now.duration_since(at) < self.times.lease);
        let announcement = if is_known { Announcement::NotDue } else { Announcement::Due };
        Ok((mailbox.content.subscribe(), announcement))
    }

    /// Records the instant at which the server told Drover that the user is logged in.
    pub(crate) fn set_login_announced(&self, user: &User, at: Instant) {
        if let Some(mailbox) = self.mailboxes.lock().get_mut(user) {
            mailbox.announced = Some(at);
        }
    }

    /// Puts a notification into the mailbox of its user. Returns the notification as the error if the user has no open mailbox at this
    /// server.
    pub(crate) fn deliver(&self, notification: Arc<Notification>) -> Result<(), Arc<Notification>> {
        match self.mailboxes.lock().get(&notification.user) {
            Some(mailbox) => {
                // The lease of a notification that is still in the mailbox has lapsed, so the newly leased notification takes its place.
                mailbox.content.send_replace(Some(notification));
                Ok(())
            }
            None => Err(notification),
        }
    }

    /// Removes a notification that was acknowledged from its mailbox.
    pub(crate) fn acknowledged(&self, user: &User, lease: &str) {
        if let Some(mailbox) = self.mailboxes.lock().get(user) {
            mailbox.content.send_if_modified(|content| {
                content.take_if(|notification| notification.message.lease == lease).is_some()
            });
        }
    }

    /// Closes the mailbox of a user, which ends the user's waiting requests. Returns the content of the mailbox.
    pub(crate) fn close(&self, user: &User) -> Content {
        self.mailboxes.lock().remove(user).and_then(|mailbox| mailbox.content.send_replace(None))
    }

    /// Closes all mailboxes, and returns the notifications in them.
    pub(crate) fn close_all(&self) -> Vec<Arc<Notification>> {
        self.mailboxes.lock().drain().filter_map(|(_, mailbox)| mailbox.content.send_replace(None)).collect()
    }

    /// Closes the mailboxes of users who have sent no request for a while. Returns the notifications of these users, and the notifications
    /// that were not fetched or acknowledged in time.
    pub(crate) fn take_overdue_notifications(&self) -> Vec<Arc<Notification>> {
        let now = Instant::now();
        let mut overdue = Vec::new();
        self.mailboxes.lock().retain(|_, mailbox| {
            let is_here = now.duration_since(mailbox.last_request) < self.times.online;
            mailbox.content.send_if_modified(|content| {
                let taken = content.take_if(|notification| !is_here || notification.is_overdue(now, &self.times));
                let is_modified = taken.is_some();
                overdue.extend(taken);
                is_modified
            });
            is_here
        });
        overdue
    }
}
