//! One API key of the configuration.

use queue_core::{Millis, RateLimit, Timestamp};
use serde::{Deserialize, Serialize};

use super::{KeyHash, KeyId, QueuePattern, Scope, Scopes};

/// An API key: who has it, and what may be done with it. The key itself is known to its owner alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Whose it is. Several keys may have one id, so that an owner can change from one to the next.
    pub id: KeyId,
    /// The hash by which it is known.
    pub hash: KeyHash,
    /// What it is for.
    pub scopes: Scopes,
    /// On which queues.
    pub queues: Vec<QueuePattern>,
    /// So many requests in any window of that time, over all keys of this id and all processes. Defaults to no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// From then on it is not valid, by this machine's clock. Defaults to never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it is for that, on that queue.
    pub fn allows(&self, scope: Scope, queue: &str) -> bool {
        self.scopes.has(scope) && self.queues.iter().any(|pattern| pattern.fits(queue))
    }

    /// Checks what its parts can't know.
    ///
    /// # Errors
    ///
    /// What is wrong, as a sentence.
    pub fn validate(&self) -> Result<(), String> {
        if self.queues.is_empty() {
            return Err(format!("the key {} is for no queue; write queues = [\"*\"] for all", self.id));
        }
        let Some(limit) = self.rate_limit else { return Ok(()) };
        // The headers that tell the limit count in seconds.
        if *limit.duration < Millis::from_secs(1) || limit.duration.get() % 1_000 != 0 {
            return Err(format!("rate_limit of the key {}: duration must be whole seconds, 1 s to 24 h", self.id));
        }
        Ok(())
    }
}
