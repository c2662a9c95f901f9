use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use deadpool_redis::redis::{self, Value};

use crate::{Error, Queue, QueueName, Redis, Result, SettingsPatch, keys, queue::Life, reply};

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
    life: Life,
    declared: BTreeMap<QueueName, SettingsPatch>,
    handles: Mutex<HashMap<QueueName, Arc<Queue>>>,
}

impl Queues {
    /// The queues in `redis`. Settings `declared` for a queue win over those set at run time, key by key, whenever the
    /// queue is declared.
    pub fn new(redis: Redis, declared: BTreeMap<QueueName, SettingsPatch>) -> Self {
        Self { shared: Arc::new(Shared { redis, life: Life::BegunByUse, declared, handles: Mutex::default() }) }
    }

    /// The same, over other connections.
    #[must_use]
    pub fn over(&self, redis: Redis) -> Self {
        let (declared, life) = (self.shared.declared.clone(), self.shared.life);
        Self { shared: Arc::new(Shared { redis, life, declared, handles: Mutex::default() }) }
    }

    /// The same, but to lease from one begins no queue: where there is none, or none any longer, that is
    /// [`Error::NoSuchQueue`].
    #[must_use]
    pub fn that_exist(&self) -> Self {
        let (redis, declared) = (self.shared.redis.clone(), self.shared.declared.clone());
        Self { shared: Arc::new(Shared { redis, life: Life::BegunByOthers, declared, handles: Mutex::default() }) }
    }

    /// The connections.
    pub fn redis(&self) -> &Redis {
        &self.shared.redis
    }

    /// A queue. It need not exist: it does from its first message or its first settings.
    pub fn queue(&self, name: &QueueName) -> Arc<Queue> {
        let mut handles = self.shared.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = handles.get(name) {
            return Arc::clone(queue);
        }
        if handles.len() >= MAX_HANDLES {
            // Those that somebody uses stay.
            handles.retain(|_, queue| Arc::strong_count(queue) > 1);
        }
        let declared = self.shared.declared.get(name).cloned().unwrap_or_default();
        let queue = Arc::new(Queue::new(self.shared.redis.clone(), name.clone(), declared, self.shared.life));
        handles.insert(name.clone(), Arc::clone(&queue));
        queue
    }

    /// Applies the declared settings, each to its queue.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::NewerLayout`].
    pub async fn declare(&self) -> Result<()> {
        for name in self.shared.declared.keys() {
            self.queue(name).declare().await?;
        }
        Ok(())
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

    /// The names of all queues that ever had a message, in order.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    pub async fn names(&self) -> Result<Vec<QueueName>> {
        let mut names = Vec::new();
        let mut cursor = String::from("0");
        loop {
            let mut scan = redis::cmd("SSCAN");
            scan.arg(keys::REGISTRY).arg(&cursor).arg("COUNT").arg(1_000);
            let Value::Array(parts) = self.shared.redis.call(&scan).await? else {
                return Err(Error::unexpected("an SSCAN without an array"));
            };
            let mut parts = parts.into_iter();
            cursor = reply::text(parts.next())?;
            let page = reply::array(parts.next())?;
            names.extend(page.into_iter().filter_map(|name| reply::text(Some(name)).ok()?.parse::<QueueName>().ok()));
            if cursor == "0" {
                names.sort_unstable();
                names.dedup();
                return Ok(names);
            }
        }
    }
}
