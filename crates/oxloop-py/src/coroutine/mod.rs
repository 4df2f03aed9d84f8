//! Native coroutines: what `lock.acquire()`, `queue.get()`, `sleep()` and `reader.read()` return.
//!
//! | file         | subject                                                          |
//! |--------------|------------------------------------------------------------------|
//! | `mod.rs`     | [`Body`], [`Progress`]: what an operation has to say              |
//! | `object.rs`  | the object: its stages, resuming, throwing, closing               |
//! | `methods.rs` | what makes it a coroutine to Python                               |
//! | `waiter.rs`  | [`Waiter`]: what an operation waits for until another wakes it     |
//!
//! Facts: to `asyncio.iscoroutine` and `inspect.getcoroutinestate` a coroutine is what has
//! `__await__`, `send`, `throw`, `close` and the `cr_*` attributes. Nothing happens before the first
//! `send`. Most operations (an uncontended lock, a queue with items) can finish in it.
//! Decision: one Python class for all. What differs is a [`Body`], a small Rust value stored in the
//! object. The body never sees stages, iterators or exceptions of the protocol: it is asked to
//! begin, answers with [`Progress`], and is told how what it awaited ended.
//!
//! To write one:
//!
//! ```text
//! struct Acquire { lock: Ref, waiter: Slot }
//! impl Body for Acquire {
//!     fn qualified_name(&self) -> &'static str { "Lock.acquire" }
//!     fn begin(&self, py) -> PyResult<Progress>    // free? Return(True). Else Waiter::new(...)
//!                                                  // and Progress::Await(waiter.as_future())
//!     fn resumed(&self, py, outcome) -> PyResult<Progress>
//!     fn traverse(&self, visit)
//! }
//! Coroutine::make(py, Acquire { … })
//! ```
//!
//! `outcome` is the result of what was awaited, or the exception that came instead: its own, or one
//! that was thrown in (CancelledError, GeneratorExit when the coroutine is closed or dies waiting).
//! So `resumed` is the place of `try/except/finally` around an `await`; an exception that the body
//! does not handle it returns as it came: `outcome?`.
//! What can still go wrong: a body that stores a reference to its own coroutine makes a cycle that
//! only the collector frees.

mod methods;
mod object;
mod waiter;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::Ref;
pub use object::{Coroutine, drop_spare, is_plain_coroutine, plain_future};
pub use waiter::{Waiter, running_loop};

/// What an operation does next.
pub enum Progress {
    /// `return value`
    Return(Ref),
    /// `await object`. A native future costs least; anything awaitable will do. What is done
    /// already does not suspend.
    Await(Ref),
    /// A bare `yield`: the task goes to the end of the ready queue.
    Pause,
}

/// The code of a native coroutine. Methods are never called twice at a time, and the value is
/// dropped when the coroutine ends.
pub trait Body: 'static {
    /// `Lock.acquire`; the part after the last dot is `__name__`.
    fn qualified_name(&self) -> &'static str;

    /// The first `send`.
    ///
    /// # Errors
    /// What the operation raises.
    fn begin(&self, py: Python<'_>) -> PyResult<Progress>;

    /// What was awaited has ended, or an exception was thrown in meanwhile.
    ///
    /// After [`Progress::Pause`] the outcome is None.
    ///
    /// # Errors
    /// What the operation raises.
    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress>;

    /// Visits every reference that the body holds, for the collector.
    ///
    /// # Errors
    /// What `visit` returns.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}
