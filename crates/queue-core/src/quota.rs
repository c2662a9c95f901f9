//! Quotas of uses over all processes. The API limits its keys by them.

use std::sync::LazyLock;

use deadpool_redis::redis::{self, Value};

use crate::{Error, Millis, RateLimit, Redis, Result, keys, reply, scripts::Script};

/// The script's name.
pub(crate) const NAME: &str = "quota";

static SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(NAME, Vec::new(), include_str!("lua/quota.lua").to_owned()));

/// How much of something may be done in a time, over all processes, by Redis's clock.
///
/// It is no queue's: the API limits with it what each of its keys may ask for.
#[derive(Clone)]
pub struct Quota {
    redis: Redis,
}

/// What became of one use of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Whether it is within the limit. If it is not, it does not count.
    pub is_granted: bool,
    /// How many more there may be now.
    pub remaining: u32,
    /// Then there may be more than that.
    pub more_after: Millis,
}

impl Quota {
    /// The quotas in `redis`.
    pub fn new(redis: Redis) -> Self {
        Self { redis }
    }

    /// Uses what `name` has, once, if `limit` permits: no window of its duration, wherever it starts, sees more than its
    /// `max`. The duration must be whole seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: it may have been counted or not.
    pub async fn take(&self, name: &str, limit: RateLimit) -> Result<Use> {
        let duration = limit.duration.get();
        let mut call = redis::cmd("EVALSHA");
        call.arg(&SCRIPT.sha).arg(1).arg(format!("{}{name}:{duration}", keys::QUOTA)).arg(*limit.max).arg(duration);
        let answer = self.redis.call_script(&SCRIPT, &call).await?;
        let mut parts = reply::array(Some(answer))?.into_iter();
        let mut next = || match parts.next() {
            Some(Value::Int(number)) => u64::try_from(number).map_err(Error::unexpected),
            other => Err(Error::unexpected(other)),
        };
        Ok(Use {
            is_granted: next()? == 1,
            remaining: u32::try_from(next()?).map_err(Error::unexpected)?,
            more_after: Millis::new(next()?),
        })
    }
}
