//! The keys of Drover in Redis. All keys of a queue share the hash tag `{<queue>}`, so a queue lives in one cluster slot.

use crc::{CRC_16_XMODEM, Crc};

use crate::names::QueueName;

/// Sorted set of the names of all queues. All names have score 0, so the names are in the order of their bytes. The index has its
/// own cluster slot, so no script can change the index together with a queue, and the index may lag behind the queues.
pub(crate) const INDEX: &str = "drover:queues";

/// The pattern that matches the key `meta` of each queue.
pub(crate) const META_KEYS_PATTERN: &str = "drover:{*}:meta";

/// The prefix of a quota's key; the quota's name, `:` and the quota's duration in ms follow. The key of each quota has its own slot,
/// and expires after the duration. The value of the key is "slice,count …": the slices of the duration in which the quota was used,
/// and how often.
pub(crate) const QUOTA: &str = "drover:quota:";

/// Sorted set of the names of queues that have schedules, all with score 0. The key has its own cluster slot, like [`INDEX`].
pub(crate) const QUEUES_WITH_SCHEDULES: &str = "drover:schedules";

/// The pattern that matches the key `schedules` of each queue.
pub(crate) const SCHEDULES_KEYS_PATTERN: &str = "drover:{*}:schedules";

/// Returns the pattern of the wake channels of all queues whose names begin with `start`. A name of a queue has no character that is
/// special in a pattern.
pub(crate) fn wake_channels_pattern(start: &str) -> String {
    format!("drover:{{{start}*}}:{}", suffix::WAKE)
}

/// The pattern that matches the channel of each queue on which readers of events are woken.
pub(crate) const EVENT_CHANNELS_PATTERN: &str = "drover:{*}:events";

/// The channel that announces the end of a message if a client waits for it.
pub(crate) const FINISHED_CHANNEL: &str = "drover:finished";

/// The channel to which each worker subscribes, and on which nothing is published. The number of its subscribers is the number
/// of workers.
pub(crate) const WORKERS_CHANNEL: &str = "drover:workers";

