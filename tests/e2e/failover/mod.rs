//! Fail-overs under load: producers, a worker and HTTP consumers go on while a primary is killed, hangs, is cut off or is
//! replaced as planned, while all servers restart, and while slots move. The tests account for every message.
//!
//! `cases` has a test for each kind of fault. `long` is a program in which all these faults happen, in random order, for minutes.

mod account;
mod cases;
mod cluster;
mod load;
mod receiver;
mod scene;
mod sentinels;
