//! `StreamReaderProtocol`: what a transport calls, and who waits until it takes more.
//!
//! Facts: the reader is referred to weakly, so that one which nobody reads from any more can go; a
//! server holds it strongly until the callback for the client has it. On versions before the fix of
//! that cycle asyncio's protocol holds its writer, on later ones it does not.
//! Decision: [`data_received`] is a call in Rust for a transport of ours, if nothing was replaced on
//! the way; bytes go into the reader without a look-up, a frame or a context.
//! Source of behaviour: CPython `Lib/asyncio/streams.py`.

use std::cell::{Cell, RefCell};

use pyo3::exceptions::{PyAssertionError, PyConnectionResetError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use super::attributes::store;
use super::reader::{home_or_current, is_debug};
use super::{plain_protocol, plain_reader};
use crate::combinators::any_future;
use crate::coroutine::{Coroutine, Waiter};
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::future::none;
use crate::stdlib;

use super::drain::DrainHelper;

/// The protocol of a stream.
#[pyclass(frozen, subclass, module = "oxloop._oxloop", name = "StreamReaderProtocol")]
pub struct StreamReaderProtocol {
    pub(super) home: Slot,
    /// A weak reference, or nothing.
    reader: Slot,
    pub(super) strong_reader: Slot,
    pub(super) connected_cb: Slot,
    pub(super) transport: Slot,
    pub(super) task: Slot,
    pub(super) writer: Slot,
    closed: Slot,
    pub(super) source_traceback: Slot,
    drain_waiters: RefCell<Vec<Waiter>>,
    paused: Cell<bool>,
    lost: Cell<bool>,
    pub(super) over_tls: Cell<bool>,
    pub(super) rejects: Cell<bool>,
    patched: Cell<bool>,
}

attached_only!(StreamReaderProtocol);

impl StreamReaderProtocol {
    fn start(
        &self,
        py: Python<'_>,
        reader: &Bound<'_, PyAny>,
        connected_cb: Option<&Bound<'_, PyAny>>,
        home: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let home = home_or_current(py, home)?;
        let connected_cb = connected_cb.filter(|callback| !callback.is_none());
        if reader.is_none() {
            self.reader.clear();
        } else {
            self.reader.set(Ref::new(PyWeakrefReference::new(reader)?));
            store(&self.source_traceback, &reader.getattr(intern!(py, "_source_traceback"))?);
        }
        self.strong_reader.clear();
        self.connected_cb.clear();
        if let Some(callback) = connected_cb {
            store(&self.strong_reader, reader);
            self.connected_cb.set(Ref::from_borrowed(callback));
        }
        self.closed.set(Waiter::new(&home)?.as_future().clone());
        self.paused.set(false);
        self.lost.set(false);
        self.rejects.set(false);
        self.over_tls.set(false);
        self.home.set(Ref::new(home));
        Ok(())
    }

    #[inline]
    pub(super) fn is_patched(&self) -> bool {
        self.patched.get()
    }

    /// The reader, if it lives.
    #[inline]
    pub(super) fn reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let weak = self.reader.bound(py)?;
        match weak.cast::<PyWeakrefReference>() {
            Ok(weak) => weak.upgrade(),
            // What a program put there: anything that can be called.
            Err(_) => weak.call0().ok().filter(|reader| !reader.is_none()),
        }
    }

    /// Bytes for the reader.
    #[inline]
    fn receive(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let Some(reader) = self.reader(py) else { return Ok(()) };
        match plain_reader(&reader) {
            Some(reader) => reader.get().feed(data),
            None => call::call_method_one(&reader, intern!(py, "feed_data"), data).map(drop),
        }
    }

    /// Whether a writer may go on.
    ///
    /// # Errors
    /// ConnectionResetError once the connection is lost.
    #[inline]
    pub(super) fn may_write(&self) -> PyResult<bool> {
        if self.lost.get() {
            return Err(PyConnectionResetError::new_err("Connection lost"));
        }
        Ok(!self.paused.get())
    }

    /// Whether `connection_lost` was called.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// A future that is set when writers may go on.
    pub(super) fn add_drain_waiter(&self, py: Python<'_>) -> PyResult<Waiter> {
        let waiter = Waiter::new(&self.home.or_none(py))?;
        self.drain_waiters.borrow_mut().push(waiter.clone());
        Ok(waiter)
    }

    pub(super) fn remove_drain_waiter(&self, waiter: &Waiter) {
        let removed = {
            let mut waiters = self.drain_waiters.borrow_mut();
            waiters.iter().position(|other| other.is(waiter)).map(|index| waiters.remove(index))
        };
        drop(removed);
    }

    /// Lets every writer go on, or gives it the error.
    fn wake_writers(&self, py: Python<'_>, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let waiters = self.drain_waiters.borrow().clone();
        for waiter in waiters {
            end_waiter(py, &waiter, error)?;
        }
        Ok(())
    }

    fn tell(slf: &Bound<'_, Self>, what: &str) -> PyResult<()> {
        let py = slf.py();
        if is_debug(&slf.get().home.or_none(py))? {
            stdlib::log(py, "debug", &format!("{} {what} writing", slf.repr()?), None)?;
        }
        Ok(())
    }
}

