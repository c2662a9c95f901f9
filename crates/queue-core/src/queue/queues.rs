//! All queues of one Redis: their handles, their declared settings, their names, and pages of their status.

use std::{collections::HashMap, sync::Arc};

use deadpool_redis::redis;
use futures_util::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::{
    error::{Error, Result},
    names::QueueName,
    queue::{Declared, Queue, QueueStatus, declare::IfAbsent, index, pending_posts::PostLimit},
    redis::{Keys, Redis, keys, reply},
    schedule::{calculations::Calculations, metrics::TickMetrics},
    settings::{DeclaredSettings, QueuePattern},
};

/// When there are this many queue handles, half of the unused handles are removed, because clients may name any number of queues. A
/// queue handle takes less than 1 KiB. A handle only caches facts about its queue, so removing a handle is safe; the next call
/// declares the queue again.
const MAX_QUEUE_HANDLES: usize = 50_000;

/// The maximum number of names that a page of queues reads.
const MAX_NAMES: usize = 1_000;
/// The maximum number of queues whose status one call reads concurrently.
const MAX_CONCURRENT_READS: usize = 32;

/// All queues of one Redis.
#[derive(Clone)]
pub struct Queues {
    shared: Arc<QueuesState>,
}

struct QueuesState {
    redis: Redis,
    declared: DeclaredSettings,
    handles: Mutex<HashMap<QueueName, Arc<Queue>>>,
    post_limit: Arc<PostLimit>,
    tick_metrics: TickMetrics,
    calculations: Calculations,
}

impl Queues {
    /// Returns the queues in `redis`. Whenever a queue is declared, each of its settings in `declared` replaces the value that a
    /// client has set at run time.
    pub fn new(redis: Redis, declared: DeclaredSettings) -> Self {
        let (handles, post_limit, tick_metrics) = (Mutex::default(), Arc::default(), TickMetrics::default());
        let calculations = Calculations::default();
        Self { shared: Arc::new(QueuesState { redis, declared, handles, post_limit, tick_metrics, calculations }) }
    }

    /// Returns a handle to the same queues that uses other connections to Redis.
    #[must_use]
    pub fn with_redis(&self, redis: Redis) -> Self {
        Self::new(redis, self.shared.declared.clone())
    }

    /// Returns the connections to Redis.
    pub fn redis(&self) -> &Redis {
        &self.shared.redis
    }

    /// The handle of a queue. The queue need not exist: its first message, change of settings or sticky signal creates it.
    pub fn queue(&self, name: &QueueName) -> Arc<Queue> {
        let mut queue_handles = self.shared.handles.lock();
        if let Some(queue) = queue_handles.get(name) {
            return Arc::clone(queue);
        }
        if queue_handles.len() >= MAX_QUEUE_HANDLES {
            // Queue handles that are in use stay in memory, and so does every second unused queue handle. For a client that posts in
            // turn to more than `MAX_QUEUE_HANDLES` queues, the handles of some queues are therefore still in memory.
            let mut stays_declared = false;
            queue_handles.retain(|_, queue| {
                stays_declared = !stays_declared;
                stays_declared || Arc::strong_count(queue) > 1
            });
        }
        let declared_settings =
            Declared { settings: self.shared.declared.of(name), schedules: self.shared.declared.schedules_of(name) };
        let (redis, post_limit) = (self.shared.redis.clone(), Arc::clone(&self.shared.post_limit));
        let calculations = self.shared.calculations.clone();
        let queue = Arc::new(Queue::new(redis, name.clone(), declared_settings, post_limit, calculations));
        queue_handles.insert(name.clone(), Arc::clone(&queue));
        queue
    }

    /// Applies the declared settings and schedules to each queue that the configuration names. The settings of a pattern are
    /// applied when a matching queue is declared.
    ///
    /// # Errors
    ///
    /// The errors of [`Queue::declare`]. [`Error::InvalidSetting`] if the messages or schedules of a queue contradict a declared setting:
    /// everything else is applied.
    pub async fn declare(&self) -> Result<()> {
        let mut result = Ok(());
        for name in self.shared.declared.names() {
            let queue = self.queue(&name);
            if let Some(mut conflict) = queue.declare_and_return_conflict(IfAbsent::Create).await?.conflict {
                conflict.setting = format!("{name}.{}", conflict.setting);
                result = Err(Error::InvalidSetting(conflict));
            }
            queue.declare_schedules().await?;
        }
        result
    }

    /// Waits until every [posted](Queue::post) message is stored or refused. A process that stops calls `posts_done` after its last
    /// post.
    pub async fn posts_done(&self) {
        self.shared.post_limit.wait_until_done().await;
    }

