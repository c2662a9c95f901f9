//! Quotas: limits of uses that hold for all processes together. The API uses quotas to limit the requests of each API key.

use std::sync::LazyLock;

use deadpool_redis::redis;

use crate::{
    error::Result,
    redis::{
        client::Redis,
        keys::{self, Slot},
        reply,
        scripts::{self, Script},
    },
    settings::rate_limit::RateLimit,
    time::Millis,
};

static SCRIPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(scripts::QUOTA, Vec::new(), include_str!("../lua/manage/quota.lua").to_owned()));

/// The outcome of one use of a quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// Whether the use, such as one request, is within the limit of the quota. A request beyond the limit does not count as a use
    /// of the quota.
    pub is_granted: bool,
    /// The number of further uses of the quota that its limit permits now.
    pub remaining: u32,
    /// The time after which the limit of the quota permits more uses than `remaining`.
    pub more_after: Millis,
}

impl Redis {
    /// Uses the quota `name` once, if `limit` permits: no window of the limit's duration has more than `max` uses, wherever the
    /// window starts, over all processes and by Redis's clock. The duration of a quota must be whole seconds. A quota belongs to no
    /// queue.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable): the use may have been counted or not.
    pub async fn use_quota(&self, name: &str, limit: RateLimit) -> Result<QuotaUse> {
        let duration = limit.duration.get();
        let mut call = redis::cmd("EVALSHA");
        let key = format!("{}{name}:{duration}", keys::QUOTA);
        call.arg(&SCRIPT.sha).arg(1).arg(&key).arg(*limit.max).arg(duration);
        let answer = self.call_script(Slot::of(&key), &SCRIPT, &call).await?;
        let (granted, remaining, more_after): (u32, u32, u64) = reply::decode(answer)?;
        Ok(QuotaUse { is_granted: granted == 1, remaining, more_after: Millis::new(more_after) })
    }
}
