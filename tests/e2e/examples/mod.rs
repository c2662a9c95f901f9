//! Tests of the example systems: processes of the examples and of Drover are killed, and every message is accounted for.

mod chat;
mod notifications;
mod notifications_crashes;
mod notifications_page;
mod web3;
mod web3_chain;
