//! Declares queues: only `declare.lua` creates a queue. A call to a queue that does not exist either declares the queue first,
//! or fails.

use std::{sync::atomic::Ordering, time::Duration};

use deadpool_redis::redis::FromRedisValue;
use tokio::time::sleep;
use tracing::{debug, warn};

use crate::{
    error::{Error, Result},
    queue::{Call, Queue, index},
    redis::{
        CallError, keys, reply,
        scripts::{self, Script},
    },
    settings::patch::InvalidSetting,
};

/// The maximum number of times that one call declares a queue again, because other processes may delete the queue at the same
/// time.
const MAX_REDECLARATIONS: u64 = 30;

/// The behaviour of a call if the queue does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IfAbsent {
    /// If the queue does not exist, the call creates the queue.
    Create,
    /// If the queue does not exist, the call fails with [`Error::NoSuchQueue`].
    Refuse,
}

/// The outcome of declaring a queue.
pub(super) struct Declaration {
    epoch: String,
    was_created: bool,
    /// A declared setting that was not written, because the queue's messages or schedules contradict it.
    pub(super) conflict: Option<InvalidSetting>,
}

impl Queue {
    /// Creates the queue if it does not exist, and writes its declared settings. Returns the queue's epoch, which distinguishes queues
    /// that had the same name one after the other. A declared setting that contradicts the queue's messages or schedules is not
    /// written, and is logged.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`]; [`Error::OutOfMemory`] if it must create the queue.
    pub async fn declare(&self) -> Result<String> {
        self.declare_and_log_conflict(IfAbsent::Create).await
    }

    pub(super) async fn declare_and_log_conflict(&self, if_absent: IfAbsent) -> Result<String> {
        let Declaration { epoch, conflict, .. } = self.declare_and_return_conflict(if_absent).await?;
        if let Some(conflict) = conflict {
            warn!(queue = %self.name, %conflict, "a declared setting is not applied: the queue keeps its own value");
        }
        Ok(epoch)
    }

    /// Like [`declare`](Self::declare), but returns a conflict and does not log it.
    pub(super) async fn declare_and_return_conflict(&self, if_absent: IfAbsent) -> Result<Declaration> {
        // A call to an existing queue does not use the index, so the queue works even while the server that has the index is not
        // available.
        let existing_queue = self.call_declare("").await?;
        let declared_queue = match if_absent {
            IfAbsent::Create if existing_queue.is_none() => self.create().await?,
            _ => existing_queue,
        };
        let Some(declaration) = declared_queue else {
            *self.epoch.lock() = None;
            return Err(Error::NoSuchQueue);
        };
        let Declaration { epoch, was_created, .. } = &declaration;
        debug!(queue = %self.name, epoch, was_created, "declared");
        *self.epoch.lock() = Some(epoch.clone());
        // An interrupted creation or deletion may have left the index without the name, so maintenance adds it if it is missing.
        self.was_used.store(true, Ordering::Relaxed);
        if *was_created && let Err(error) = Box::pin(self.declare_schedules()).await {
            warn!(queue = %self.name, %error, "the declared schedules of a new queue are not created: start the service again");
        }
        Ok(declaration)
    }

    /// Creates the queue, unless another process does so first.
    async fn create(&self) -> Result<Option<Declaration>> {
        let name = std::slice::from_ref(&self.name);
        // The name is added to the index before the queue is created: a name without a queue is harmless, but a queue without a name
        // would not be found.
        index::add(&self.redis, keys::INDEX, name).await?;
        let declaration = self.call_declare(&format!("{:016x}", rand::random::<u64>())).await?;
        if declaration.as_ref().is_some_and(|declaration| declaration.was_created) {
            // The name is added to the index again, because a concurrent deletion may have removed it.
            index::add(&self.redis, keys::INDEX, name).await?;
        }
        Ok(declaration)
    }

    /// Writes the declared settings. If the queue does not exist, creates it with `new_epoch`, unless `new_epoch` is empty. Returns
    /// `None` if the queue does not exist.
    async fn call_declare(&self, new_epoch: &str) -> Result<Option<Declaration>> {
        let mut call = Call::new(&scripts::DECLARE, &self.keys).arg(new_epoch);
        for (setting, value) in self.declared.settings.meta_fields() {
            call.push(setting);
            call.push(value);
        }
        let declare_reply: Option<(String, bool, String)> = self.call(&scripts::DECLARE, call).await?;
        Ok(declare_reply.map(|(epoch, was_created, obstacle)| {
            let conflict = (!obstacle.is_empty()).then(|| InvalidSetting::exclusive_conflicts_with_groups(&obstacle));
            Declaration { epoch, was_created, conflict }
        }))
    }

    /// Calls a script with the queue's epoch, which distinguishes queues that had the same name one after the other. If this process
    /// has not declared the queue yet, or if the queue in Redis has another epoch, the queue is declared first. `build_call` makes the
    /// call of the script for an epoch of the queue.
    pub(super) async fn call_declared<T: FromRedisValue>(
        &self,
        if_absent: IfAbsent,
        script: &'static Script,
        build_call: impl Fn(&str) -> Call,
    ) -> Result<T> {
        let known_epoch = self.epoch.lock().clone();
        // A declaration is rare, so its future is boxed, which keeps the future of each call small.
        let mut epoch = match known_epoch {
            Some(epoch) => epoch,
            None => Box::pin(self.declare_and_log_conflict(if_absent)).await?,
        };
        for tried in 0..MAX_REDECLARATIONS {
            match self.redis.call_script(self.keys.slot(), script, &build_call(&epoch).command).await {
                Err(CallError::StaleEpoch) => {
                    // The queue is first declared again at once. If other processes keep deleting the queue, each later declaration
                    // waits for a random time.
                    let max_pause = Duration::from_millis(tried);
                    epoch = Box::pin(async {
                        sleep(max_pause.mul_f64(rand::random())).await;
                        self.declare_and_log_conflict(if_absent).await
                    })
                    .await?;
                }
                answer => {
                    self.was_used.store(true, Ordering::Relaxed);
                    return reply::decode(answer.map_err(|error| self.explain(error))?);
                }
            }
        }
        Err(Error::Unavailable("other clients delete the queue all the time".into()))
    }
}
