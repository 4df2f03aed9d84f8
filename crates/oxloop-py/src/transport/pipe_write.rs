//! `WritePipeTransport`: bytes that go into a pipe, a socket or a character device.
//!
//! Facts: a pipe whose readers are gone reports an error to whoever watches it for reading, although
//! nothing is ever read. A socket becomes readable, which asyncio takes for the end; but what makes
//! it readable may be data, which the program reads elsewhere, and then the rest would not be
//! written. Decision: a socket is watched for the end of the peer's stream only. While data lies
//! before that end the watching stops: whoever reads it may still have an answer to write, and if
//! nobody takes it, the write fails.
//! A write is tried at once and the rest is queued; `close` and `write_eof` are one and the same and
//! let the queue go out first. A failed write is not reported, only `connection_lost` is told.
//! Source of behaviour: CPython `Lib/asyncio/unix_events.py`.

use std::cell::Cell;
use std::os::fd::RawFd;

use oxloop_core::sys::socket;
use oxloop_core::{Outcome, WriteQueue};
use pyo3::exceptions::{PyBrokenPipeError, PyNotImplementedError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit};

use super::limits::water_marks;
use super::pipe::PipeEnd;
use super::reports;
use crate::event_loop::Chunk;
use crate::ffi::Ref;
use crate::ffi::call::{Exported, bytes_of};
use crate::ffi::class::Finalize;
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::{convert, protocol, stdlib};

/// Writes to a closed pipe that are dropped before a warning is logged.
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

/// The writing end of a pipe. Made by the loop.
#[pyclass(frozen, weakref, module = "oxloop", name = "WritePipeTransport")]
pub struct WritePipeTransport {
    pub(super) end: PipeEnd,
    /// Failed writes, and those dropped since the end.
    failed_writes: Cell<u32>,
}

attached_only!(WritePipeTransport);

impl WritePipeTransport {
    pub fn open<'py>(py: Python<'py>, end: PipeEnd) -> PyResult<Bound<'py, Self>> {
        let transport = Bound::new(py, Self { end, failed_writes: Cell::new(0) })?;
        transport.get().end.attach(transport.as_any(), completed)?;
        Ok(transport)
    }

    fn count_failed(&self) -> u32 {
        let before = self.failed_writes.get();
        self.failed_writes.set(before.saturating_add(1));
        before
    }

    fn write_bytes(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let is_bytes = data.is_exact_instance_of::<PyBytes>();
        let is_buffer = is_bytes
            || data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        if !is_buffer {
            return Err(PyTypeError::new_err(format!(
                "data argument must be a bytes-like object, not '{}'",
                data.get_type().name()?
            )));
        }
        if data.len()? == 0 {
            return Ok(());
        }
        if this.end.is_closing() {
            if this.count_failed() >= SILENT_WRITES_AFTER_LOSS {
                let text = "pipe closed by peer or os.write(pipe, data) raised exception.";
                stdlib::log(py, "warning", text, None)?;
            }
            return Ok(());
        }
        let home = this.end.home(py)?;
        let written = if is_bytes {
            let object = Ref::from_borrowed(data);
            this.end.with_stream(&home, |stream, driver| {
                stream.write(driver, bytes_of(&object), |start| Chunk::Shared {
                    object: object.clone(),
                    start,
                })
            })
        } else {
            let exported = in_one_piece(data)?;
            this.end.with_stream(&home, |stream, driver| {
                let bytes = exported.bytes();
                // The caller may change its buffer as soon as we return.
                stream.write(driver, bytes, |start| Chunk::Owned(bytes[start..].into()))
            })
        };
        match written {
            Ok(false) => Ok(()),
            Ok(true) => Self::tell_flow(slf, true),
            Err(err) => Self::fail(slf, err),
        }
    }

    fn fail(slf: &Bound<'_, Self>, err: std::io::Error) -> PyResult<()> {
        slf.get().count_failed();
        let err = convert::os_error(slf.py(), err);
        slf.get().end.fail(slf, err, "Fatal write error on pipe transport", true)
    }

    /// Tells the protocol to stop or go on writing; its failure is reported and changes nothing.
    fn tell_flow(slf: &Bound<'_, Self>, pause: bool) -> PyResult<()> {
        let py = slf.py();
        let end = &slf.get().end;
        let Some(user_protocol) = end.protocol.bound(py) else { return Ok(()) };
        let told = if pause {
            protocol::pause_writing(&user_protocol)
        } else {
            protocol::resume_writing(&user_protocol, end.context.get())
        };
        reports::flow_told(told, pause, || end.home(py), slf.as_any(), &user_protocol)
    }

    /// A queued send has made progress, or failed.
    fn sent(
        slf: &Bound<'_, Self>,
        left: WriteQueue<Chunk>,
        result: std::io::Result<usize>,
    ) -> PyResult<()> {
        let end = &slf.get().end;
        let home = end.home(slf.py())?;
        let progress =
            end.with_stream(&home, |stream, driver| stream.on_sent(driver, left, result));
        let progress = match progress {
            Ok(progress) => progress,
            Err(err) => return Self::fail(slf, err),
        };
        let told = if progress.resume { Self::tell_flow(slf, false) } else { Ok(()) };
        // The protocol may have written more, or closed, in resume_writing().
        let is_finished = end.stream.borrow_mut().finish();
        if is_finished { told.and(end.schedule_loss(slf, None)) } else { told }
    }

    /// The other end has gone.
    fn hung_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let end = &slf.get().end;
        if end.is_closing() {
            return Ok(());
        }
        if end.watches_hang_up() && has_unread(end.fd()) {
            let home = end.home(py)?;
            end.with_stream(&home, |stream, driver| stream.pause_reading(driver));
            return Ok(());
        }
        end.debug_log(slf, "info", "was closed by peer")?;
        let error = match end.buffered_bytes() {
            0 => None,
            _ => Some(Ref::new(error::instance(py, PyBrokenPipeError::new_err(())))),
        };
        end.force_close(slf, error)
    }
}