    /// The approximate number of workers: the processes with a [subscription](crate::wakeup::Subscriber::for_prefixes).
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable).
    pub async fn worker_count(&self) -> Result<u32> {
        let mut count_command = redis::cmd("PUBSUB");
        count_command.arg("NUMSUB").arg(keys::WORKERS_CHANNEL);
        let mut workers = 0;
        // A worker subscribes to one server of a cluster, and each server counts its own subscribers.
        let (replies, _) = self.shared.redis.call_each(&count_command).await?;
        for reply in replies {
            let (_, subscribers): (String, u32) = reply::decode(reply)?;
            workers += subscribers;
        }
        Ok(workers)
    }

    /// The names of all queues, in order. For a while after its deletion, the result may have the name of a deleted queue.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn names(&self) -> Result<Vec<QueueName>> {
        self.names_with_prefix("").await
    }

    /// The names of queues that begin with `prefix`, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn names_with_prefix(&self, prefix: &str) -> Result<Vec<QueueName>> {
        index::names(&self.shared.redis, keys::INDEX, prefix, None, usize::MAX).await
    }

    /// The status of queues, in the order of their names. A page has at most `limit` (1 to 1,000) queues: those that match one of
    /// `patterns`, and whose names begin with `prefix` and come after `after`. Returns the page, and the name after which the next page
    /// begins; instead of this name, the last page has `None`.
    ///
    /// A page may have fewer queues than `limit`, or none, although more pages follow, because a page reads at most 1,000 names, and
    /// the index may have names of deleted queues. Names that match none of `patterns` are not read from the index.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::OtherLayout`](crate::Error::OtherLayout).
    pub async fn list(
        &self,
        patterns: &[QueuePattern],
        prefix: &str,
        after: Option<&QueueName>,
        limit: usize,
    ) -> Result<(Vec<QueueStatus>, Option<QueueName>)> {
        let ranges = NameRange::of(patterns, prefix);
        let limit = limit.clamp(1, MAX_NAMES);
        let (mut found, mut names_read, mut wanted, mut after) = (Vec::new(), 0, limit, after.cloned());
        loop {
            // `names_in_ranges` reads one name more than is wanted, which shows whether more names follow.
            let mut names = self.names_in_ranges(&ranges, after.as_ref(), wanted + 1).await?;
            let mut more_follow = names.len() > wanted;
            names.truncate(wanted);
            names_read += names.len();
            after = names.last().cloned();
            let queues: Vec<Arc<Queue>> = names.iter().map(|name| self.queue(name)).collect();
            let read_task =
                stream::iter(queues).map(|queue| async move { queue.status().await }).buffered(MAX_CONCURRENT_READS);
            found.extend(read_task.try_collect::<Vec<_>>().await?.into_iter().flatten());
            if found.len() > limit {
                found.truncate(limit);
                (after, more_follow) = (found.last().map(|status: &QueueStatus| status.queue.clone()), true);
            }
            if !more_follow {
                return Ok((found, None));
            }
            if found.len() == limit || names_read == MAX_NAMES {
                return Ok((found, after));
            }
            // When few names in the index belong to existing queues, reading more names in each round finds the next existing queue
            // faster.
            wanted = MAX_CONCURRENT_READS.max(limit - found.len()).min(MAX_NAMES - names_read);
        }
    }

    /// The first `max` names of the index that are in these ranges and come after `after`, in order. If the result has fewer than `max`
    /// names, the index has no more of them.
    async fn names_in_ranges(
        &self,
        ranges: &[NameRange<'_>],
        after: Option<&QueueName>,
        max: usize,
    ) -> Result<Vec<QueueName>> {
        let mut names = Vec::new();
        for range in ranges.iter().filter(|range| after.is_none_or(|after| range.may_have_names_after(after))) {
            match range.kind {
                RangeKind::WithPrefix => {
                    let found_names =
                        index::names(&self.shared.redis, keys::INDEX, range.start, after, max - names.len());
                    names.extend(found_names.await?);
                }
                // A pattern without `*` is the name of a queue, which may not exist; `list` finds out when it reads the status of the
                // queue.
                RangeKind::Exact => names.extend(range.start.parse::<QueueName>()),
            }
            if names.len() == max {
                break;
            }
        }
        Ok(names)
    }

    /// Adds missing names to the index, for queues that this process has used since the last call. A process calls this function
    /// about once a minute.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::OutOfMemory`](crate::Error::OutOfMemory),
    /// [`Error::OtherLayout`](crate::Error::OtherLayout): the next call of `restore_used_names` adds the names that the index still
    /// lacks.
    pub async fn restore_used_names(&self) -> Result<()> {
        let queue_handles: Vec<Arc<Queue>> = self.shared.handles.lock().values().cloned().collect();
        let mut result = Ok(());
        for queue in queue_handles {
            // The loop continues after an error: while the server of one queue is not available, the names of other queues are
            // restored.
            result = result.and(queue.restore_name().await);
        }
        result
    }

    /// The names in the index of queues with schedules, in order. The index may have the name of a queue without schedules.
    pub(crate) async fn names_with_schedules(&self) -> Result<Vec<QueueName>> {
        index::names(&self.shared.redis, keys::QUEUES_WITH_SCHEDULES, "", None, usize::MAX).await
    }

    /// Metrics of the ticks of schedules that this process posts.
    pub fn tick_metrics(&self) -> &TickMetrics {
        &self.shared.tick_metrics
    }

    /// Scans all keys for queues and their schedules, and adds missing names to the indices.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable), [`Error::OutOfMemory`](crate::Error::OutOfMemory),
    /// [`Error::OtherLayout`](crate::Error::OtherLayout): some of the names may be added; repeat the scan.
    pub async fn restore_all_names(&self) -> Result<()> {
        let redis = &self.shared.redis;
        let patterns =
            [(keys::META_KEYS_PATTERN, keys::INDEX), (keys::SCHEDULES_KEYS_PATTERN, keys::QUEUES_WITH_SCHEDULES)];
        for node in redis.topology().nodes().await? {
            for (pattern, index) in patterns {
                let mut cursor = String::from("0");
                loop {
                    let mut scan_command = redis::cmd("SCAN");
                    scan_command.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1_000);
                    let (next_cursor, found): (String, Vec<Vec<u8>>) =
                        reply::decode(redis.call_node(&node, &scan_command).await?)?;
                    let names = found.into_iter().filter_map(|key| Keys::queue_of(&String::from_utf8(key).ok()?));
                    let names: Vec<QueueName> = names.collect();
                    index::add(redis, index, &names).await?;
                    cursor = next_cursor;
                    if cursor == "0" {
                        break;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A range of adjacent names in the index.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NameRange<'a> {
    start: &'a str,
    kind: RangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum RangeKind {
    WithPrefix,
    Exact,
}

impl<'a> NameRange<'a> {
    /// The names that match a pattern and begin with `prefix`, as sorted ranges that do not overlap.
    fn of(patterns: &'a [QueuePattern], prefix: &'a str) -> Vec<Self> {
        let ranges = patterns.iter().filter_map(|pattern| {
            let (start, kind) = match pattern.prefix() {
                Some(start) if prefix.starts_with(start) => (prefix, RangeKind::WithPrefix),
                Some(start) => (start, RangeKind::WithPrefix),
                None => (pattern.as_str(), RangeKind::Exact),
            };
            start.starts_with(prefix).then_some(Self { start, kind })
        });
        let mut ranges: Vec<Self> = ranges.collect();
        ranges.sort();
        ranges.dedup_by(|later, earlier| match earlier.kind {
            RangeKind::WithPrefix => later.start.starts_with(earlier.start),
            RangeKind::Exact => later == earlier,
        });
        ranges
    }

    /// Whether the range may have names after `name`.
    fn may_have_names_after(&self, name: &QueueName) -> bool {
        let name = name.as_str();
        self.start > name || self.kind == RangeKind::WithPrefix && name.starts_with(self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_ranges_of_queue_patterns_are_sorted_and_do_not_overlap() {
        for (patterns, prefix, expected) in [
            (&["*"][..], "", &["*"][..]),
            (&["*", "a", "b*"], "", &["*"]),
            (&["*"], "a", &["a*"]),
            (&["b", "ab*", "a", "abc", "abd*", "ab", "ab*"], "", &["a", "ab*", "b"]),
            (&["a-*", "a", "a:*"], "", &["a", "a-*", "a:*"]),
            (&["a*", "b*", "ab", "abc", "abcd*", "c"], "abc", &["abc*"]),
            (&["b", "ab", "abcd*", "abc"], "abc", &["abc", "abcd*"]),
            (&["b*"], "a", &[]),
        ] {
            let patterns: Vec<QueuePattern> = patterns.iter().map(|range_text| range_text.parse().unwrap()).collect();
            let range_text = |range: &NameRange<'_>| match range.kind {
                RangeKind::WithPrefix => format!("{}*", range.start),
                RangeKind::Exact => range.start.to_owned(),
            };
            let ranges: Vec<String> = NameRange::of(&patterns, prefix).iter().map(range_text).collect();
            assert_eq!(ranges, expected, "{patterns:?} {prefix}");
        }
    }
}
