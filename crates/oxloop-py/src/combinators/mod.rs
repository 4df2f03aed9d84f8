//! What programs build from tasks: sleeping, waiting for several, time limits, groups.
//!
//! | file              | subject                                                    |
//! |-------------------|------------------------------------------------------------|
//! | `sleep.rs`        | `sleep()`                                                  |
//! | `spawning.rs`     | `create_task()`, `ensure_future()`                         |
//! | `gather.rs`       | `gather()`                                                 |
//! | `wait.rs`         | `wait()`                                                   |
//! | `wait_for.rs`     | `wait_for()`                                               |
//! | `as_completed.rs` | `as_completed()`                                           |
//! | `shield.rs`       | `shield()`                                                 |
//! | `timeout.rs`      | `Timeout`, `timeout()`, `timeout_at()`                     |
//! | `task_group.rs`   | `TaskGroup`                                                |
//! | `threads.rs`      | `wrap_future()`, `run_coroutine_threadsafe()`, `to_thread()` |
//! | `any_future.rs`   | asking and telling futures of any kind                     |
//! | `listener.rs`     | following futures from Rust                                |
//! | `alarm.rs`        | a timer that wakes a waiter                                |
//! | `members.rs`      | the futures of a group                                     |
//!
//! Facts: these cost asyncio more than the loop does: a closure, a handle and a context a child. The
//! number of iterations from an event to its effect is part of their semantics.
//! Decision: all of them run on any loop, with any task and future; where those are ours no Python
//! code runs and nothing but the tasks is made.
//! Source of behaviour: CPython `Lib/asyncio/tasks.py`, `timeouts.py`, `taskgroups.py`.

mod alarm;
pub mod any_future;
mod as_completed;
mod gather;
mod listener;
mod members;
mod shield;
mod sleep;
mod spawning;
mod task_group;
mod threads;
mod timeout;
mod wait;
mod wait_for;

use pyo3::prelude::*;

use crate::ffi::class::install_finalizer;
use crate::ffi::fastcall::{attach, fast_method};
use crate::ffi::pool::install_pool;
use as_completed::AsCompleted;
use gather::Gathering;
pub use listener::Listener;
use shield::Shield;
use task_group::TaskGroup;
pub use threads::wrap_concurrent;
pub use timeout::Timeout;
pub use wait::Waiting;

/// Adds the functions and classes of this folder to the extension.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    attach::<Timeout>(
        py,
        vec![
            fast_method!(Timeout, c"__aenter__", timeout::aenter, c"__aenter__($self)\n--\n\nStart the timer."),
            fast_method!(
                Timeout,
                c"__aexit__",
                timeout::aexit,
                c"__aexit__($self, exc_type, exc_val, exc_tb)\n--\n\nStop the timer; raise TimeoutError if it had expired."
            ),
        ],
    )?;
    attach::<TaskGroup>(
        py,
        vec![
            fast_method!(TaskGroup, c"create_task", task_group::create_task, c"create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\nCreate a task in the group; returns it."),
            fast_method!(TaskGroup, c"__aenter__", task_group::aenter, c"__aenter__($self)\n--\n\nEnter the group."),
            fast_method!(TaskGroup, c"__aexit__", task_group::aexit, c"__aexit__($self, et, exc, tb)\n--\n\nWait for all tasks of the group."),
        ],
    )?;
    attach::<AsCompleted>(
        py,
        vec![fast_method!(
            AsCompleted,
            c"__anext__",
            as_completed::anext,
            c"The next future that is done."
        )],
    )?;
    install_pool!(py, Timeout);
    install_pool!(py, Waiting);
    install_finalizer!(py, Gathering);
    install_finalizer!(py, Shield);
    module.add_class::<Timeout>()?;
    module.add_class::<TaskGroup>()?;
    module.add_class::<AsCompleted>()?;
    module.add_class::<Gathering>()?;
    module.add_class::<Shield>()?;
    module.add_class::<Listener>()?;
    module.add_class::<Waiting>()?;
    module.add_class::<threads::Chain>()?;
    for function in [
        wrap_pyfunction!(sleep::sleep, module)?,
        wrap_pyfunction!(spawning::create_task, module)?,
        wrap_pyfunction!(spawning::ensure_future, module)?,
        wrap_pyfunction!(gather::gather, module)?,
        wrap_pyfunction!(wait::wait, module)?,
        wrap_pyfunction!(wait_for::wait_for, module)?,
        wrap_pyfunction!(as_completed::as_completed, module)?,
        wrap_pyfunction!(shield::shield, module)?,
        wrap_pyfunction!(timeout::timeout, module)?,
        wrap_pyfunction!(timeout::timeout_at, module)?,
        wrap_pyfunction!(threads::wrap_future, module)?,
        wrap_pyfunction!(threads::run_coroutine_threadsafe, module)?,
        wrap_pyfunction!(threads::to_thread, module)?,
    ] {
        module.add_function(function)?;
    }
    Ok(())
}
