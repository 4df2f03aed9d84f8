//! The only unsafe code of this crate: CPython's C API where PyO3 has no safe door, or a slow one.
//!
//! | file          | subject                                                        |
//! |---------------|----------------------------------------------------------------|
//! | `object.rs`   | [`Ref`], [`Slot`]: owned references inside loop-bound objects   |
//! | `call.rs`     | vectorcall, `PyIter_Send`, raised exceptions                   |
//! | `context.rs`  | contextvars: copy, enter, exit                                 |
//! | `dict.rs`     | a dict entry whose hash is known                               |
//! | `fastcall.rs` | methods called without an argument tuple                       |
//! | `pool.rs`     | memory of dead objects, used again                             |
//! | `spare.rs`    | an object that has ended, used again                           |
//! | `late.rs`     | deallocators that do not nest too deeply                        |
//! | `inline.rs`   | bodies of native coroutines, stored in place                   |
//! | `stop.rs`     | StopIteration for results                                      |
//! | `class.rs`    | type slots that PyO3 does not offer: finalizer, `am_send`      |
//! | `entry.rs`    | `__aenter__` and `__aexit__`, bound cheaply                     |
//! | `error.rs`    | the exception object of an error                               |
//! | `interpreter.rs` | which interpreter of the process this is                   |
//! | `joined.rs`   | one `bytes` object of several slices                           |
//! | `received.rs` | a `bytes` object that the kernel or libssl writes              |
//! | `libssl.rs`  | the data of a TLS connection, by the library under Python's `ssl`  |
//! | `shared.rs`   | `bytes` objects that are read many times                        |
//! | `watch.rs`    | whether a class still has the methods that it was made with    |
//!
//! Everything outside this folder is safe Rust. The rule that keeps it sound is the first law of
//! the project: take out, drop the borrow, then call Python.

pub mod call;
pub mod class;
pub mod context;
pub mod dict;
pub mod entry;
pub mod error;
pub mod fastcall;
pub mod inline;
pub mod interpreter;
pub mod joined;
mod late;
pub mod libssl;
pub mod object;
pub mod pool;
pub mod received;
pub mod shared;
pub mod spare;
pub mod stop;
pub mod watch;

pub use call::{Raised, Sent};
pub use context::Entered;
pub use object::{Ref, Slot};
