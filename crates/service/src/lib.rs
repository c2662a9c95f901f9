#![doc = include_str!("../README.md")]

mod code;
pub mod config;
mod foreign_names;
pub mod health;
mod http;
pub mod metrics;
mod outage;
mod problem;
mod start;
pub mod telemetry;
pub mod wording;

pub use code::Code;
pub use config::Config;
pub use health::RedisHealthMonitor;
pub use http::{Hosts, InvalidTls, Limits, Peer, Tls, bind, serve};
pub use outage::Outage;
pub use problem::{FieldError, LinesInDoubt, Problem, REQUEST_ID, new_request_id, render_problem, render_problems};
pub use start::{Arguments, Stop, parse_arguments, print, print_error, run};
