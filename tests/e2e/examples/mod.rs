//! The example systems: their processes and Drover's are killed, and every message is accounted for.

mod chat;
mod notifications;
mod notifications_crashes;
mod notifications_page;
mod web3;
mod web3_chain;
