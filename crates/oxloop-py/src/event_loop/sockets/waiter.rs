//! Waiting for a socket: a future of readiness alone.
//!
//! Facts: a caller may close the socket right after `cancel()`, and the kernel may give its number
//! to a stranger before the next iteration runs the done callbacks.
//! Decision: a subclass of the native future, which is itself the callback of the watch. The watch
//! ends in the moment in which the future is done: `cancel` ends it before it cancels.
//! What can still go wrong: a socket closed without cancelling who waits for it; then nobody can
//! tell us, and the waiter waits for ever, as in asyncio.

use std::os::fd::RawFd;

use oxloop_core::Side;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::EventLoop;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};
use crate::future::{Future, none};
use crate::handle::{Arguments, Handle, context_or_copy};
use crate::stdlib;

/// A future that is done when its socket is ready; done or cancelled, it watches no longer.
#[pyclass(frozen, extends = Future, module = "oxloop._oxloop", name = "_SocketWaiter")]
pub struct SocketWaiter {
    fd: RawFd,
    side: Side,
    /// The handle that is registered for the descriptor, until the watch ends.
    watch: Slot,
}

attached_only!(SocketWaiter);

impl SocketWaiter {
    /// Starts to watch one side of `fd`.
    pub fn start<'py>(
        home: &Bound<'py, EventLoop>,
        fd: RawFd,
        side: Side,
    ) -> PyResult<Bound<'py, Self>> {
        let py = home.py();
        home.get().check_open()?;
        home.get().ensure_no_transport(py, fd)?;
        let future = Future::pending_on(home, false);
        if home.get().debug() {
            if let Some(stack) = stdlib::capture_source(py)? {
                future.source_traceback().set(Ref::new(stack));
            }
        }
        let waiter =
            PyClassInitializer::from(future).add_subclass(Self { fd, side, watch: Slot::empty() });
        let waiter = Bound::new(py, waiter)?;
        let handle = Handle::build(
            home,
            Ref::from_borrowed(&waiter),
            Arguments::NONE,
            context_or_copy(py, None)?,
        )?;
        let handle = handle.into_object(py)?;
        EventLoop::watch(home, fd, side, handle.clone())?;
        waiter.get().watch.set(handle);
        Ok(waiter)
    }

    /// Ends the watch, unless somebody else has taken it over or removed it.
    pub fn end_watch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(handle) = this.watch.take() else { return Ok(()) };
        if handle.bind_as::<Handle>(py).get().is_cancelled() {
            return Ok(());
        }
        let Some(home) = slf.as_super().get().home().get() else { return Ok(()) };
        EventLoop::unwatch(home.bind_as::<EventLoop>(py), this.fd, this.side).map(drop)
    }
}

#[pymethods]
impl SocketWaiter {
    /// The socket is ready.
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::end_watch(slf)?;
        if slf.as_super().get().is_done() {
            return Ok(());
        }
        Future::resolve(slf.as_super(), none(slf.py()))
    }

    /// Cancel the future; False if it is already done.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let ended = Self::end_watch(slf);
        let cancelled = Future::cancel_with(slf.as_super(), msg.map(Ref::from_borrowed))?;
        ended.map(|()| cancelled)
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(stdlib::asyncio_future(slf.py())?.clone())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.watch.traverse(&visit)
    }

    fn __clear__(&self) {
        self.watch.clear();
    }
}
