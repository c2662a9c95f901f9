//! API keys: which client may do what. The keyring holds the keys, the endpoints say what each route needs, and the guard
//! compares both for each request. Without keys there is no guard, so it costs nothing.

pub(crate) mod caller;
pub(crate) mod endpoint;
pub(crate) mod guard;
pub(crate) mod issue;
pub(crate) mod keyring;

/// The clients that may use this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Open,
    Keys,
}
