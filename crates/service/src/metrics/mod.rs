//! `/metrics`: what Prometheus reads. `docs/OBSERVABILITY.md` documents every name, and a test compares.

mod basics;
mod page;
mod process;

pub use basics::Basics;
pub use page::{Family, Kind, Page};