/// The suffixes of a queue's keys. A suffix is the part of a key after the hash tag; the scripts in `lua` name keys by their suffixes.
pub(crate) mod suffix {
    macro_rules! suffixes {
        ($($(#[$doc:meta])* $name:ident = $suffix:literal;)*) => {
            $($(#[$doc])* pub(crate) const $name: &str = $suffix;)*

            /// All suffixes, in the order in which scripts receive the keys.
            pub(crate) const ALL: &[&str] = &[$($name),*];
        };
    }

    suffixes! {
    /// Hash: layout version, epoch, settings, totals (`total:…`), `paused`, `owner` and `owner_until` (ms) of an
    /// exclusive queue, `limiter_used` (leases in `limiter`), `trimmed` (how many messages ever left the front of `completed`),
    /// `watch` (the instant at which idle consumers call `lease` again), `largest` (bytes of the largest record with its options
    /// so far), `largest_extra` (bytes of the largest error or signal data beside a record, unless all are small),
    /// `listened_until` (ms until which events are logged), `events_end` (bytes that were ever written to the log of events),
    /// `clock` (ms, at most a second before the newest lease was made or extended), `mending` (progress of the check of leases
    /// after the clock stepped back), `purged_to` (the last id when the unfinished purge began), `grouped` and `ready` (the numbers
    /// of unfinished and of ready messages with a group), `turn` (the last turn given), `regrouping` (progress of giving turns
    /// after a change of the concurrency of groups).
    META = "meta";
    /// String: the last id that a message received.
    SEQ = "seq";
    /// Hash id → record of each message.
    MESSAGES = "messages";
    /// Hash id → options of each message that has any.
    OPTIONS = "options";
    /// List of the ids of messages without a group that are ready at priority 0.
    WAITING = "waiting";
    /// Sorted set id → priority of each message without a group that is ready at another priority than 0.
    PRIORITIZED = "prioritized";
    /// Sorted set id → due time in ms of each delayed message, also of messages in back-off.
    DELAYED = "delayed";
    /// Sorted set id → deadline in ms of each active message's lease.
    LEASED = "leased";
    /// Hash id → run (token, attempts, lapses, consumer) of each unfinished message that was leased or retried.
    RUNS = "runs";
    /// List of ids of completed messages, in the order in which they finished.
    COMPLETED = "completed";
    /// Sorted set id → time in ms at which the message failed.
    FAILED = "failed";
    /// Hash id → outcome (result or error, times, token, consumer) of each finished message.
    OUTCOMES = "outcomes";
    /// Set of ids that are still in `waiting` although their messages were removed. A lease call drops the id of a removed message when
    /// the id is at the head of `waiting`.
    REMOVED = "removed";
    /// Hash own id → id of each message with an id of the producer's own.
    ALIASES = "aliases";
    /// Sorted set own id → time in ms until which the own id stays taken, even if its message is no longer kept.
    TAKEN = "taken";
    /// Sorted set id → time in ms until which a client waits for the message to finish.
    AWAITED = "awaited";
    /// Sorted set of "key, tab, id" (and, if the message is delayed too, a tab and the due time in ms), all of score 0: the
    /// messages that wait for a signal. The held messages of a key are adjacent, in the order posted.
    HELD = "held";
    /// Sorted set id → time in ms at which the message expires, unless the message has been leased before.
    EXPIRING = "expiring";
    /// List of "first,last,count": the instants (ms) and numbers of leases, while the queue has a rate limit.
    LIMITER = "limiter";
    /// Set of ids of messages that back off in an exclusive queue: while the set has an id, no message is leased.
    BLOCKING = "blocking";
    /// Set of ids of active messages that are to be cancelled.
    CANCELLING = "cancelling";
    /// Hash id → the progress, as JSON, that the message's handler reported last.
    PROGRESS = "progress";
    /// Set of ids that are still in `completed` although their messages were erased. Trimming `completed` removes the ids of erased
    /// messages from both keys.
    ERASED = "erased";
    /// Hash hold key → each unfinished signal: the last id when the signal arrived (the cut), the signal's data, the last released
    /// id.
    SIGNALS = "signals";
    /// Hash hold key → data of each sticky signal.
    STICKY = "sticky";
    /// Sorted set hold key → time in ms until which the signal is sticky.
    STICKY_UNTIL = "sticky_until";
    /// Hash id → the data, as JSON, of the signal that released the message.
    SIGNALLED = "signalled";
    /// Hash idempotency key → its expiry, the fingerprint of its request, the ids of the request's messages.
    DEDUP = "dedup";
    /// Sorted set idempotency key → time in ms at which the key expires.
    DEDUP_UNTIL = "dedup_until";
    /// List of ids that were in `waiting` when the waiting messages were purged, and are not forgotten yet.
    PURGED = "purged";
    /// Sorted set of ids that were in `prioritized` when the waiting messages were purged, and are not forgotten yet.
    PURGED_PRIORITIZED = "purged_prioritized";
    /// Set of ids that were in `removed` when the waiting messages were purged, and are still in `purged`.
    PURGED_REMOVED = "purged_removed";
    /// Hash group → position of the group's first ready message and the number of its other ready messages, if any message is ready; a
    /// slash and the number of the group's messages that are active, in back-off, or released with a pause or a hold key, if there are
    /// such messages.
    GROUPS = "groups";
    /// Sorted set of "group, tab, position", all of score 0: the other ready messages of groups.
    GROUP_REST = "group_rest";
    /// Sorted set group → turn, its position in the order of serving groups: the groups from which a message may be leased now,
    /// except the groups in `single_turns`; '' stands for the messages without a group.
    TURNS = "turns";
    /// List of the ids of messages that are the only message of their group, in the order of their turns. The list also has stale ids;
    /// `lua/lib/groups.lua` says which ids are stale.
    SINGLE_TURNS = "single_turns";
    /// The key `groups` as an unfinished purge has renamed it.
    PURGED_GROUPS = "purged_groups";
    /// The key `group_rest` as an unfinished purge has renamed it.
    PURGED_GROUP_REST = "purged_group_rest";
    /// Set of ids of messages that were posted before the purge and became ready after the purge began: such messages are not purged.
    RETURNED = "returned";
    /// Hash name → state of each schedule of the queue; `lua/lib/schedule.lua` describes the format.
    SCHEDULES = "schedules";
    /// Hash name → options, a line feed and the record of the message that each tick of the schedule posts.
    SCHEDULE_MESSAGES = "schedule_messages";
    /// Sorted set name → time in ms of the next tick of the schedule, unless the schedule is paused or has ended.
    TICKS = "ticks";
    /// Stream: the events of messages while a client listens; the key expires some time after the last listener. The channel of
    /// the same name wakes event readers when there are new events.
    EVENTS = "events";
    /// The channel that wakes idle consumers; there is no key of this name.
    WAKE = "wake";
    }
}

/// One of the 16,384 parts into which a cluster divides all keys. Keys with the same hash tag have the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(u16);

impl Slot {
    /// The number of slots of a cluster.
    pub(crate) const COUNT: usize = 16_384;
    /// The first slot of a cluster.
    pub(crate) const FIRST: Self = Self(0);

    /// Returns the slot of a key. The slot depends on the hash tag, the part between the first `{` and the next `}`; without a hash
    /// tag, on the whole key.
    pub(crate) fn of(key: &str) -> Self {
        let hash_tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(hash_tag, _)| hash_tag);
        let hashed_part = hash_tag.filter(|hash_tag| !hash_tag.is_empty()).unwrap_or(key);
        let slot = usize::from(Crc::<u16>::new(&CRC_16_XMODEM).checksum(hashed_part.as_bytes())) % Self::COUNT;
        Self(u16::try_from(slot).expect("a slot is less than 16,384"))
    }

    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

/// The keys of one queue.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    slot: Slot,
}

impl Keys {
    pub(crate) fn of(queue: &QueueName) -> Self {
        let prefix = format!("drover:{{{queue}}}:");
        let slot = Slot::of(&prefix);
        Self { prefix, slot }
    }

    /// Returns the cluster slot of all keys of the queue.
    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Returns the queue to which a key or a channel belongs.
    pub(crate) fn queue_of(key: &str) -> Option<QueueName> {
        key.strip_prefix("drover:{")?.split_once('}')?.0.parse().ok()
    }

    pub(crate) fn key(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.prefix)
    }

    /// Writes the key with this suffix to the buffer `key`, like [`key`](Self::key). A call of a script has many keys, so one
    /// buffer is reused for all of them.
    pub(crate) fn write(&self, suffix: &str, key: &mut String) {
        key.clear();
        key.push_str(&self.prefix);
        key.push_str(suffix);
    }
}
