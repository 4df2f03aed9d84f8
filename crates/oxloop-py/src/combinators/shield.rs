//! `shield(arg)`: a future that can be cancelled without cancelling what it stands for.
//!
//! Decision: the outer future is itself the done callback of the inner one.
//! Versions: before 3.14 an exception that nobody hears of any more, because the outer future was
//! cancelled, counts as retrieved; from then on it is reported, by asyncio's own function.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::any_future;
use super::listener::Listener;
use super::spawning::ensure;
use crate::event_loop::{EventLoop, Job};
use crate::ffi::class::Finalize;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};
use crate::future::{Future, State};
use crate::stdlib;

/// The outer future of `shield()`.
#[pyclass(frozen, extends = Future, module = "oxloop._oxloop", name = "_ShieldingFuture")]
pub struct Shield {
    inner: Slot,
    /// The task that called, for call graphs.
    caller: Slot,
}

attached_only!(Shield);

/// Protect an awaitable from the cancellation of who waits for it.
#[pyfunction]
pub fn shield<'py>(arg: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = arg.py();
    let inner = ensure(arg, None)?;
    if any_future::is_done(&inner)? {
        return Ok(inner);
    }
    let home = any_future::loop_of(&inner)?;
    let future = any_future::future_on(&home)?;
    let own = Shield {
        inner: Slot::holding(Ref::from_borrowed(&inner)),
        caller: any_future::calling_task(&home),
    };
    let outer = Bound::new(py, PyClassInitializer::from(future).add_subclass(own))?;
    Listener::listen(&outer, &inner)?;
    Ok(outer.into_any())
}

impl Shield {
    /// The outer future was cancelled: the inner one is not followed any more.
    fn leave(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let slf = object.cast::<Self>()?;
        let Some(inner) = slf.get().inner.get() else { return Ok(()) };
        let inner = inner.bind(object.py());
        if any_future::is_done(inner)? {
            return Ok(());
        }
        slf.get().inner.clear();
        slf.get().caller.clear();
        Listener::leave(slf, inner)?;
        let Some(log) = stdlib::log_on_exception(object.py())? else { return Ok(()) };
        // Once, however many shields of the same future are left.
        let log = (log,);
        inner.call_method1(intern!(object.py(), "remove_done_callback"), log)?;
        inner.call_method1(intern!(object.py(), "add_done_callback"), log).map(drop)
    }

    /// The task that called `shield()`, while the inner future is followed.
    pub fn awaiter(&self) -> Option<Ref> {
        self.caller.get()
    }

    /// The inner future is done.
    pub fn told(slf: &Bound<'_, Self>, inner: &Bound<'_, PyAny>) -> PyResult<()> {
        let outer = slf.as_super();
        slf.get().inner.clear();
        slf.get().caller.clear();
        let cancelled = any_future::is_cancelled(inner)?;
        let state = outer.get().state();
        if state != State::Pending {
            let retrieves = stdlib::log_on_exception(inner.py())?.is_none();
            if state == State::Cancelled && !cancelled && retrieves {
                any_future::exception(inner)?;
            }
            return Ok(());
        }
        if cancelled {
            return Future::cancel_with(outer, None).map(drop);
        }
        match any_future::exception(inner)? {
            Some(exception) => Future::fail(outer, &exception),
            None => Future::resolve(outer, any_future::result(inner)?),
        }
    }
}

impl Finalize for Shield {
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        object.as_super().get().needs_report()
    }

    fn finalize(object: &Bound<'_, Self>) {
        Future::finalize_future(object.as_any(), object.as_super().get());
    }
}

#[pymethods]
impl Shield {
    /// Cancel this future, not the inner one; False if it is done.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let outer = slf.as_super();
        if outer.get().state() == State::Pending {
            // In asyncio this is the outer future's own, first done callback.
            match outer.get().native_home() {
                Some(home) => {
                    let home = home.bind_as::<EventLoop>(slf.py()).get();
                    home.check_open()?;
                    home.push(Job::Method(Ref::from_borrowed(slf), Self::leave));
                }
                None => {
                    let home = any_future::loop_of(outer.as_any())?;
                    let leave = slf.getattr(intern!(slf.py(), "_let_go"))?;
                    home.call_method1(intern!(slf.py(), "call_soon"), (leave,))?;
                }
            }
        }
        Future::cancel_with(outer, msg.map(Ref::from_borrowed))
    }

    /// Stop following the inner future; what a foreign loop calls.
    fn _let_go(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::leave(slf.as_any())
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(stdlib::asyncio_future(slf.py())?.clone())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.traverse(&visit)?;
        self.caller.traverse(&visit)
    }

    fn __clear__(&self) {
        self.inner.clear();
        self.caller.clear();
    }
}
