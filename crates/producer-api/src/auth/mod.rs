//! Who may do what: API keys.
//!
//! `keyring.rs` knows the keys, the routes what each needs, and `guard.rs` asks both for each request.
//! Without keys there is no guard, so it costs nothing.

mod caller;
mod guard;
mod issue;
mod keyring;
mod quota_headers;
mod refusal;
mod secret;
#[cfg(test)]
mod walk;

pub(crate) use caller::{Caller, client};
pub(crate) use guard::{note_proven, protect};
pub use issue::Issue;
pub(crate) use keyring::Keyring;
