//! Who may do what: API keys.
//!
//! `keyring.rs` knows the keys, `endpoint.rs` which scope each route needs, and `guard.rs` asks both for each request.
//! Without keys there is no guard, so it costs nothing.

mod caller;
mod endpoint;
mod guard;
mod issue;
mod keyring;
mod quota_headers;
mod refusal;
mod secret;
#[cfg(test)]
mod walk;

pub(crate) use caller::{Caller, client};
pub(crate) use endpoint::{Needed, needed};
pub(crate) use guard::{note_proven, protect};
pub use issue::Issue;
pub(crate) use keyring::Keyring;
