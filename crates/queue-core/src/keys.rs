//! The keys in Redis. All keys of a queue share the hash tag `{<queue>}`, so a queue lives in one cluster slot.

use crate::QueueName;

/// The set of all queues' names. It has a slot of its own.
pub(crate) const REGISTRY: &str = "drover:queues";

/// The channel on which the end of messages is told that somebody waits for.
pub(crate) const FINISHED_CHANNEL: &str = "drover:finished";

/// What stands after the hash tag. `lua/*.lua` name their keys by these words.
pub(crate) mod suffix {
    /// Hash: layout version, epoch, settings, totals (`total:…`), `watch` (the instant at which idle consumers look
    /// again), `largest` (bytes of the largest record so far).
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
    /// Not a key but the channel that tells idle consumers when to look again.
    pub(crate) const WAKE: &str = "wake";

    pub(crate) const ALL: [&str; 16] = [
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

    pub(crate) fn key(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }
}
