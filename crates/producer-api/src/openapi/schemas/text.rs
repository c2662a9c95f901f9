//! The patterns of texts, as `queue_core`'s newtypes check them.

pub(crate) const QUEUE_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$";
pub(super) const CONSUMER: &str = "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$";
/// Without control characters.
pub(super) const NAME: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$";
pub(crate) const SIGNAL_KEY: &str = "^(?!\\.{1,2}$)[^/\\u0000-\\u001f\\u007f-\\u009f]+$";
/// An id of a producer's own: not all digits, and nothing that a path has another meaning for.
pub(super) const OWN_ID: &str = "^(?!\\.{1,2}$)(?!batch$)(?![0-9]+$)[^/\\u0000-\\u001f\\u007f-\\u009f]+$";
pub(crate) const ANY_ID: &str = "^(?:[0-9]{14}|(?!\\.{1,2}$)(?!batch$)(?![0-9]+$)[^/\\u0000-\\u001f\\u007f-\\u009f]+)$";
pub(super) const LEASE: &str = "^[0-9]{14}-[A-Za-z0-9_-]{21}[AQgw]$";
/// Empty, as an `EventSource` has it before the first event, or three numbers.
pub(crate) const EVENT_ID: &str = "^(?:[0-9]{1,15}-[0-9]{1,15}-[0-9]{1,15})?$";
/// Bare or in quotes.
pub(crate) const IDEMPOTENCY_KEY: &str = "^(?:[!#-~][!-~]{0,254}|\"(?:[!#-\\[\\]-~]|\\\\[\"\\\\]){1,255}\")$";
/// RFC 3339, before the year 2200.
pub(super) const INSTANT: &str = "^(?:(?:[01][0-9]|2[01])[0-9]{2}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))|(?:[01][0-9]|2[01])(?:0[48]|[2468][048]|[13579][26])-02-29)T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$";
