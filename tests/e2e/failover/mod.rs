//! Fail-overs of a cluster under load: producers, a worker and HTTP consumers go on while a primary is killed,
//! hangs, is cut off, is replaced as planned or restarted, and while slots move. Every message is accounted for.

mod account;
mod cluster;
mod load;
mod receiver;
mod scene;
