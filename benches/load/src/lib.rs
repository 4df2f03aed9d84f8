//! Load generator for the server benchmarks: as a library, so that its own tests can drive it.
//!
//! Facts that shape it: a load generator that is slower than the server measures itself, hence Rust,
//! one thread, epoll, and no allocation per reply. A loop that loses or strays bytes may look fast,
//! hence every byte of every reply is compared with what this connection must receive. A closed
//! loop (one request in flight per connection) gives the server's capacity, not its latency at a
//! given rate: p50 and p99 are those of a saturated server.
//!
//! - `args`: the command line
//! - `request`: what a connection sends, and how a reply is checked
//! - `connection`: one client connection as a state machine
//! - `run`: phases (served once, warm-up, window) over all the connections
//! - `latency`: percentiles
//! - `sys`: the system calls that `std` does not offer

pub mod args;
pub mod connection;
pub mod latency;
pub mod request;
pub mod run;
pub mod sys;
