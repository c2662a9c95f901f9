//! Changes settings at run time; pauses and resumes a queue.

use std::collections::HashMap;

use deadpool_redis::redis;
use serde_json::Value as Json;

use crate::{
    error::{Error, Result},
    queue::{Call, Queue, declare::IfAbsent, status::PAUSED_FIELD},
    redis::{reply, scripts, suffix},
    settings::Settings,
};

/// The maximum number of times that a change is tried, because other clients may change the same settings meanwhile.
const MAX_TRIES: usize = 20;

/// The field of `meta` that distinguishes queues that had the same name one after the other.
const EPOCH_FIELD: &str = "epoch";

impl Queue {
    /// Changes settings by a merge patch (RFC 7396); a null restores the default. Settings that are declared in the configuration
    /// win again when the queue is next declared. A patch that is not empty creates the queue if it does not exist.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidSetting`], also if the queue would become exclusive while unfinished messages, or messages of schedules, have
    /// a group; [`Error::Unavailable`], [`Error::NoSuchQueue`], [`Error::OtherLayout`];
    /// [`Error::OutOfMemory`] if it must create the queue.
    pub async fn configure(&self, patch: &Json) -> Result<Settings> {
        let is_empty = patch.as_object().is_some_and(serde_json::Map::is_empty);
        let absent_queue_action = if is_empty { IfAbsent::Refuse } else { IfAbsent::Create };
        for _ in 0..MAX_TRIES {
            let stored_meta = self.meta().await?;
            let settings =
                Settings::from_stored(stored_meta.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let settings = settings.with_patch(patch)?;
            // The settings that `configure` returns must include the declared settings. A process that has not declared the queue yet
            // therefore declares the queue, and reads its settings again, before it changes them.
            let is_declared =
                stored_meta.get(EPOCH_FIELD).is_some_and(|epoch| self.epoch.lock().as_ref() == Some(epoch));
            if !is_declared {
                self.declare_and_log_conflict(absent_queue_action).await?;
                continue;
            }
            let mut changes = Vec::new();
            for (name, value) in settings.meta_fields() {
                let value_before = stored_meta.get(&name).cloned().unwrap_or_default();
                if value_before != value {
                    changes.push((name, value_before, value));
                }
            }
            if self.change_settings(absent_queue_action, &changes).await? {
                return Ok(settings);
            }
        }
        Err(Error::Unavailable("other clients change the settings all the time".into()))
    }

    /// Pauses the queue: no message is leased until [`resume`](Self::resume). While a queue is paused, messages still become due,
    /// and active messages continue.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::NoSuchQueue`], [`Error::OtherLayout`].
    pub async fn pause(&self) -> Result<()> {
        self.set_paused("1").await
    }

    /// Ends the pause of the queue: its messages are leased again.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::NoSuchQueue`], [`Error::OtherLayout`].
    pub async fn resume(&self) -> Result<()> {
        self.set_paused("").await
    }

    async fn set_paused(&self, value: &str) -> Result<()> {
        for before in ["", "1"] {
            self.change_settings(IfAbsent::Refuse, &[(PAUSED_FIELD.into(), before.into(), value.into())]).await?;
        }
        Ok(())
    }

    /// Changes settings; each change has the name of a setting, the value that the caller has read, and the new value. Returns false,
    /// and changes nothing, if a setting no longer has the value that the caller has read.
    async fn change_settings(&self, if_absent: IfAbsent, changes: &[(String, String, String)]) -> Result<bool> {
        self.call_declared(if_absent, &scripts::CONFIGURE, |epoch| {
            let mut call = Call::new(&scripts::CONFIGURE, &self.keys).arg(epoch);
            for (name, before, value) in changes {
                call.push(name);
                call.push(before);
                call.push(value);
            }
            call
        })
        .await
    }

    /// Reads all fields of the queue's key `meta`: its settings, its totals and its state.
    pub(super) async fn meta(&self) -> Result<HashMap<String, String>> {
        let mut read_command = redis::cmd("HGETALL");
        read_command.arg(self.keys.key(suffix::META));
        reply::decode(self.redis.call(self.keys.slot(), &read_command).await?)
    }
}
