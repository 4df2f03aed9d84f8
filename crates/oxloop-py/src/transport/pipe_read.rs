//! `ReadPipeTransport`: bytes that come out of a pipe, a socket or a character device.
//!
//! The grammar: `connection_made data_received* eof_received? connection_lost`. Unlike a stream's,
//! the answer of `eof_received` does not matter: there is nothing to keep open. An error that
//! `data_received` raises is reported and reading goes on. EIO is how a terminal says that its other
//! end is gone, so it is not reported.
//! Source of behaviour: CPython `Lib/asyncio/unix_events.py`.

use oxloop_core::sys::fd;
use oxloop_core::{Driver as _, Outcome, ReadEvent};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{PyTraverseError, PyVisit};

use super::pipe::PipeEnd;
use crate::event_loop::{Chunk, Job};
use crate::ffi::Ref;
use crate::ffi::class::Finalize;
use crate::ffi::object::attached_only;
use crate::{convert, protocol, stdlib};

/// The reading end of a pipe. Made by the loop.
#[pyclass(frozen, weakref, module = "oxloop", name = "ReadPipeTransport")]
pub struct ReadPipeTransport {
    pub(super) end: PipeEnd,
}

attached_only!(ReadPipeTransport);

impl ReadPipeTransport {
    pub fn open<'py>(py: Python<'py>, end: PipeEnd) -> PyResult<Bound<'py, Self>> {
        let transport = Bound::new(py, Self { end })?;
        transport.get().end.attach(transport.as_any(), completed)?;
        Ok(transport)
    }
}

/// A completion of the driver.
fn completed(object: &Bound<'_, PyAny>, outcome: Outcome<Chunk>) -> PyResult<()> {
    let Outcome::Received(result) = outcome else { return Ok(()) };
    let py = object.py();
    let end = &object.cast::<ReadPipeTransport>()?.get().end;
    let home = end.home(py)?;
    let event = end.with_stream(&home, |stream, driver| stream.on_received(driver, result));
    match event {
        ReadEvent::Data(count) => {
            let data = {
                // `bytes` is no object of the collector: nothing else runs while we borrow.
                let driver = home.get().core().driver.borrow();
                let received = driver.received();
                PyBytes::new(py, &received[..count.min(received.len())])
            };
            let Some(user_protocol) = end.protocol.bound(py) else { return Ok(()) };
            protocol::data_received(&user_protocol, end.context.get(), &data)
        }
        ReadEvent::Eof => {
            end.debug_log(object, "info", "was closed by peer")?;
            home.get().push(Job::Method(Ref::from_borrowed(object), tell_eof));
            end.close(object)
        }
        ReadEvent::Error(err) => {
            let is_usual = fd::is_hung_up_terminal(&err);
            let err = convert::os_error(py, err);
            end.fail(object, err, "Fatal read error on pipe transport", is_usual)
        }
        ReadEvent::Ignored => Ok(()),
    }
}

fn tell_eof(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let end = &object.cast::<ReadPipeTransport>()?.get().end;
    let Some(user_protocol) = end.protocol.bound(object.py()) else { return Ok(()) };
    protocol::eof_received(&user_protocol, end.context.get()).map(drop)
}

#[pymethods]
impl ReadPipeTransport {
    /// True while data is wanted: neither paused nor closing.
    fn is_reading(&self) -> bool {
        !self.end.is_closing() && self.end.stream.borrow().is_reading()
    }

    /// Deliver no data until `resume_reading()`; in force when this returns.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let end = &slf.get().end;
        if end.is_closing() {
            return Ok(());
        }
        let home = end.home(slf.py())?;
        let changed = end.with_stream(&home, |stream, driver| stream.pause_reading(driver));
        if changed { end.debug_log(slf, "debug", "pauses reading") } else { Ok(()) }
    }

    /// Deliver data again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let end = &slf.get().end;
        if end.is_closing() {
            return Ok(());
        }
        let home = end.home(slf.py())?;
        let resumed = end.with_stream(&home, |stream, driver| stream.resume_reading(driver));
        let changed = resumed.map_err(|err| convert::os_error(slf.py(), err))?;
        if changed { end.debug_log(slf, "debug", "resumes reading") } else { Ok(()) }
    }

    /// True once the transport is closing or closed.
    fn is_closing(&self) -> bool {
        self.end.is_closing()
    }

    /// Stop reading and call `connection_lost(None)` soon; then the pipe is closed.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().end.close(slf)
    }

    /// Replace the protocol; from now on it gets the data.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) {
        self.end.protocol.set(Ref::from_borrowed(protocol));
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.end.protocol.or_none(py)
    }

    /// `'pipe'`: the pipe object.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.end.extra_info(py, name, default)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let name = slf.get_type().name()?.to_string();
        slf.get().end.describe(slf.py(), &name, slf.get().is_reading(), None)
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(stdlib::asyncio_read_transport(slf.py())?.clone())
    }

    #[getter]
    fn _pipe<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.end.pipe.or_none(py)
    }

    #[setter(_pipe)]
    fn replace_pipe(&self, pipe: &Bound<'_, PyAny>) -> PyResult<()> {
        self.end.set_pipe(pipe)
    }

    #[getter]
    fn _fileno(&self) -> i32 {
        self.end.fd()
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.end.home.or_none(py)
    }

    #[getter]
    fn _protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.end.protocol.or_none(py)
    }

    #[getter]
    fn _closing(&self) -> bool {
        self.end.is_closing()
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.end.stream.borrow().is_paused()
    }

    #[getter]
    fn _extra<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.end.extra(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.end.traverse(&visit)
    }

    fn __clear__(&self) {
        self.end.clear();
    }
}

impl Finalize for ReadPipeTransport {
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        object.get().end.is_open()
    }

    fn finalize(slf: &Bound<'_, Self>) {
        slf.get().end.finalize(slf);
    }
}
