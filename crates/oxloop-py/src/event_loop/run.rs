//! Running and stopping the loop, and closing it.
//!
//! Source of behaviour: CPython `Lib/asyncio/base_events.py` (`run_forever`, `run_until_complete`,
//! `close`).

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{EventLoop, RunningLoop, os_error, thread_ident};
use crate::combinators::{Timeout, Waiting};
use crate::coroutine::{Coroutine, drop_spare};
use crate::ffi::entry::BoundEntry;
use crate::ffi::{Ref, pool};
use crate::future::{Future, FutureIter};
use crate::handle::{Handle, TimerHandle};
use crate::stdlib;
use crate::task::Task;

/// After a burst much memory may be with the pools.
fn trim_pools(py: Python<'_>) {
    drop_spare(py);
    pool::trim::<Handle>(py);
    pool::trim::<TimerHandle>(py);
    pool::trim::<Future>(py);
    pool::trim::<FutureIter>(py);
    pool::trim::<Task>(py);
    pool::trim::<Coroutine>(py);
    pool::trim::<Timeout>(py);
    pool::trim::<Waiting>(py);
    pool::trim::<BoundEntry>(py);
}

/// `asyncio.events`. The functions of the running loop are looked up in it each time: tests and
/// foreign runtimes replace them.
fn events(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import(intern!(py, "asyncio.events"))
}

/// Tells asyncio which loop runs, and asyncio's C code too where that was replaced in Python: from
/// 3.14 on nobody is the current task of a loop that does not run.
fn set_running_loop(py: Python<'_>, home: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = intern!(py, "_set_running_loop");
    let visible = events(py)?.getattr(name)?;
    let visibly = visible.call1((home,)).map(drop);
    if stdlib::at_least(py, 14) {
        let native = py.import(intern!(py, "_asyncio"))?.getattr(name)?;
        if !native.is(&visible) {
            native.call1((home,))?;
        }
    }
    visibly
}

impl EventLoop {
    fn check_not_running(&self, py: Python<'_>) -> PyResult<()> {
        if self.thread.get().is_some() {
            return Err(PyRuntimeError::new_err("This event loop is already running"));
        }
        if !events(py)?.call_method0(intern!(py, "_get_running_loop"))?.is_none() {
            return Err(PyRuntimeError::new_err(
                "Cannot run the event loop while another loop is running",
            ));
        }
        Ok(())
    }

    /// Runs iterations until `stop()`.
    fn iterate(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let host = RunningLoop::new(slf);
        this.core.force_poll();
        loop {
            match this.core.run_once(&host, !this.stopping.get()) {
                ControlFlow::Continue(Ok(())) => {}
                ControlFlow::Continue(Err(err)) => return Err(os_error("epoll_wait", err)),
                ControlFlow::Break(err) => return Err(err),
            }
            if this.stopping.get() {
                return Ok(());
            }
        }
    }

    fn run_to_stop(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_open()?;
        this.check_not_running(py)?;
        let tracking = this.track_origins(py, this.debug.get())?;
        let hooks = Self::install_asyncgen_hooks(slf)?;
        this.thread.set(Some(thread_ident(py)?));
        // Caught, so that even a panic leaves the loop as a stopped one.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            set_running_loop(py, slf.as_any())?;
            Self::listen_to_signals(slf)?;
            Self::iterate(slf)
        }));
        // Whatever happened: undo everything, and report the first error.
        let withdrawn = this.current.withdraw(slf.as_any());
        this.stopping.set(false);
        this.thread.set(None);
        let restored = set_running_loop(py, &py.None().into_bound(py));
        let quiet = Self::stop_listening_to_signals(slf);
        let unhooked = stdlib::set_asyncgen_hooks(py)?.call1(hooks).map(drop);
        let untracked = this.untrack_origins(py, tracking);
        let outcome = ran.unwrap_or_else(|panic| resume_unwind(panic));
        outcome.and(withdrawn).and(restored).and(quiet).and(unhooked).and(untracked)
    }

    /// Debug mode: coroutines remember where they were created.
    pub(super) fn track_origins(&self, py: Python<'_>, on: bool) -> PyResult<Option<i32>> {
        if !on || self.origin_depth.get().is_some() {
            return Ok(None);
        }
        let before = stdlib::get_origin_tracking_depth(py)?.call0()?.extract::<i32>()?;
        let depth = py.import("asyncio.constants")?.getattr("DEBUG_STACK_DEPTH")?;
        stdlib::set_origin_tracking_depth(py)?.call1((depth,))?;
        self.origin_depth.set(Some(before));
        Ok(Some(before))
    }

    pub(super) fn untrack_origins(&self, py: Python<'_>, _token: Option<i32>) -> PyResult<()> {
        if let Some(before) = self.origin_depth.take() {
            stdlib::set_origin_tracking_depth(py)?.call1((before,))?;
        }
        Ok(())
    }
}

