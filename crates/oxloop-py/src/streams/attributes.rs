//! The methods and attributes of a reader as Python sees them, the reading ones apart.
//!
//! The private attributes are those that asyncio's own methods and libraries use: what a class
//! derived from ours inherits from asyncio works on them. `_buffer` itself is a Python object over
//! `_unread` and `_replace_unread`.

use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::reader::{DEFAULT_LIMIT_BYTES, StreamReader};
use super::reads;
use crate::ffi::joined::joined;
use crate::ffi::{Ref, Slot, call};
use crate::sync::number::Given;

/// What an attribute holds, from Python: None empties it.
pub(super) fn store(slot: &Slot, value: &Bound<'_, PyAny>) {
    let value = (!value.is_none()).then(|| Ref::from_borrowed(value));
    drop(slot.replace(value));
}

#[pymethods]
impl StreamReader {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(limit=65536, loop=None)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::bare()
    }

    /// A reader that keeps up to twice `limit` bytes before it pauses its transport, and finds
    /// separators in the first `limit` bytes only.
    #[pyo3(signature = (limit = Given(None), r#loop = None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        limit: Given<'_>,
        r#loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        slf.get().start(slf.py(), limit.0.as_ref(), r#loop)
    }

    /// The exception that ended the stream, or None.
    fn exception<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.exception.or_none(py)
    }

    /// End the stream with an exception; whoever waits gets it raised.
    fn set_exception(&self, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        self.fail(exc)
    }

    /// The transport to pause and resume.
    ///
    /// Raises AssertionError if there is one.
    fn set_transport(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.transport.is_some() {
            return Err(PyAssertionError::new_err("Transport already set"));
        }
        store(&self.transport, transport);
        Ok(())
    }

    /// No more bytes will come.
    #[pyo3(name = "feed_eof")]
    fn feed_eof_method(&self, py: Python<'_>) -> PyResult<()> {
        self.feed_eof(py)
    }

    /// True if everything was read and `feed_eof` was called.
    fn at_eof(&self) -> bool {
        self.eof.get() && self.len_bytes() == 0
    }

    fn _wakeup_waiter(&self, py: Python<'_>) -> PyResult<()> {
        self.wake(py)
    }

    fn _maybe_resume_transport(&self, py: Python<'_>) -> PyResult<()> {
        self.resume_if_room(py)
    }

    fn __aiter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __anext__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        reads::next_line(slf).map(|coroutine| coroutine.into_py(slf.py()))
    }

    /// How many bytes wait to be read.
    fn _unread_bytes(&self) -> usize {
        self.len_bytes()
    }

    /// A copy of the bytes that wait to be read.
    fn _unread(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let received = self.received.borrow();
        joined(py, received.len_bytes(), received.slices()).map(|bytes| bytes.into_py(py))
    }

    /// Put `data` in the place of what waits to be read; wakes nobody.
    fn _replace_unread(&self, data: &Bound<'_, PyBytes>) {
        self.discard(usize::MAX);
        self.received.borrow_mut().gather(data.as_bytes());
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let this = slf.get();
        let mut parts = vec!["StreamReader".to_owned()];
        let unread = this.len_bytes();
        if unread > 0 {
            parts.push(format!("{unread} bytes"));
        }
        if this.eof.get() {
            parts.push("eof".into());
        }
        if let Some(limit) = this.limit.bound(py) {
            if !limit.eq(DEFAULT_LIMIT_BYTES)? {
                parts.push(format!("limit={}", limit.str()?));
            }
        }
        for (name, slot) in [
            ("waiter", &this.waiter),
            ("exception", &this.exception),
            ("transport", &this.transport),
        ] {
            if let Some(value) = slot.bound(py) {
                if value.is_truthy()? {
                    parts.push(format!("{name}={}", value.repr()?));
                }
            }
        }
        if this.paused.get() {
            parts.push("paused".into());
        }
        Ok(format!("<{}>", parts.join(" ")))
    }

    /// A replaced method is seen by whoever calls this object from Rust.
    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if !name.to_str()?.starts_with('_') {
            slf.get().set_patched();
        }
        call::generic_setattr(slf.as_any(), name, Some(value))
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        call::generic_setattr(slf.as_any(), name, None)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.or_none(py)
    }

    #[setter(_loop)]
    fn replace_loop(&self, value: &Bound<'_, PyAny>) {
        store(&self.home, value);
    }

    #[getter]
    fn _limit<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.limit.or_none(py)
    }

    #[setter(_limit)]
    fn replace_limit(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.set_limit(value)
    }

    #[getter]
    fn _eof(&self) -> bool {
        self.eof.get()
    }

    #[setter(_eof)]
    fn replace_eof(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.eof.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.paused.get()
    }

    #[setter(_paused)]
    fn replace_paused(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.paused.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _waiter<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.waiter.or_none(py)
    }

    /// Whoever waits by a future of its own is woken by anything.
    #[setter(_waiter)]
    fn replace_waiter(&self, value: &Bound<'_, PyAny>) {
        self.waited();
        store(&self.waiter, value);
    }

    #[getter]
    fn _exception<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.exception.or_none(py)
    }

    #[setter(_exception)]
    fn replace_exception(&self, value: &Bound<'_, PyAny>) {
        store(&self.exception, value);
    }

    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.transport.or_none(py)
    }

    #[setter(_transport)]
    fn replace_transport(&self, value: &Bound<'_, PyAny>) {
        store(&self.transport, value);
    }

    #[getter]
    fn _source_traceback<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.source_traceback.or_none(py)
    }

    #[setter(_source_traceback)]
    fn replace_source_traceback(&self, value: &Bound<'_, PyAny>) {
        store(&self.source_traceback, value);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.home,
            &self.transport,
            &self.waiter,
            &self.exception,
            &self.source_traceback,
            &self.limit,
        ] {
            slot.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let parts = (
            self.transport.take(),
            self.waiter.take(),
            self.exception.take(),
            self.source_traceback.take(),
            self.home.take(),
        );
        drop(parts);
    }
}
