//! Routing: which handler gets which messages, what a handler may take as arguments, and what it may return.

mod endpoint;
mod from_job;
mod outcome;
mod routes;

pub use endpoint::{Endpoint, Handler, IntoEndpoint, IsEndpoint, IsHandler};
pub use from_job::{FromJob, FromRef, Payload, State};
pub use outcome::{HandlerError, IntoOutcome, Outcome};
pub use routes::{IntoRoute, IsHandlerForAll, IsRoute, Route, Routes, any, on};
pub(crate) use routes::{QueueRoutes, RouteEntry, RouteTable};