#[pymethods]
impl EventLoop {
    /// Run until `stop()` is called.
    ///
    /// Raises RuntimeError if this or another loop runs in the thread, or the loop is closed.
    fn run_forever(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run_to_stop(slf)
    }

    /// Run until `future` (or a coroutine, made a task) is done; returns its result.
    fn run_until_complete<'py>(
        slf: &Bound<'py, Self>,
        future: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get().check_open()?;
        slf.get().check_not_running(py)?;
        let is_new_task = !stdlib::is_future(py)?.call1((future,))?.is_truthy()?;
        let kwargs = PyDict::new(py);
        kwargs.set_item("loop", slf)?;
        let future = stdlib::ensure_future(py)?.call((future,), Some(&kwargs))?;
        if is_new_task {
            // The exception goes to the caller: no report when the task dies.
            future.setattr(intern!(py, "_log_destroy_pending"), false)?;
        }
        let callback = stdlib::run_until_complete_cb(py)?;
        future.call_method1(intern!(py, "add_done_callback"), (callback,))?;
        let ran = slf.call_method0(intern!(py, "run_forever"));
        let done = future.call_method0(intern!(py, "done"))?.is_truthy()?;
        if let Err(err) = ran {
            if is_new_task && done && !future.call_method0("cancelled")?.is_truthy()? {
                // Retrieved: what comes out of here is the same exception.
                let _ = future.call_method0("exception")?;
            }
            future.call_method1(intern!(py, "remove_done_callback"), (callback,))?;
            return Err(err);
        }
        future.call_method1(intern!(py, "remove_done_callback"), (callback,))?;
        if !done {
            return Err(PyRuntimeError::new_err("Event loop stopped before Future completed."));
        }
        match future.cast::<Future>() {
            Ok(native) => Ok(Future::outcome(native)?.into_bound(py)),
            Err(_) => future.call_method0(intern!(py, "result")),
        }
    }

    /// Stop after the iteration that is under way; before a run, the run makes one iteration.
    fn stop(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.stopping.set(true);
        Ok(())
    }

    /// True while the loop runs.
    fn is_running(&self) -> bool {
        self.thread.get().is_some()
    }

    /// True if `close()` was called.
    fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Close the loop: pending callbacks are dropped, descriptors let go, the executor shut down
    /// without waiting. Idempotent; RuntimeError while running.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.thread.get().is_some() {
            return Err(PyRuntimeError::new_err("Cannot close a running event loop"));
        }
        if this.closed.get() {
            return Ok(());
        }
        if !this.is_foreign_process() {
            Self::forget_signals(slf)?;
        }
        if this.is_foreign_process() {
            this.core.disown();
        }
        this.closed.set(true);
        let kept: Vec<Ref> = this.tasks.borrow_mut().take_all();
        let leftovers = this.core.close();
        this.descriptors.borrow_mut().clear();
        drop(leftovers);
        drop(kept);
        trim_pools(py);
        this.executor_shut_down.set(true);
        for slot in [&this.default_executor, &this.resolver] {
            if let Some(executor) = slot.take() {
                let kwargs = PyDict::new(py);
                kwargs.set_item("wait", false)?;
                executor.bind(py).call_method("shutdown", (), Some(&kwargs))?;
            }
        }
        Ok(())
    }

    /// In the child of a fork: let go of what is shared with the parent, touching nothing of it.
    fn _disown(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.core.disown();
        Self::forget_wakeup_fd(slf)
    }

    fn __del__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.closed.get() || this.is_foreign_process() {
            return Ok(());
        }
        let Ok(warn) = stdlib::warn(py) else {
            // The interpreter is going, and the warnings module with it.
            return Ok(());
        };
        let category = py.get_type::<pyo3::exceptions::PyResourceWarning>();
        let kwargs = PyDict::new(py);
        kwargs.set_item("source", slf)?;
        warn.call((format!("unclosed event loop {}", slf.repr()?), category), Some(&kwargs))?;
        if this.thread.get().is_none() {
            Self::close(slf)?;
        }
        Ok(())
    }
}
