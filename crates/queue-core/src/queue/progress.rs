//! Stores the progress that a consumer reports of an active message.

use serde_json::value::RawValue;

use super::{Call, Queue};
use crate::{Error, LeaseToken, MAX_RESULT_BYTES, Result, TooMuch, reply, scripts::PROGRESS};

/// What came of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// Readers see it.
    Kept,
    /// The lease is over: nothing was changed.
    Gone,
}

impl Queue {
    /// Keeps what a handler reports of its progress: any JSON up to [`MAX_RESULT_BYTES`].
    ///
    /// # Errors
    ///
    /// [`Error::TooMuch`], [`Error::Unavailable`], [`Error::OutOfMemory`].
    pub async fn report_progress(&self, lease: &LeaseToken, progress: &RawValue) -> Result<Reported> {
        let json = progress.get();
        if json.len() > MAX_RESULT_BYTES {
            return Err(Error::TooMuch(TooMuch::Progress(json.len())));
        }
        let call = Call::new(&PROGRESS, &self.keys).arg(lease.id().as_str()).arg(lease.secret()).arg(json);
        let kept = reply::integer(Some(self.call(&PROGRESS, call).await?))? == 1;
        Ok(if kept { Reported::Kept } else { Reported::Gone })
    }
}