/// Sets a future that is not done: to the error, or to None.
fn end_waiter(py: Python<'_>, waiter: &Waiter, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    if waiter.is_done(py)? {
        return Ok(());
    }
    match error {
        None => waiter.wake(py, crate::future::none(py)),
        Some(error) => waiter.fail(error),
    }
}

/// For a transport of ours: feeds the reader directly if nothing was replaced; false if it must call
/// the method.
#[inline]
pub fn data_received(protocol: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<bool> {
    let Some(protocol) = plain_protocol(protocol) else { return Ok(false) };
    let Some(reader) = protocol.get().reader(data.py()) else { return Ok(true) };
    let Some(reader) = plain_reader(&reader) else { return Ok(false) };
    reader.get().feed(data)?;
    Ok(true)
}

#[pymethods]
impl StreamReaderProtocol {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(stream_reader, client_connected_cb=None, loop=None)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            home: Slot::empty(),
            reader: Slot::empty(),
            strong_reader: Slot::empty(),
            connected_cb: Slot::empty(),
            transport: Slot::empty(),
            task: Slot::empty(),
            writer: Slot::empty(),
            closed: Slot::empty(),
            source_traceback: Slot::empty(),
            drain_waiters: RefCell::default(),
            paused: Cell::new(false),
            lost: Cell::new(false),
            over_tls: Cell::new(false),
            rejects: Cell::new(false),
            patched: Cell::new(false),
        }
    }

    /// A protocol that feeds `stream_reader`; a server's calls `client_connected_cb(reader, writer)`
    /// when the connection is made.
    #[pyo3(signature = (stream_reader, client_connected_cb = None, r#loop = None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        stream_reader: &Bound<'_, PyAny>,
        client_connected_cb: Option<&Bound<'_, PyAny>>,
        r#loop: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        slf.get().start(slf.py(), stream_reader, client_connected_cb, r#loop)
    }

    /// Bytes for the reader, if it lives.
    #[pyo3(name = "data_received")]
    fn data_received_method(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.receive(data)
    }

    /// The end for the reader; True keeps the other direction open, which TLS cannot.
    fn eof_received(&self, py: Python<'_>) -> PyResult<bool> {
        if let Some(reader) = self.reader(py) {
            match plain_reader(&reader) {
                Some(reader) => reader.get().feed_eof(py)?,
                None => drop(reader.call_method0(intern!(py, "feed_eof"))?),
            }
        }
        Ok(!self.over_tls.get())
    }

    /// The end for everybody: reader, writers, and who waits for the close.
    fn connection_lost(&self, py: Python<'_>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = (!exc.is_none()).then_some(exc);
        if let Some(reader) = self.reader(py) {
            match (error, plain_reader(&reader)) {
                (None, Some(reader)) => reader.get().feed_eof(py)?,
                (Some(error), Some(reader)) => reader.get().fail(error)?,
                (None, None) => drop(reader.call_method0(intern!(py, "feed_eof"))?),
                (Some(error), None) => {
                    drop(call::call_method_one(&reader, intern!(py, "set_exception"), error)?)
                }
            }
        }
        if let Some(closed) = self.closed.get() {
            let closed = Waiter::from_future(closed);
            end_waiter(py, &closed, error)?;
            // Waiting for the close is not mandatory: that nobody did is no mistake.
            closed.silence(py);
        }
        self.lost.set(true);
        self.wake_writers(py, error)?;
        let parts = (self.reader.take(), self.writer.take());
        drop((parts, self.task.take(), self.transport.take()));
        Ok(())
    }

    /// The transport has more than it likes to send: `drain()` waits from now on.
    fn pause_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().paused.replace(true) {
            return Err(PyAssertionError::new_err(()));
        }
        Self::tell(slf, "pauses")
    }

    /// The transport takes more: wakes every `drain()`.
    fn resume_writing(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if !this.paused.replace(false) {
            return Err(PyAssertionError::new_err(()));
        }
        Self::tell(slf, "resumes")?;
        this.wake_writers(slf.py(), None)
    }

    /// The coroutine inside `StreamWriter.drain()`.
    fn _drain_helper(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        Coroutine::make(py, DrainHelper::new(slf)).map(|coroutine| coroutine.into_py(py))
    }

    fn _get_close_waiter<'py>(
        &self,
        py: Python<'py>,
        _stream: &Bound<'py, PyAny>,
    ) -> Bound<'py, PyAny> {
        self.closed.or_none(py)
    }

    /// A replaced method is seen by whoever calls this object from Rust.
    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if matches!(name.to_str()?, "data_received" | "_drain_helper") {
            slf.get().patched.set(true);
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
    fn _stream_reader<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.reader(py)
    }

    #[getter]
    fn _stream_reader_wr<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.reader.or_none(py)
    }

    #[setter(_stream_reader_wr)]
    fn replace_reader(&self, value: &Bound<'_, PyAny>) {
        store(&self.reader, value);
    }

    #[getter]
    fn _strong_reader<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.strong_reader.or_none(py)
    }

    #[setter(_strong_reader)]
    fn replace_strong_reader(&self, value: &Bound<'_, PyAny>) {
        store(&self.strong_reader, value);
    }

    #[getter]
    fn _stream_writer<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.writer.or_none(py)
    }

    #[setter(_stream_writer)]
    fn replace_writer(&self, value: &Bound<'_, PyAny>) {
        store(&self.writer, value);
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
    fn _client_connected_cb<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.connected_cb.or_none(py)
    }

    #[setter(_client_connected_cb)]
    fn replace_connected_cb(&self, value: &Bound<'_, PyAny>) {
        store(&self.connected_cb, value);
    }

    #[getter]
    fn _task<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.task.or_none(py)
    }

    #[setter(_task)]
    fn replace_task(&self, value: &Bound<'_, PyAny>) {
        store(&self.task, value);
    }

    #[getter]
    fn _closed<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.closed.or_none(py)
    }

    #[setter(_closed)]
    fn replace_closed(&self, value: &Bound<'_, PyAny>) {
        store(&self.closed, value);
    }

    #[getter]
    fn _source_traceback<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.source_traceback.or_none(py)
    }

    #[setter(_source_traceback)]
    fn replace_source_traceback(&self, value: &Bound<'_, PyAny>) {
        store(&self.source_traceback, value);
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
    fn _connection_lost(&self) -> bool {
        self.lost.get()
    }

    #[setter(_connection_lost)]
    fn replace_lost(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.lost.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _over_ssl(&self) -> bool {
        self.over_tls.get()
    }

    #[setter(_over_ssl)]
    fn replace_over_tls(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.over_tls.set(value.is_truthy()?);
        Ok(())
    }

    #[getter]
    fn _reject_connection(&self) -> bool {
        self.rejects.get()
    }

    #[setter(_reject_connection)]
    fn replace_rejects(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        self.rejects.set(value.is_truthy()?);
        Ok(())
    }

    /// The futures of those who wait in `drain()`: a copy.
    #[getter]
    fn _drain_waiters<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyAny>> {
        let waiters = self.drain_waiters.borrow().clone();
        waiters.iter().map(|waiter| waiter.as_future().bind(py).clone()).collect()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.home,
            &self.reader,
            &self.strong_reader,
            &self.connected_cb,
            &self.transport,
            &self.task,
            &self.writer,
            &self.closed,
            &self.source_traceback,
        ] {
            slot.traverse(&visit)?;
        }
        match self.drain_waiters.try_borrow() {
            Ok(waiters) => waiters.iter().try_for_each(|waiter| waiter.traverse(&visit)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let parts = (
            self.strong_reader.take(),
            self.connected_cb.take(),
            self.transport.take(),
            self.task.take(),
            self.writer.take(),
            self.closed.take(),
            self.home.take(),
            self.reader.take(),
            self.drain_waiters.take(),
        );
        drop(parts);
    }
}

/// `__del__()`. Not asyncio's, in Python: it would swallow the KeyboardInterrupt of a signal that came
/// in native code, which is raised where the next Python function begins.
pub fn del<'py>(slf: &Bound<'py, StreamReaderProtocol>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("__del__")?;
    let py = slf.py();
    if let Some(closed) = slf.get().closed.bound(py) {
        if any_future::is_done(&closed)? && !any_future::is_cancelled(&closed)? {
            any_future::exception(&closed)?;
        }
    }
    Ok(none(py))
}
