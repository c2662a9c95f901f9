//! A queue, with one file for each operation on it.

mod audit;
mod audit_groups;
mod audit_held;
mod change_message;
mod coalesce;
mod configure;
mod declare;
mod delete;
mod enqueue;
mod events;
mod extend;
pub(crate) mod index;
mod lease;
mod list;
mod load_schedules;
mod lost_calls;
mod lost_leases;
mod maintain;
mod patch;
mod pending_posts;
mod progress;
mod purge;
mod put_schedule;
mod queues;
mod read;
mod retry;
mod schedules;
mod settle;
mod signal;
mod status;
mod tick;
mod undo_leases;

use std::sync::{Arc, atomic::AtomicBool};

pub use change_message::Changed;
use deadpool_redis::redis::{self, Cmd, FromRedisValue, ToRedisArgs};
pub use enqueue::Enqueued;
pub use extend::Extended;
pub(crate) use lease::Access;
pub use lease::{Delivery, LeaseRequest, Leased};
pub use list::ListFilter;
pub(crate) use load_schedules::{ScheduleParts, WhichSchedules};
use parking_lot::Mutex;
pub use put_schedule::{DefinedBy, PutSchedule};
pub use queues::Queues;
pub use settle::{Action, Settlement};
pub use signal::{Signal, Signalled};
pub use status::QueueStatus;
pub(crate) use tick::Plan;
pub use tick::{KnownSchedules, TickOutcome};

use crate::{
    error::{Error, Result},
    limits,
    names::{QueueName, ScheduleName},
    queue::{
        lost_calls::LostCalls,
        pending_posts::{PendingPosts, PostLimit},
    },
    redis::{
        CallError, Keys, Redis, reply,
        scripts::{LAYOUT, Script},
        suffix,
    },
    schedule::{NewSchedule, calculations::Calculations},
    settings::patch::SettingsPatch,
    time::Millis,
};

/// The part of the configuration that declares one queue.
pub(crate) struct Declared {
    pub(crate) settings: SettingsPatch,
    pub(crate) schedules: Vec<(ScheduleName, NewSchedule)>,
}

/// One queue and the operations on it. Most operations call one script; the operations of producers and consumers take a batch of
/// messages.
pub struct Queue {
    redis: Redis,
    name: QueueName,
    keys: Keys,
    declared: Declared,
    /// The epoch of the queue when this process declared it last. The epoch is a text that differs for each queue that is created.
    epoch: Mutex<Option<String>>,
    /// Whether this process has used the queue since it last checked that the index has the queue's name.
    was_used: AtomicBool,
    lost_calls: LostCalls,
    post_limit: Arc<PostLimit>,
    /// Runs the calculations on schedules that requests need. All queues share these calculations.
    calculations: Calculations,
    /// Messages that were posted and wait for the next call of `enqueue.lua`.
    posted: Mutex<PendingPosts>,
}

impl Queue {
    /// The maximum number of messages in the request or the reply of one call: 1,000.
    pub const MAX_MESSAGES: usize = limits::MAX_MESSAGES;
    /// The maximum bytes of payload in the request or the reply of one call: 4 MiB.
    pub const MAX_BYTES: usize = limits::MAX_BYTES;
    /// The maximum bytes of a result: 64 KiB. A message whose result is larger fails with the code `result_too_large`.
    pub const MAX_RESULT_BYTES: usize = limits::MAX_RESULT_BYTES;
    /// The time for which a lease lasts beyond the timeout of its run, so that the consumer can settle it.
    pub const RUN_TIMEOUT_GRACE: Millis = limits::RUN_TIMEOUT_GRACE;

    pub(crate) fn new(
        redis: Redis,
        name: QueueName,
        declared: Declared,
        post_limit: Arc<PostLimit>,
        calculations: Calculations,
    ) -> Self {
        let keys = Keys::of(&name);
        let (epoch, lost_calls, posted) = (Mutex::default(), LostCalls::default(), Mutex::default());
        let was_used = AtomicBool::new(false);
        Self { redis, name, keys, declared, epoch, was_used, lost_calls, post_limit, calculations, posted }
    }

    /// The queue's name.
    pub fn name(&self) -> &QueueName {
        &self.name
    }

    async fn call<T: FromRedisValue>(&self, script: &'static Script, call: Call) -> Result<T> {
        let answer = self.redis.call_script(self.keys.slot(), script, &call.command).await;
        reply::decode(answer.map_err(|error| self.explain(error))?)
    }

    /// Calls a script for the queue whose epoch is in the arguments. Returns `None` if that queue was deleted meanwhile.
    async fn call_unless_deleted<T: FromRedisValue>(&self, script: &'static Script, call: Call) -> Result<Option<T>> {
        match self.redis.call_script(self.keys.slot(), script, &call.command).await {
            Err(CallError::StaleEpoch) => Ok(None),
            answer => reply::decode(answer.map_err(|error| self.explain(error))?).map(Some),
        }
    }

    /// Returns the epoch of the queue in Redis; `None` if the queue does not exist.
    async fn stored_epoch(&self) -> Result<Option<String>> {
        let mut read_command = redis::cmd("HGET");
        read_command.arg(self.keys.key(suffix::META)).arg("epoch");
        reply::decode(self.redis.call(self.keys.slot(), &read_command).await?)
    }

    fn explain(&self, error: CallError) -> Error {
        match error {
            CallError::OtherLayout(found) => {
                Error::OtherLayout { what: format!("queue {}", self.name), found, known: LAYOUT }
            }
            other => other.into(),
        }
    }
}

/// A random number in [0, 1), as the scripts read it.
fn random_fraction() -> String {
    format!("{:.6}", rand::random_range(0.0..0.999_999))
}

/// The call of a script: its keys and its arguments.
struct Call {
    command: Cmd,
}

impl Call {
    fn new(script: &Script, keys: &Keys) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.sha).arg(script.keys.len());
        let mut key = String::new();
        for suffix in &script.keys {
            keys.write(suffix, &mut key);
            command.arg(&key);
        }
        Self { command }
    }

    fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.push(arg);
        self
    }

    fn push(&mut self, arg: impl ToRedisArgs) {
        self.command.arg(arg);
    }
}