/// Whether a socket holds something other than its end.
fn has_unread(fd: RawFd) -> bool {
    match socket::peek(fd) {
        Ok(count) => count > 0,
        Err(err) => err.kind() == std::io::ErrorKind::WouldBlock,
    }
}

/// The bytes of `data`; those of a view with gaps are copied first.
fn in_one_piece(data: &Bound<'_, PyAny>) -> PyResult<Exported> {
    Exported::readable(data).or_else(|err| match data.call_method0(intern!(data.py(), "tobytes")) {
        Ok(copy) => Exported::readable(&copy),
        Err(_) => Err(err),
    })
}

/// A completion of the driver.
fn completed(object: &Bound<'_, PyAny>, outcome: Outcome<Chunk>) -> PyResult<()> {
    let transport = object.cast::<WritePipeTransport>()?;
    match outcome {
        Outcome::Readable => WritePipeTransport::hung_up(transport),
        Outcome::Sent(left, result) => WritePipeTransport::sent(transport, left, result),
        _ => Ok(()),
    }
}

#[pymethods]
impl WritePipeTransport {
    /// Write `data`; what the pipe does not take at once is queued.
    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_bytes(slf, data)
    }

    /// Write every item of `list_of_data`, in order, as one.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let joined = PyBytes::new(py, b"").call_method1(intern!(py, "join"), (list_of_data,))?;
        Self::write_bytes(slf, &joined)
    }

    /// The same as `close()`.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().end.close(slf)
    }

    /// True.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Write what is queued, then close the pipe and call `connection_lost(None)`.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().end.close(slf)
    }

    /// Drop what is queued and call `connection_lost(None)` soon; then the pipe is closed.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().end.force_close(slf, None)
    }

    /// True once the transport is closing or closed.
    fn is_closing(&self) -> bool {
        self.end.is_closing()
    }

    /// Bytes that were given to `write()` and are not in the pipe yet.
    fn get_write_buffer_size(&self) -> usize {
        self.end.buffered_bytes()
    }

    /// `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.end.stream.borrow().limits()
    }

    /// Pause the protocol above `high` bytes, resume it at `low`.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (high, low) = water_marks(high, low)?;
        let change = slf.get().end.stream.borrow_mut().set_limits(high, low);
        if change.is_some() { Self::tell_flow(slf, true) } else { Ok(()) }
    }

    /// Replace the protocol.
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
        let end = &slf.get().end;
        let waiting = end.buffered_bytes();
        end.describe(slf.py(), &name, waiting > 0, Some(waiting))
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(stdlib::asyncio_transport(slf.py())?.clone())
    }

    /// A pipe that is written to cannot be read: NotImplementedError, as from asyncio's, which is
    /// an `asyncio.Transport` too.
    fn is_reading(&self) -> PyResult<bool> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// See `is_reading`.
    fn pause_reading(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// See `is_reading`.
    fn resume_reading(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
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
    fn _conn_lost(&self) -> u32 {
        self.failed_writes.get()
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

impl Finalize for WritePipeTransport {
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        object.get().end.is_open()
    }

    fn finalize(slf: &Bound<'_, Self>) {
        slf.get().end.finalize(slf);
    }
}
