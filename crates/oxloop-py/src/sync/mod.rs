//! Locks and queues: what tasks wait for on one another.
//!
//! | file           | subject                                                    |
//! |----------------|------------------------------------------------------------|
//! | `lock.rs`      | `Lock`                                                     |
//! | `event.rs`     | `Event`                                                    |
//! | `condition.rs` | `Condition`                                                |
//! | `semaphore.rs` | `Semaphore`, `BoundedSemaphore`                            |
//! | `barrier.rs`   | `Barrier`                                                  |
//! | `queue/`       | `Queue`, `LifoQueue`, `PriorityQueue`                      |
//! | `waiters.rs`   | who waits, in order                                        |
//! | `home.rs`      | the loop that such an object is bound to                   |
//! | `context.rs`   | `async with`                                               |
//! | `copying.rs`   | `copy` and `pickle`                                        |
//! | `number.rs`    | values and sizes that may be any number                    |
//!
//! Facts: all of these are asyncio's to the letter: who is woken when, what a cancellation passes on,
//! and how many iterations a wake-up takes. They work on any loop and with any task.
//! Decision: what waits is a native coroutine ([`crate::coroutine`]) that does not suspend if it
//! need not; who waits is a future of the loop that runs. The private attributes of asyncio's
//! classes are there, and changing them changes the object.

mod barrier;
mod condition;
mod context;
mod copying;
mod event;
mod home;
mod lock;
pub mod number;
mod queue;
mod semaphore;
mod waiters;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyAny;

use crate::ffi::call;
use crate::ffi::class::use_bare_name;
use crate::ffi::fastcall::{attach, fast_method};
use crate::stdlib;
use barrier::Barrier;
use condition::Condition;
use event::Event;
use lock::Lock;
use queue::{LifoQueue, PriorityQueue, Queue};
use semaphore::{BoundedSemaphore, Semaphore};

/// `<module.Class object at 0x… [state, waiters:n]>`
fn plain_repr(object: &Bound<'_, PyAny>, state: &str, waiters: usize) -> PyResult<String> {
    let py = object.py();
    let plain = py.get_type::<PyAny>().getattr(intern!(py, "__repr__"))?.call1((object,))?;
    let plain = plain.str()?.to_string();
    let waiters = if waiters == 0 { String::new() } else { format!(", waiters:{waiters}") };
    Ok(format!("{} [{state}{waiters}]>", plain.trim_end_matches('>')))
}

/// What an instance gives as its `__class__`: asyncio's class, so that `isinstance` holds in code
/// that knows only asyncio; for an instance of a Python subclass its own class.
fn asyncio_class<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    type Is = fn(&Bound<'_, PyAny>) -> bool;
    type Named = for<'py> fn(Python<'py>) -> PyResult<&'py Bound<'py, PyAny>>;
    const KNOWN: [(Is, Named); 9] = [
        (call::is_exactly::<Lock>, stdlib::asyncio_lock),
        (call::is_exactly::<Event>, stdlib::asyncio_event),
        (call::is_exactly::<Condition>, stdlib::asyncio_condition),
        (call::is_exactly::<Semaphore>, stdlib::asyncio_semaphore),
        (call::is_exactly::<BoundedSemaphore>, stdlib::asyncio_bounded_semaphore),
        (call::is_exactly::<Barrier>, stdlib::asyncio_barrier),
        (call::is_exactly::<Queue>, stdlib::asyncio_queue),
        (call::is_exactly::<LifoQueue>, stdlib::asyncio_lifo_queue),
        (call::is_exactly::<PriorityQueue>, stdlib::asyncio_priority_queue),
    ];
    match KNOWN.iter().find(|(is, _)| is(object)) {
        Some((_, named)) => named(object.py()).cloned(),
        None => Ok(object.get_type().into_any()),
    }
}

/// Whether an error is a CancelledError.
fn is_cancellation(py: Python<'_>, err: &PyErr) -> PyResult<bool> {
    Ok(call::has_type(err.value(py), stdlib::cancelled_error(py)?))
}

