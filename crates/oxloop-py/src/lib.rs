//! `oxloop._oxloop`: asyncio's semantics over `oxloop-core`, as a Python extension.
//!
//! The path of a coroutine: [`event_loop`] `create_task` → [`task`] → the core's ready queue →
//! [`event_loop`]`::host` → [`task`] `step` → [`future`]. The path of a byte: the core's driver →
//! [`event_loop`]`::host` → `transport` → the user's protocol.

mod allocator;
mod combinators;
mod convert;
mod coroutine;
mod current;
mod event_loop;
mod ffi;
mod future;
mod handle;
mod protocol;
mod runner;
mod server;
mod simulation;
mod socket_file;
mod stdlib;
mod streams;
mod sync;
mod task;
mod transport;

use pyo3::prelude::*;

use coroutine::Coroutine;
use event_loop::{EventLoop, scheduling, tasks};
use ffi::class::{install_finalizer, install_own_await, install_resume};
use ffi::fastcall::{attach, fast_method};
use ffi::pool::install_pool;
use future::{Future, FutureIter};
use handle::{Handle, TimerHandle};
use server::{Listener, Server};
use task::{Task, TaskStep, TaskWakeup};
use transport::{
    DatagramTransport, ReadPipeTransport, StreamTransport, TlsTransport, WritePipeTransport,
};

/// In the child of a fork: every loop made so far is the parent's.
#[pyfunction]
fn _after_fork_in_child() {
    event_loop::FORKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
}

/// ImportError unless this is the main interpreter; the module's own start is run only once.
#[pyfunction]
fn _expect_main_interpreter(py: Python<'_>) -> PyResult<()> {
    ffi::interpreter::expect_main(py)
}

/// What this kernel offers and which driver was chosen, in lines; for `oxloop doctor`.
#[pyfunction]
fn describe_driver() -> Vec<String> {
    oxloop_core::driver::probe::Probe::new(true).describe()
}

#[pymodule(gil_used = true)]
fn _oxloop(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    ffi::interpreter::expect_main(py)?;
    stdlib::prepare(py)?;
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    ffi::entry::install(py)?;
    attach::<EventLoop>(
        py,
        vec![
            fast_method!(EventLoop, c"call_soon", scheduling::call_soon, c"call_soon($self, callback, *args, context=None)\n--\n\nCall `callback(*args)` in the next iteration; returns its Handle."),
            fast_method!(EventLoop, c"call_soon_threadsafe", scheduling::call_soon_threadsafe, c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nLike call_soon, from any thread."),
            fast_method!(EventLoop, c"call_later", scheduling::call_later, c"call_later($self, delay, callback, *args, context=None)\n--\n\nCall `callback(*args)` after `delay` seconds; returns its TimerHandle."),
            fast_method!(EventLoop, c"call_at", scheduling::call_at, c"call_at($self, when, callback, *args, context=None)\n--\n\nCall `callback(*args)` at `when` seconds of loop.time()."),
            fast_method!(EventLoop, c"time", scheduling::time, c"time($self)\n--\n\nThe time of the loop's monotonic clock, in seconds."),
            fast_method!(EventLoop, c"create_future", tasks::create_future, c"create_future($self)\n--\n\nA new Future of this loop."),
            fast_method!(EventLoop, c"create_task", tasks::create_task, c"create_task($self, coro, *, name=None, context=None, **kwargs)\n--\n\nSchedule a coroutine; returns its Task."),
        ],
    )?;
    attach::<Future>(
        py,
        vec![
            fast_method!(Future, c"set_result", future::set_result, c"set_result($self, result, /)\n--\n\nFinish with a result."),
            fast_method!(Future, c"result", future::result, c"result($self)\n--\n\nThe result, or the exception raised."),
            fast_method!(Future, c"done", future::done, c"done($self)\n--\n\nTrue if there is a result, an exception, or a cancellation."),
            fast_method!(Future, c"__del__", future::del, c"Report an exception that was never retrieved."),
            fast_method!(Future, c"add_done_callback", future::add_done_callback, c"add_done_callback($self, fn, /, *, context=None)\n--\n\nCall `fn(future)` soon after the future is done."),
        ],
    )?;
    attach::<Task>(
        py,
        vec![fast_method!(Task, c"__del__", task::del, c"Report a task that dies while pending.")],
    )?;
    let cancel_doc = c"cancel($self)\n--\n\nThe callback will not run. Idempotent.";
    attach::<Handle>(py, vec![fast_method!(Handle, c"cancel", handle::cancel, cancel_doc)])?;
    attach::<TimerHandle>(
        py,
        vec![fast_method!(TimerHandle, c"cancel", handle::cancel_timer, cancel_doc)],
    )?;
    attach::<StreamTransport>(
        py,
        vec![fast_method!(StreamTransport, c"write", transport::write, c"write($self, data)\n--\n\nSend `data`; what the socket does not take at once is queued.")],
    )?;
    attach::<TlsTransport>(
        py,
        vec![fast_method!(TlsTransport, c"write", transport::write_tls, c"write($self, data)\n--\n\nEncrypt and send `data`; during the handshake it is queued.")],
    )?;
    install_pool!(py, Handle);
    install_pool!(py, TimerHandle);
    install_pool!(py, Future);
    install_pool!(py, Task);
    install_pool!(py, FutureIter);
    install_pool!(py, Coroutine);
    // After the pools: a finalizer runs before the memory is given up.
    install_finalizer!(py, StreamTransport);
    install_finalizer!(py, TlsTransport);
    install_finalizer!(py, DatagramTransport);
    install_finalizer!(py, ReadPipeTransport);
    install_finalizer!(py, WritePipeTransport);
    install_finalizer!(py, Future);
    install_finalizer!(py, Task);
    install_resume!(py, FutureIter);
    install_finalizer!(py, Coroutine);
    install_resume!(py, Coroutine);
    install_own_await!(py, Coroutine);
    module.add_class::<EventLoop>()?;
    module.add_class::<Future>()?;
    module.add_class::<Task>()?;
    module.add_class::<Handle>()?;
    module.add_class::<TimerHandle>()?;
    module.add_class::<FutureIter>()?;
    module.add_class::<Coroutine>()?;
    module.add_class::<TaskStep>()?;
    module.add_class::<TaskWakeup>()?;
    module.add_class::<StreamTransport>()?;
    module.add_class::<TlsTransport>()?;
    module.add_class::<DatagramTransport>()?;
    module.add_class::<ReadPipeTransport>()?;
    module.add_class::<WritePipeTransport>()?;
    module.add_class::<Server>()?;
    module.add_class::<simulation::Simulation>()?;
    module.add_class::<simulation::SimSocket>()?;
    module.add_class::<Listener>()?;
    combinators::register(module)?;
    streams::install(module)?;
    sync::install(module)?;
    module.add_function(wrap_pyfunction!(future::future_add_to_awaited_by, module)?)?;
    module.add_function(wrap_pyfunction!(future::future_discard_from_awaited_by, module)?)?;
    module.add_function(wrap_pyfunction!(socket_file::socket_inode, module)?)?;
    module.add_function(wrap_pyfunction!(socket_file::remove_socket, module)?)?;
    module.add_function(wrap_pyfunction!(describe_driver, module)?)?;
    module.add_function(wrap_pyfunction!(_after_fork_in_child, module)?)?;
    module.add_function(wrap_pyfunction!(_expect_main_interpreter, module)?)?;
    Ok(())
}
