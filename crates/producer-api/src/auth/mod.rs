//! API keys, which decide what a client may do. The keyring has the keys, the endpoints state which scope each route needs, and
//! the guard checks each request. If no keys are configured, no guard checks requests.

pub(crate) mod caller;
pub(crate) mod endpoint;
pub(crate) mod guard;
pub(crate) mod issue;
pub(crate) mod keyring;

/// The clients that may use this API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Every client may use this API server.
    Open,
    /// Only clients with an API key may use this API server.
    Keys,
}
