//! API keys, which decide the operations that a client may do. The keyring holds the keys, the endpoints say what each route
//! needs, and the guard compares both for each request. Without configured keys there is no guard.

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
