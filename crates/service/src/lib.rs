#![doc = include_str!("../README.md")]

mod code;
pub mod config;
mod examiner;
pub mod health;
mod http;
pub mod metrics;
mod nearest;
mod output;
mod problem;
mod start;
pub mod telemetry;
mod trouble;
pub mod wording;

pub use code::Code;
pub use config::Config;
pub use examiner::Examiner;
pub use http::{Hosts, InvalidTls, Limits, Peer, Tls, bind, serve};
pub use nearest::{nearest, unknown};
pub use output::{complain, parse, print};
pub use problem::{FieldError, InDoubt, Problem, REQUEST_ID, new_request_id, render_problem, render_problems};
pub use start::{Arguments, Stop, run};
pub use trouble::Trouble;
