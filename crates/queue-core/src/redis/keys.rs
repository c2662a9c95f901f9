//! The keys in Redis. All keys of a queue share the hash tag `{<queue>}`, so a queue lives in one cluster slot.

use crate::message::QueueName;

/// Sorted set of all queues' names, all of score 0, so in the order of their bytes. It has a slot of its own: an index, which
/// may lag behind the queues.
pub(crate) const INDEX: &str = "drover:queues";

/// Matches the key `meta` of each queue.
pub(crate) const META_OF_ALL: &str = "drover:{*}:meta";

/// The prefix of a quota's key, before its name, `:` and its duration in ms. Each key has its own slot, and expires after the
/// duration: "slice,count …", the slices of the duration in which it was used.
pub(crate) const QUOTA: &str = "drover:quota:";

/// The pattern of the channels of all queues whose names begin with `start`. A name has no character that is special in a
/// pattern.
pub(crate) fn wake_of(start: &str) -> String {
    format!("drover:{{{start}*}}:{}", suffix::WAKE)
}

/// Matches the channel of each queue on which event readers are woken.
pub(crate) const EVENTS_OF_ALL: &str = "drover:{*}:events";

/// The channel that announces the end of a message if a client waits for it.
pub(crate) const FINISHED_CHANNEL: &str = "drover:finished";

/// The channel that each worker subscribes to and on which nothing is published: the number of its subscribers is that of the
/// workers.
pub(crate) const WORKERS_CHANNEL: &str = "drover:workers";

/// The part of a key after the hash tag. `lua/**/*.lua` name their keys by these words.
pub(crate) mod suffix {
    macro_rules! suffixes {
        ($($(#[$doc:meta])* $name:ident = $suffix:literal;)*) => {
            $($(#[$doc])* pub(crate) const $name: &str = $suffix;)*

            /// All of them, in the order in which scripts are given the keys.
            pub(crate) const ALL: &[&str] = &[$($name),*];
        };
    }

    suffixes! {
    /// Hash: layout version, epoch, settings, totals (`total:…`), `paused`, `owner` and `owner_until` (ms) of an
    /// exclusive queue, `limiter_used` (leases in `limiter`), `trimmed` (what ever left the front of `completed`), `watch`
    /// (the instant at which idle consumers look again), `largest` (bytes of the largest record and options so far),
    /// `largest_extra` (bytes of the largest error or data of a signal that a message came to have, unless all are small), `listened_until`
    /// (ms until when events are written down), `events_end` (bytes that the log of events ever had), `clock` (ms, at most a
    /// second before the newest lease was given or extended), `mending` (how far leases were looked at after a step of the clock), `purged_to` (the last id when a purge began that goes on).
    META = "meta";
    /// String: the last id.
    SEQ = "seq";
    /// Hash id → record: what each message carries, and when it was created and is due first.
    MESSAGES = "messages";
    /// Hash id → fields: what differs from the queue's settings.
    OPTIONS = "options";
    /// List of ids: ready at priority 0.
    WAITING = "waiting";
    /// Sorted set id → priority: ready at other priorities.
    PRIORITIZED = "prioritized";
    /// Sorted set id → due time in ms: delayed, or backing off.
    DELAYED = "delayed";
    /// Sorted set id → deadline in ms: active.
    LEASED = "leased";
    /// Hash id → run: token, attempts, lapses, consumer; only while there is something to say.
    RUNS = "runs";
    /// List of ids in the order of finishing.
    COMPLETED = "completed";
    /// Sorted set id → ms of finishing.
    FAILED = "failed";
    /// Hash id → outcome: result or error, times, token, consumer.
    OUTCOMES = "outcomes";
    /// Set of ids that still stand in `waiting` but are gone: skipped and forgotten when they come up.
    REMOVED = "removed";
    /// Hash own id → id.
    ALIASES = "aliases";
    /// Sorted set own id → ms until when it stays taken though its message is no longer kept.
    TAKEN = "taken";
    /// Sorted set: id → the time in ms until which a client waits for the message to finish.
    AWAITED = "awaited";
    /// Sorted set of "key, tab, id" (and, if it is delayed too, a tab and the due time in ms), all of score 0: waiting for
    /// a signal. The held ones of a key lie together in the order posted.
    HELD = "held";
    /// Sorted set id → ms when it expires unless it has been leased.
    EXPIRING = "expiring";
    /// List of "first,last,count": when leases were made, while there is a rate limit.
    LIMITER = "limiter";
    /// Set of ids that back off in an exclusive queue: while there is one, nothing is handed out.
    BLOCKING = "blocking";
    /// Set of ids of active messages that are to be cancelled.
    CANCELLING = "cancelling";
    /// Hash id → JSON: what handlers reported last.
    PROGRESS = "progress";
    /// Set of ids that still stand in `completed` but are gone: skipped and forgotten when they are trimmed.
    ERASED = "erased";
    /// Hash key → cut and data: signals that are under way.
    SIGNALS = "signals";
    /// Hash key → data: signals that stick.
    STICKY = "sticky";
    /// Sorted set key → ms until when a signal sticks.
    STICKY_UNTIL = "sticky_until";
    /// Hash id → JSON: the data of the signal that released a message.
    SIGNALLED = "signalled";
    /// Hash idempotency key → its end, the fingerprint of its request, the ids that it stands for.
    DEDUP = "dedup";
    /// Sorted set idempotency key → ms when it ends.
    DEDUP_UNTIL = "dedup_until";
    /// List of ids that stood in `waiting` when that was purged, and are still to be forgotten.
    PURGED = "purged";
    /// Sorted set of ids that stood in `prioritized` then.
    PURGED_PRIORITIZED = "purged_prioritized";
    /// Set of ids that stood in `removed` then.
    PURGED_REMOVED = "purged_removed";
    /// Set of ids that have joined the waiting list since, posted before the purge began.
    RETURNED = "returned";
    /// Stream: the events of messages while a client listens; it expires some time after the last listener. The channel of the same
    /// name wakes event readers when there is more.
    EVENTS = "events";
    /// Not a key but the channel that wakes idle consumers.
    WAKE = "wake";
    }
}

/// The keys of one queue.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    pub(crate) fn of(queue: &QueueName) -> Self {
        Self { prefix: format!("drover:{{{queue}}}:") }
    }

    /// The queue that a key or a channel is of.
    pub(crate) fn queue_of(key: &str) -> Option<QueueName> {
        key.strip_prefix("drover:{")?.split_once('}')?.0.parse().ok()
    }

    pub(crate) fn key(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }

    /// As [`key`](Self::key), into a text that is there: a call has twenty keys.
    pub(crate) fn write(&self, suffix: &str, key: &mut String) {
        key.clear();
        key.push_str(&self.prefix);
        key.push_str(suffix);
    }
}
