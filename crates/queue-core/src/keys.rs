//! The keys in Redis. All keys of a queue share the hash tag `{<queue>}`, so a queue lives in one cluster slot.

use crate::QueueName;

/// The set of all queues' names. It has a slot of its own.
pub(crate) const REGISTRY: &str = "drover:queues";

/// Stands before a quota's name, `:` and its duration in ms. Each is a key with a slot of its own, which goes when the
/// duration is over: "slice,count …", the slices of the duration in which it was used.
pub(crate) const QUOTA: &str = "drover:quota:";

/// Matches the channel of each queue that tells its consumers when to look.
pub(crate) const WAKE_OF_ALL: &str = "drover:{*}:wake";

/// Matches the channel of each queue that tells those who listen to its events when to look.
pub(crate) const EVENTS_OF_ALL: &str = "drover:{*}:events";

/// The channel on which the end of messages is told that somebody waits for.
pub(crate) const FINISHED_CHANNEL: &str = "drover:finished";

/// What stands after the hash tag. `lua/*.lua` name their keys by these words.
pub(crate) mod suffix {
    /// Hash: layout version, epoch, settings, totals (`total:…`), `paused`, `owner` and `owner_until` (ms) of an
    /// exclusive queue, `limiter_used` (leases in `limiter`), `trimmed` (what ever left the front of `completed`), `watch`
    /// (the instant at which idle consumers look again), `largest` (bytes of the largest record so far), `listened_until`
    /// (ms until when events are written down), `events_end` (bytes that the log of events ever had).
    pub(crate) const META: &str = "meta";
    /// String: the last id.
    pub(crate) const SEQ: &str = "seq";
    /// Hash id → record: the immutable part of each message, written once.
    pub(crate) const MESSAGES: &str = "messages";
    /// Hash id → fields: what differs from the queue's settings.
    pub(crate) const OPTIONS: &str = "options";
    /// List of ids: ready at priority 0.
    pub(crate) const WAITING: &str = "waiting";
    /// Sorted set id → priority: ready at other priorities.
    pub(crate) const PRIORITIZED: &str = "prioritized";
    /// Sorted set id → due time in ms: delayed, or backing off.
    pub(crate) const DELAYED: &str = "delayed";
    /// Sorted set id → deadline in ms: active.
    pub(crate) const LEASED: &str = "leased";
    /// Hash id → run: token, attempts, lapses, consumer; only while there is something to say.
    pub(crate) const RUNS: &str = "runs";
    /// List of ids in the order of finishing.
    pub(crate) const COMPLETED: &str = "completed";
    /// Sorted set id → ms of finishing.
    pub(crate) const FAILED: &str = "failed";
    /// Hash id → outcome: result or error, times, token, consumer.
    pub(crate) const OUTCOMES: &str = "outcomes";
    /// Set of ids that still stand in `waiting` but are gone: skipped and forgotten when they come up.
    pub(crate) const REMOVED: &str = "removed";
    /// Hash own id → id.
    pub(crate) const ALIASES: &str = "aliases";
    /// Sorted set id → ms until when somebody waits for it to finish.
    pub(crate) const AWAITED: &str = "awaited";
    /// Sorted set of "key, tab, id" (and, if it is delayed too, a tab and the due time in ms), all of score 0: waiting for
    /// a signal. The held ones of a key lie together in the order posted.
    pub(crate) const HELD: &str = "held";
    /// Sorted set id → ms when it expires unless it has been leased.
    pub(crate) const EXPIRING: &str = "expiring";
    /// List of "first,last,count": when leases were made, while there is a rate limit.
    pub(crate) const LIMITER: &str = "limiter";
    /// Set of ids that back off in an exclusive queue: while there is one, nothing is handed out.
    pub(crate) const BLOCKING: &str = "blocking";
    /// Set of ids of active messages that are to be cancelled.
    pub(crate) const CANCELLING: &str = "cancelling";
    /// Hash id → JSON: what handlers reported last.
    pub(crate) const PROGRESS: &str = "progress";
    /// Set of ids that still stand in `completed` but are gone: skipped and forgotten when they are trimmed.
    pub(crate) const ERASED: &str = "erased";
    /// Hash key → cut and data: signals that are under way.
    pub(crate) const SIGNALS: &str = "signals";
    /// Hash key → data: signals that stick.
    pub(crate) const STICKY: &str = "sticky";
    /// Sorted set key → ms until when a signal sticks.
    pub(crate) const STICKY_UNTIL: &str = "sticky_until";
    /// Hash id → JSON: the data of the signal that released a message.
    pub(crate) const SIGNALLED: &str = "signalled";
    /// Hash idempotency key → its end, the fingerprint of its request, the ids that it stands for.
    pub(crate) const DEDUP: &str = "dedup";
    /// Sorted set idempotency key → ms when it ends.
    pub(crate) const DEDUP_UNTIL: &str = "dedup_until";
    /// Stream: what happened to messages, while somebody listens; goes when nobody has for a while. The channel of the same
    /// name tells those who listen that there is more.
    pub(crate) const EVENTS: &str = "events";
    /// Not a key but the channel that tells idle consumers when to look again.
    pub(crate) const WAKE: &str = "wake";

    pub(crate) const ALL: [&str; 30] = [
        META,
        SEQ,
        MESSAGES,
        OPTIONS,
        WAITING,
        PRIORITIZED,
        DELAYED,
        LEASED,
        RUNS,
        COMPLETED,
        FAILED,
        OUTCOMES,
        REMOVED,
        ALIASES,
        AWAITED,
        HELD,
        EXPIRING,
        LIMITER,
        BLOCKING,
        CANCELLING,
        PROGRESS,
        ERASED,
        SIGNALS,
        STICKY,
        STICKY_UNTIL,
        SIGNALLED,
        DEDUP,
        DEDUP_UNTIL,
        EVENTS,
        WAKE,
    ];
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
}
