//! What a stream transport lends to `loop.sendfile()`: its socket, once everything written is sent.
//!
//! Facts: the kernel copies the file straight into the socket, past the transport's queue, so the
//! queue must be empty first, and nothing may be written meanwhile. The descriptor stays the
//! transport's: it may be aborted while a file is sent, and whoever waits must hear of it.
//! Decision: from `_make_empty_waiter` to `_reset_empty_waiter` writing is refused, and the
//! transport's own write side is used to wait for room. The end of the transport fails the waiter.
//! What can still go wrong: the caller sends between the end of the transport and the close of its
//! descriptor; it must look at `is_closing()` before each call.

use std::cell::Cell;

use oxloop_core::{Driver as _, Op, Side};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::StreamTransport;
use crate::convert;
use crate::ffi::error;
use crate::ffi::{Ref, Slot};

/// Whether a file is being sent, and who waits for the socket to go on with it.
#[derive(Default)]
pub(super) struct Sendfile {
    in_progress: Cell<bool>,
    waiter: Slot,
}

impl Sendfile {
    /// RuntimeError while a file is being sent; `method` is what was called.
    #[inline]
    pub(super) fn refuse(&self, method: &str) -> PyResult<()> {
        if !self.in_progress.get() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!("unable to {method}; sendfile is in progress")))
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.waiter.traverse(visit)
    }

    pub(super) fn take_waiter(&self) -> Option<Ref> {
        self.waiter.take()
    }

    /// The socket can be used: everything is sent, or there is room again.
    pub(super) fn ready(&self, py: Python<'_>) -> PyResult<()> {
        match self.pending_waiter(py)? {
            Some(waiter) => waiter.call_method1(intern!(py, "set_result"), (py.None(),)).map(drop),
            None => Ok(()),
        }
    }

    /// The transport is at its end, because of `error` or by request.
    pub(super) fn lost(&self, py: Python<'_>, error: Option<&Ref>) -> PyResult<()> {
        let Some(waiter) = self.pending_waiter(py)? else { return Ok(()) };
        let error = match error {
            Some(error) => error.bind(py).clone(),
            None => error::instance(py, closed()).into_any(),
        };
        waiter.call_method1(intern!(py, "set_exception"), (error,)).map(drop)
    }

    fn pending_waiter<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(waiter) = self.waiter.take() else { return Ok(None) };
        let waiter = waiter.into_bound(py);
        let is_done = waiter.call_method0(intern!(py, "done"))?.is_truthy()?;
        Ok((!is_done).then_some(waiter))
    }
}

fn closed() -> PyErr {
    PyConnectionError::new_err("Connection is closed by peer")
}

impl StreamTransport {
    /// The socket has room for more of the file.
    pub(super) fn has_room(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        Self::stop_waiting_for_room(slf)?;
        slf.get().sendfile.ready(py)
    }

    fn stop_waiting_for_room(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let home = this.home(slf.py())?;
        let token = this.stream.borrow().token();
        drop(home.get().core().driver.borrow_mut().cancel(token, Side::Write));
        Ok(())
    }

    fn new_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let waiter = slf.get().home(py)?.call_method0(intern!(py, "create_future"))?;
        slf.get().sendfile.waiter.set(Ref::from_borrowed(&waiter));
        Ok(waiter)
    }
}

#[pymethods]
impl StreamTransport {
    /// Refuse writing until `_reset_empty_waiter()`; the future is done once everything that was
    /// written is sent.
    fn _make_empty_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let this = slf.get();
        if this.sendfile.in_progress.get() {
            return Err(PyRuntimeError::new_err("Empty waiter is already set"));
        }
        let waiter = Self::new_waiter(slf)?;
        this.sendfile.in_progress.set(true);
        if this.stream.borrow().buffered_bytes() == 0 {
            this.sendfile.ready(slf.py())?;
        }
        Ok(waiter)
    }

    /// Allow writing again.
    fn _reset_empty_waiter(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        this.sendfile.waiter.clear();
        let was_in_progress = this.sendfile.in_progress.replace(false);
        let may_poll = was_in_progress && this.connection.is_open();
        // What is still queued is on its way through the same side.
        if may_poll && this.stream.borrow().buffered_bytes() == 0 {
            Self::stop_waiting_for_room(slf)?;
        }
        Ok(())
    }

    /// A future that is done when the socket can take more; ConnectionError once closed. Only
    /// between `_make_empty_waiter()`, whose future is done, and `_reset_empty_waiter()`.
    fn _make_room_waiter<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost() || !this.connection.is_open() || this.stream.borrow().is_closing() {
            return Err(closed());
        }
        if !this.sendfile.in_progress.get() || this.stream.borrow().buffered_bytes() != 0 {
            return Err(PyRuntimeError::new_err("the transport is not lent to sendfile"));
        }
        let waiter = Self::new_waiter(slf)?;
        let home = this.home(py)?;
        let token = this.stream.borrow().token();
        let submitted = home.get().core().driver.borrow_mut().submit(token, Op::PollWrite);
        submitted.map_err(|err| convert::os_error(py, err))?;
        Ok(waiter)
    }

    /// Files are sent by the kernel if it can.
    #[getter]
    fn _sendfile_compatible<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let constants = slf.py().import("asyncio.constants")?;
        constants.getattr("_SendfileMode")?.getattr("TRY_NATIVE")
    }

    #[getter]
    fn _protocol_paused(&self) -> bool {
        self.stream.borrow().protocol_paused()
    }
}
