//! The mechanism of an event loop: ready queue, timers, injector, drivers, byte streams. No Python.
//!
//! Map, from the outside in:
//!
//! | module | subject |
//! |---|---|
//! | [`event_loop`] | one iteration, in order; owns everything below |
//! | [`ready`], [`timers`], [`inject`] | where work waits: now, later, from another thread |
//! | [`stream`] | the byte transport as a state machine: reading, writing, closing |
//! | [`listener`] | what a listener does when `accept` fails |
//! | [`tls`] | TLS over such a stream as a state machine: handshake, pump, shutdown |
//! | [`op`], [`completion`] | what is asked of a driver, what it answers |
//! | [`driver`] | the contract with a kernel, and the epoll implementation |
//! | [`buf`] | bytes waiting to be sent, bytes waiting to be read |
//! | [`slab`], [`clock`], [`limits`] | tokens with generations, deadlines, every bound |
//! | [`sys`] | the only system calls and the only `unsafe` |
//!
//! The loop is generic over the job that it queues ([`event_loop::Host`]), so that the same
//! mechanism runs Python tasks, plain callbacks and Rust futures. It has no global state and starts
//! no threads. It belongs to one thread at a time; other threads use the [`Injector`] only.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod buf;
pub mod clock;
pub mod completion;
pub mod driver;
pub mod event_loop;
pub mod inject;
pub mod limits;
pub mod listener;
pub mod mutant;
pub mod op;
pub mod ready;
pub mod slab;
pub mod stream;
#[allow(unsafe_code)]
pub mod sys;
pub mod timers;
pub mod tls;

pub use buf::{Found, ReadBuffer, WriteQueue};
pub use clock::Deadline;
pub use completion::{Completion, Outcome};
pub use driver::any_kernel::AnyKernel;
pub use driver::descriptor::Descriptor;
pub use driver::epoll::EpollDriver;
pub use driver::sim::{SimConfig, SimDriver, SimKernel};
pub use driver::{Driver, Wake};
pub use event_loop::{EventLoop, Host, Leftovers};
pub use inject::{Injector, PushError};
pub use op::{Op, Side, Submitted};
pub use ready::ReadyQueue;
pub use slab::{Slab, Token};
pub use stream::{PauseChange, ReadEvent, ReadMode, Sent, Stream};
pub use sys::socket::{AddressParts, SockAddr};
pub use timers::{TimerKey, Timers};
