//! Signals, which release held messages; sticky signals also release messages that are posted later.

use deadpool_redis::redis::Value;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    error::{Error, Result},
    json, limits,
    names::SignalKey,
    queue::{Call, Queue, declare::IfAbsent, read::parse_json},
    range::DurationIn,
    redis::{reply, scripts},
    time::{Millis, Timestamp},
};

/// A signal, which releases held messages.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"data": {"amount": 12}, "sticky_for": "1h"})))]
pub struct Signal {
    /// The data of the signal, which each released message shows as `signal`: any JSON up to 4096 bytes, because each message has
    /// a copy; defaults to no data.
    #[serde(default, deserialize_with = "json::bounded_json::<4096, _>")]
    #[schema(value_type = Option<Value>)]
    pub data: Option<Box<RawValue>>,
    /// For how long messages that are posted after the signal are not held by its key: up to 30 days; defaults to no time.
    #[schema(inline)]
    pub sticky_for: Option<StickyTime>,
}

/// How long a signal is sticky.
type StickyTime = DurationIn<1, { Millis::from_days(30).get() }>;

/// The effect of a signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signalled {
    /// The number of released messages.
    pub released: u64,
    /// The end of the signal's sticky time; `None` if the signal is not sticky.
    pub sticky_until: Option<Timestamp>,
}

/// A sticky signal.
#[derive(Debug, Clone)]
pub struct StickySignal {
    /// The key of the signal.
    pub key: SignalKey,
    /// The data of the signal, which each released message shows as `signal`.
    pub data: Option<Box<RawValue>>,
    /// The end of the sticky time: messages that are posted before this instant are not held by the key.
    pub until: Timestamp,
    /// The number of messages that are still held for the key, because the signal has not released all of its messages yet.
    pub held: u64,
}

impl Queue {
    /// The sticky signal of a key, if there is one now.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn sticky_signal(&self, key: &SignalKey) -> Result<Option<StickySignal>> {
        let call = Call::new(&scripts::SIGNAL, &self.keys).arg("").arg(key.as_str()).arg("show");
        let (mut signals, _) = decode_sticky_signals(self.call(&scripts::SIGNAL, call).await?)?;
        Ok(signals.pop())
    }

    /// Lists sticky signals in the order of the instants at which they end, beginning after the instant and the key in `after`. Also
    /// returns whether more sticky signals follow. Returns at most `limit` signals, up to [`Queue::MAX_MESSAGES`]; fewer if their data
    /// is large.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn sticky_signals(
        &self,
        after: Option<(Timestamp, &SignalKey)>,
        limit: usize,
    ) -> Result<(Vec<StickySignal>, bool)> {
        let cursor = after.map(|(until, key)| format!("{}:{key}", until.as_millis())).unwrap_or_default();
        let limit = limit.clamp(1, limits::MAX_MESSAGES);
        decode_sticky_signals(
            self.call(
                &scripts::SIGNAL,
                Call::new(&scripts::SIGNAL, &self.keys).arg("").arg("").arg("list").arg(limit).arg(cursor),
            )
            .await?,
        )
    }

    /// Removes the sticky signal of a key, so that messages posted later are held again. Returns whether the key had a sticky
    /// signal.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::OtherLayout`].
    pub async fn forget_signal(&self, key: &SignalKey) -> Result<bool> {
        let call = Call::new(&scripts::SIGNAL, &self.keys).arg("").arg(key.as_str()).arg("forget");
        self.call(&scripts::SIGNAL, call).await
    }

    /// Releases the messages that are held for a key now: they become waiting, or delayed if they are not due yet. A sticky signal creates the queue if it does not exist. The release works in steps; if this
    /// process dies between two steps, maintenance continues the release.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: the signal may have arrived or not; a second signal also releases the messages that are held by
    /// then. [`Error::OtherLayout`]; [`Error::OutOfMemory`] if the signal must create the queue.
    pub async fn signal(&self, key: &SignalKey, signal: &Signal) -> Result<Signalled> {
        let signal_data = signal.data.as_deref().map_or("", RawValue::get);
        let sticky_time = signal.sticky_for.map(|time| time.get().to_string()).unwrap_or_default();
        // A queue that does not exist holds no message, so only a sticky signal, which affects later messages, creates the queue.
        let absent_queue_action = if signal.sticky_for.is_some() { IfAbsent::Create } else { IfAbsent::Refuse };
        let mut step = "begin";
        let mut signalled = Signalled::default();
        loop {
            let answer = self
                .call_declared(absent_queue_action, &scripts::SIGNAL, |epoch| {
                    Call::new(&scripts::SIGNAL, &self.keys)
                        .arg(epoch)
                        .arg(key.as_str())
                        .arg(step)
                        .arg(signal_data)
                        .arg(&sticky_time)
                })
                .await;
            let (held, is_over, sticky_until): (i64, bool, u64) = match answer {
                Err(Error::NoSuchQueue) => return Ok(signalled),
                answer => answer?,
            };
            if step == "begin" && held >= 0 {
                signalled.released = u64::try_from(held).map_err(Error::unexpected)?;
                signalled.sticky_until = (sticky_until > 0).then(|| Timestamp::from_millis(sticky_until));
                step = "continue";
            }
            if is_over && step == "continue" {
                return Ok(signalled);
            }
        }
    }
}

fn decode_sticky_signals(mut answer: Vec<Value>) -> Result<(Vec<StickySignal>, bool)> {
    let signals = Value::Array(answer.split_off(answer.len().min(1)));
    let (are_more,) = reply::decode(Value::Array(answer))?;
    let signals: Vec<(String, u64, String, u64)> = reply::decode(signals)?;
    let signals = signals.into_iter().map(|(key, until, data, held)| {
        let (key, until) = (key.parse().map_err(Error::unexpected)?, Timestamp::from_millis(until));
        Ok(StickySignal { key, data: parse_json(data), until, held })
    });
    Ok((signals.collect::<Result<_>>()?, are_more))
}