/// Attaches the hot methods and adds the classes to the module.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    attach::<Lock>(
        py,
        vec![
            fast_method!(Lock, c"acquire", lock::acquire, c"acquire($self)\n--\n\nWait until the lock is free and take it; returns True."),
            fast_method!(Lock, c"release", lock::release, c"release($self)\n--\n\nFree the lock and let the first waiter have it; RuntimeError if it is free."),
            fast_method!(Lock, c"__aenter__", lock::enter, c"__aenter__($self)\n--\n\nacquire()"),
            fast_method!(Lock, c"__aexit__", lock::exit, c"__aexit__($self, exc_type, exc, tb)\n--\n\nrelease()"),
        ],
    )?;
    attach::<Event>(
        py,
        vec![
            fast_method!(
                Event,
                c"wait",
                event::wait,
                c"wait($self)\n--\n\nWait until the event is set; returns True."
            ),
            fast_method!(
                Event,
                c"set",
                event::set,
                c"set($self)\n--\n\nSet the event and wake all that wait for it."
            ),
            fast_method!(
                Event,
                c"clear",
                event::clear,
                c"clear($self)\n--\n\nFrom now on wait() waits for the next set()."
            ),
            fast_method!(
                Event,
                c"is_set",
                event::is_set,
                c"is_set($self)\n--\n\nTrue if the event is set."
            ),
        ],
    )?;
    attach::<Condition>(
        py,
        vec![
            fast_method!(Condition, c"wait", condition::wait, c"wait($self)\n--\n\nGive the lock up, wait for a notification, take the lock back; returns True."),
            fast_method!(Condition, c"__aenter__", condition::enter, c"__aenter__($self)\n--\n\nacquire()"),
            fast_method!(Condition, c"__aexit__", condition::exit, c"__aexit__($self, exc_type, exc, tb)\n--\n\nrelease()"),
        ],
    )?;
    attach::<Semaphore>(
        py,
        vec![
            fast_method!(
                Semaphore,
                c"acquire",
                semaphore::acquire,
                c"acquire($self)\n--\n\nWait for a permit and take it; returns True."
            ),
            fast_method!(
                Semaphore,
                c"release",
                semaphore::release,
                c"release($self)\n--\n\nGive a permit back, to the first waiter if there is one."
            ),
            fast_method!(
                Semaphore,
                c"__aenter__",
                semaphore::enter,
                c"__aenter__($self)\n--\n\nacquire()"
            ),
            fast_method!(
                Semaphore,
                c"__aexit__",
                semaphore::exit,
                c"__aexit__($self, exc_type, exc, tb)\n--\n\nrelease()"
            ),
        ],
    )?;
    attach::<Queue>(
        py,
        vec![
            fast_method!(Queue, c"put", queue::put, c"put($self, item)\n--\n\nWait until there is room and put `item` in; QueueShutDown after shutdown()."),
            fast_method!(Queue, c"put_nowait", queue::put_nowait, c"put_nowait($self, item)\n--\n\nPut `item` in; QueueFull if there is no room."),
            fast_method!(Queue, c"get", queue::get, c"get($self)\n--\n\nWait for an item and take it out; QueueShutDown after shutdown()."),
            fast_method!(Queue, c"get_nowait", queue::get_nowait, c"get_nowait($self)\n--\n\nTake an item out; QueueEmpty if there is none."),
            fast_method!(Queue, c"qsize", queue::qsize, c"qsize($self)\n--\n\nHow many items are in the queue."),
            fast_method!(Queue, c"empty", queue::empty, c"empty($self)\n--\n\nTrue if there is no item."),
            fast_method!(Queue, c"full", queue::full, c"full($self)\n--\n\nTrue if there is no room."),
            fast_method!(Queue, c"task_done", queue::task_done, c"task_done($self)\n--\n\nThe work on an item is done; ValueError if called more often than there were items."),
        ],
    )?;
    add::<Lock>(module)?;
    add::<Event>(module)?;
    add::<Condition>(module)?;
    add::<Semaphore>(module)?;
    add::<BoundedSemaphore>(module)?;
    add::<Barrier>(module)?;
    add::<Queue>(module)?;
    add::<LifoQueue>(module)?;
    add::<PriorityQueue>(module)?;
    module.add_function(wrap_pyfunction!(copying::restored, module)?)?;
    module.add("QueueShutDown", stdlib::queue_shut_down(py)?)
}

/// Adds a class, known by its bare name to the interpreter's messages as a class of asyncio is.
fn add<T: pyo3::PyClass>(module: &Bound<'_, PyModule>) -> PyResult<()> {
    use_bare_name::<T>(module.py());
    module.add_class::<T>()
}
