//! Signals, which release held messages.

use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Call, IfAbsent, Queue};
use crate::{Error, Millis, Result, SignalKey, Span, json, reply, scripts::SIGNAL};

/// What releases held messages.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(examples(json!({"data": {"amount": 12}, "sticky_for": "1h"})))]
pub struct Signal {
    /// What the released messages show as their signal: any JSON up to 4096 bytes, for each of them has a copy. Defaults to
    /// nothing.
    #[serde(default, deserialize_with = "json::at_most::<4096, _>")]
    #[schema(value_type = Option<Value>)]
    pub data: Option<Box<RawValue>>,
    /// For how long messages that are posted later pass at once: up to 30 days. Defaults to not at all.
    #[schema(inline)]
    pub sticky_for: Option<StickyTime>,
}

/// For how long a signal sticks.
type StickyTime = Span<1, { Millis::from_days(30).get() }>;

impl Queue {
    /// Releases the messages that are held for a key now: they become waiting, or delayed if they are not due yet.
    /// Answers how many. A signal that sticks begins the queue if there is none. Only the first step is made at once; if this process dies, the next one goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`]: the signal may have come or not; it is safe to repeat.
    pub async fn signal(&self, key: &SignalKey, signal: &Signal) -> Result<u64> {
        let data = signal.data.as_deref().map_or("", RawValue::get);
        let sticky_for = signal.sticky_for.map(|time| time.get().to_string()).unwrap_or_default();
        // Nothing is held in a queue that is not there; one that sticks is for what will be.
        let if_absent = if signal.sticky_for.is_some() { IfAbsent::Begin } else { IfAbsent::Refuse };
        let mut step = "begin";
        let mut released = 0;
        loop {
            let answer = self
                .call_declared(if_absent, &SIGNAL, |epoch| {
                    Call::new(&SIGNAL, &self.keys).arg(epoch).arg(key.as_str()).arg(step).arg(data).arg(&sticky_for)
                })
                .await;
            let answer = match answer {
                Err(Error::NoSuchQueue) => return Ok(released),
                answer => answer?,
            };
            let mut answer = reply::array(Some(answer))?.into_iter();
            let held = reply::integer(answer.next())?;
            let is_over = reply::integer(answer.next())? == 1;
            if step == "begin" && held >= 0 {
                released = u64::try_from(held).map_err(Error::unexpected)?;
                step = "go on";
            }
            if is_over && step == "go on" {
                return Ok(released);
            }
        }
    }
}
