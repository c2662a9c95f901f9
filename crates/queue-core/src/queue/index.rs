//! The index of queues: a sorted set of their names. Lists of queues, and searches by a pattern, read this index. Another index has the
//! names of the queues that have schedules, and is kept correct in the same way as the index of all queues.
//!
//! A queue exists when its key `meta` has an epoch. The key `meta` lies in another cluster slot than the index, so no script can change
//! `meta` and the index together. The index may be outdated: it may have a name without a queue, and for a while it may lack the name
//! of a queue. Three rules keep the index correct: the process that creates a queue adds its name before it creates the queue, and
//! again after it; the process that deletes a queue removes the name afterwards, then checks for the queue once more; maintenance
//! repairs the index after an interruption between these steps.

use std::sync::atomic::Ordering;

use deadpool_redis::redis::{self, Value};

use crate::{
    error::{Error, Result},
    names::QueueName,
    queue::Queue,
    redis::{CallError, Redis, Slot, keys, reply, scripts::LAYOUT, suffix},
};

/// The maximum number of names that one call reads or adds.
const NAMES_PER_CALL: usize = 1_000;

/// Adds names to an index; names that are already in the index stay.
pub(crate) async fn add(redis: &Redis, index: &str, names: &[QueueName]) -> Result<()> {
    for chunk in names.chunks(NAMES_PER_CALL) {
        let mut add_command = redis::cmd("ZADD");
        add_command.arg(index);
        for name in chunk {
            add_command.arg(0).arg(name.as_str());
        }
        call_index(redis, index, &add_command).await?;
    }
    Ok(())
}

/// Adds a name to an index that lacks it. The function looks for the name before it writes, because a Redis whose memory is full
/// refuses even a write that changes nothing.
pub(crate) async fn add_if_absent(redis: &Redis, index: &str, name: &QueueName) -> Result<()> {
    let mut score_command = redis::cmd("ZSCORE");
    score_command.arg(index).arg(name.as_str());
    match call_index(redis, index, &score_command).await? {
        Value::Nil => add(redis, index, std::slice::from_ref(name)).await,
        _ => Ok(()),
    }
}

pub(crate) async fn remove(redis: &Redis, index: &str, name: &QueueName) -> Result<()> {
    let mut remove_command = redis::cmd("ZREM");
    remove_command.arg(index).arg(name.as_str());
    call_index(redis, index, &remove_command).await.map(drop)
}

/// The first `max` names, in order, that begin with `start` and come after `after`. If the result has fewer than `max` names, the index
/// has no more of them.
pub(crate) async fn names(
    redis: &Redis,
    index: &str,
    start: &str,
    after: Option<&QueueName>,
    max: usize,
) -> Result<Vec<QueueName>> {
    let mut names: Vec<QueueName> = Vec::new();
    let after = after.filter(|after| after.as_str() >= start);
    // Every character of a queue's name is smaller than `\u{ff}`, so all names that begin with `start` come before `start\u{ff}`.
    let range_end = format!("({start}\u{ff}");
    while names.len() < max {
        let range_start = names.last().or(after).map_or_else(|| format!("[{start}"), |last| format!("({last}"));
        let name_count = NAMES_PER_CALL.min(max - names.len());
        let mut range = redis::cmd("ZRANGE");
        range.arg(index).arg(range_start).arg(&range_end).arg("BYLEX").arg("LIMIT").arg(0).arg(name_count);
        let page: Vec<Vec<u8>> = reply::decode(call_index(redis, index, &range).await?)?;
        let is_last = page.len() < name_count;
        let count_before = names.len();
        names.extend(page.into_iter().filter_map(|name| String::from_utf8(name).ok()?.parse::<QueueName>().ok()));
        if is_last || names.len() == count_before {
            break;
        }
    }
    Ok(names)
}

impl Queue {
    /// Adds the name to the index if the queue exists and was used since the last call of this function. The name of an existing
    /// queue is missing only if the creation or the deletion of the queue was interrupted.
    pub(crate) async fn restore_name(&self) -> Result<()> {
        if !self.was_used.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let was_restored = match self.stored_epoch().await {
            Ok(Some(_)) => add_if_absent(&self.redis, keys::INDEX, &self.name).await,
            other => other.map(drop),
        };
        if was_restored.is_err() {
            self.was_used.store(true, Ordering::Relaxed);
        }
        was_restored
    }

    /// Removes the name from the index, unless the queue exists.
    pub(crate) async fn forget_name(&self) -> Result<()> {
        remove(&self.redis, keys::INDEX, &self.name).await?;
        // The queue may have been created just before its name was removed from the index, so `forget_name` checks after the removal
        // whether the queue exists.
        if self.stored_epoch().await?.is_some() {
            add(&self.redis, keys::INDEX, std::slice::from_ref(&self.name)).await?;
        }
        Ok(())
    }

    /// Removes the name from the index of queues with schedules, unless the queue has one.
    pub(crate) async fn forget_name_of_schedules(&self) -> Result<()> {
        remove(&self.redis, keys::QUEUES_WITH_SCHEDULES, &self.name).await?;
        // A schedule may have been created just before the queue's name was removed from the index, so `forget_name_of_schedules`
        // checks after the removal whether the queue has schedules.
        let mut exists_command = redis::cmd("EXISTS");
        exists_command.arg(self.keys.key(suffix::SCHEDULES));
        if reply::decode::<bool>(self.redis.call(self.keys.slot(), &exists_command).await?)? {
            add(&self.redis, keys::QUEUES_WITH_SCHEDULES, std::slice::from_ref(&self.name)).await?;
        }
        Ok(())
    }
}

async fn call_index(redis: &Redis, index: &str, command: &redis::Cmd) -> Result<Value> {
    redis.call(Slot::of(index), command).await.map_err(|error| match error {
        // In data layouts before 2 the index was a plain set, so commands for sorted sets fail with WRONGTYPE.
        CallError::Failed(Error::Unexpected(text)) if text.contains("WRONGTYPE") => {
            Error::OtherLayout { what: format!("the key {index}"), found: 1, known: LAYOUT }
        }
        other => other.into(),
    })
}
