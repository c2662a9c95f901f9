//! The limits of one call and of one message, which the library and its scripts share.

use crate::time::Millis;

/// The maximum number of messages in the request or the reply of one call.
pub(crate) const MAX_MESSAGES: usize = 1_000;
/// The maximum bytes of payload in the request or the reply of one call: 4 MiB.
pub(crate) const MAX_BYTES: usize = 4 * 1_024 * 1_024;
/// The maximum bytes of a result: 64 KiB. A message whose result is larger fails with the code `result_too_large`.
pub(crate) const MAX_RESULT_BYTES: usize = 64 * 1_024;
/// The maximum bytes of an error, as JSON: 8 KiB. The text of a larger error is truncated.
pub(crate) const MAX_ERROR_BYTES: usize = 8 * 1_024;
/// The maximum bytes of the errors that a run keeps beside its last error, as JSON: 1 KiB. The texts of these errors are shortened, and the
/// oldest errors are dropped.
pub(crate) const MAX_EARLIER_ERRORS_BYTES: usize = 1_024;
/// How long a lease lasts beyond the timeout of its run. A consumer that ends a run at its timeout must settle the lease within
/// `RUN_TIMEOUT_GRACE`. If a lease is not settled within `RUN_TIMEOUT_GRACE` after the timeout of its run, the attempt counts as
/// failed, and the next attempt may begin.
pub(crate) const RUN_TIMEOUT_GRACE: Millis = Millis::new(500);
/// The maximum number of schedules of a queue.
pub(crate) const MAX_SCHEDULES: usize = 1_000;
