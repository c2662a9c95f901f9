//! All queues of one Redis: their handles, their declared settings, their names.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use deadpool_redis::redis;
use parking_lot::Mutex;

use crate::{
    DeclaredSettings, Error, Queue, QueueName, Redis, Result, SettingsPatch, index,
    keys::{self, Keys},
    queue::Intake,
    reply,
};

/// How many queue handles a process keeps. A handle is only a cache of what it knows of the queue, so the API can
/// forget them all and begin anew when strangers have named so many queues.
const MAX_HANDLES: usize = 10_000;

/// All queues of one Redis.
#[derive(Clone)]
pub struct Queues {
    shared: Arc<Shared>,
}

struct Shared {
    redis: Redis,
    declared: DeclaredSettings,
    handles: Mutex<HashMap<QueueName, Arc<Queue>>>,
    intake: Arc<Intake>,
}

impl Queues {
    /// The queues in `redis`. Settings `declared` for a queue win over those set at run time, key by key, whenever the
    /// queue is declared.
    pub fn new(redis: Redis, declared: BTreeMap<QueueName, SettingsPatch>) -> Self {
        Self::with_declared(redis, declared.into())
    }

    /// As [`new`](Self::new), with settings that are declared by pattern too.
    pub fn with_declared(redis: Redis, declared: DeclaredSettings) -> Self {
        let (handles, intake) = (Mutex::default(), Arc::default());
        Self { shared: Arc::new(Shared { redis, declared, handles, intake }) }
    }

    /// The same, over other connections.
    #[must_use]
    pub fn over(&self, redis: Redis) -> Self {
        Self::with_declared(redis, self.shared.declared.clone())
    }

    /// The connections.
    pub fn redis(&self) -> &Redis {
        &self.shared.redis
    }

    /// A queue. It need not exist: it does from its first message or its first settings.
    pub fn queue(&self, name: &QueueName) -> Arc<Queue> {
        let mut handles = self.shared.handles.lock();
        if let Some(queue) = handles.get(name) {
            return Arc::clone(queue);
        }
        if handles.len() >= MAX_HANDLES {
            // Those that somebody uses stay.
            handles.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let declared = self.shared.declared.of(name);
        let (redis, intake) = (self.shared.redis.clone(), Arc::clone(&self.shared.intake));
        let queue = Arc::new(Queue::new(redis, name.clone(), declared, intake));
        handles.insert(name.clone(), Arc::clone(&queue));
        queue
    }

    /// Applies the declared settings to each queue that is named there. A pattern names no queue: its settings are applied
    /// when a queue that fits is declared.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn declare(&self) -> Result<()> {
        for name in self.shared.declared.names() {
            self.queue(&name).declare().await?;
        }
        Ok(())
    }

    /// Waits until everything that was [posted](Queue::post) is stored or refused. To be awaited when nothing more is
    /// posted, at the end of the process.
    pub async fn settled_posts(&self) {
        self.shared.intake.drained().await;
    }

    /// How many workers there are, in about: as many as have their [subscription](crate::Subscriber::of_starts).
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn workers(&self) -> Result<u32> {
        let mut count = redis::cmd("PUBSUB");
        count.arg("NUMSUB").arg(keys::WORKERS_CHANNEL);
        let count = reply::array(Some(self.shared.redis.call(&count).await?))?.into_iter().nth(1);
        u32::try_from(reply::integer(count)?).map_err(Error::unexpected)
    }

    /// The names of all queues, in order. A name may stand here for a while whose queue is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn names(&self) -> Result<Vec<QueueName>> {
        self.names_from("").await
    }

    /// Of these, the ones that begin so.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn names_from(&self, start: &str) -> Result<Vec<QueueName>> {
        index::names_from(&self.shared.redis, start).await
    }

    /// Sees to it that each queue that this process has used since it last did is found by its name: adds those that are
    /// missing in the index. To be repeated about once a minute.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`]: the rest is seen to when its queue is used again.
    pub async fn see_to_names(&self) -> Result<()> {
        let handles: Vec<Arc<Queue>> = self.shared.handles.lock().values().cloned().collect();
        for queue in handles {
            queue.see_to_name().await?;
        }
        Ok(())
    }

    /// Looks through all keys for queues, and adds those to the index that are missing there.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`]: a part was done; repeat it.
    pub async fn find_unlisted(&self) -> Result<()> {
        let redis = &self.shared.redis;
        let mut cursor = String::from("0");
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(keys::META_OF_ALL).arg("COUNT").arg(1_000);
            let mut answer = reply::array(Some(redis.call(&scan).await?))?.into_iter();
            cursor = reply::text(answer.next())?;
            let found = reply::array(answer.next())?.into_iter();
            let names: Vec<QueueName> = found.filter_map(|key| Keys::queue_of(&reply::text(Some(key)).ok()?)).collect();
            index::add(redis, &names).await?;
            if cursor == "0" {
                return Ok(());
            }
        }
    }
}
