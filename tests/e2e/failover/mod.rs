//! Fail-overs under load: producers, a worker and HTTP consumers go on while a primary is killed, hangs, is cut off or is
//! replaced as planned, while all servers restart, and while slots move. Each test keeps an account of all posts and
//! deliveries, and compares the account with Redis at the end.
//!
//! The module `cases` has a test for each kind of fault. The file `long.rs` is a program that injects the same faults in random order, for
//! minutes: kills, hangs, cuts, fail-overs, restarts and moved slots.

mod account;
mod cases;
mod cluster;
mod load;
mod receiver;
mod scene;
mod sentinels;
