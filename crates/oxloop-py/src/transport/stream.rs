//! The `StreamTransport` class: what a protocol may ask of its connection.
//!
//! Law: `connection_lost` is scheduled, never called from inside `write()` or `close()`; nothing is
//! delivered after `pause_reading()` or `close()` have returned.
//! Source of behaviour: CPython `Lib/asyncio/selector_events.py`, `Lib/asyncio/transports.py`.

use std::cell::{Cell, RefCell};

use oxloop_core::{ReadMode, Stream};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};
use pyo3::{PyTraverseError, PyVisit};

use super::fd::Connection;
use super::sendfile::Sendfile;
use crate::event_loop::{Chunk, EventLoop, Job, Source};
use crate::ffi::call::{Exported, bytes_of};
use crate::ffi::class::Finalize;
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, context};
use crate::future::none;
use crate::{protocol, stdlib};

/// Writes to a lost connection that are dropped before a warning is logged.
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

/// A connected byte stream. Made by the loop.
#[pyclass(frozen, weakref, module = "oxloop", name = "StreamTransport")]
pub struct StreamTransport {
    pub(super) home: Slot,
    pub(super) protocol: Slot,
    pub(super) context: Slot,
    pub(super) server: Slot,
    pub(super) waiter: Slot,
    pub(super) extra: Slot,
    pub(super) lost_error: Slot,
    pub(super) stream: RefCell<Stream<Chunk>>,
    pub(super) connection: Connection,
    pub(super) sendfile: Sendfile,
    pub(super) buffered: Cell<bool>,
    pub(super) loss_scheduled: Cell<bool>,
    pub(super) writes_after_loss: Cell<u32>,
}

attached_only!(StreamTransport);

impl StreamTransport {
    /// Takes over a connection: `connection_made` is scheduled, then reading starts, then `waiter`
    /// is resolved.
    pub fn open<'py>(
        home: &Bound<'py, EventLoop>,
        connection: Connection,
        user_protocol: &Bound<'py, PyAny>,
        connection_context: Ref,
        waiter: Option<Ref>,
        extra: Option<Ref>,
        server: Option<Ref>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = home.py();
        let fd = connection.fd();
        connection.set_nodelay();
        let slot = |value: Option<Ref>| value.map_or_else(Slot::empty, Slot::holding);
        // The token exists only once the object does.
        let transport = Bound::new(
            py,
            Self {
                home: Slot::holding(Ref::from_borrowed(home)),
                protocol: Slot::empty(),
                context: Slot::holding(connection_context),
                server: slot(server),
                waiter: slot(waiter),
                extra: slot(extra),
                lost_error: Slot::empty(),
                stream: RefCell::new(Stream::new(oxloop_core::Token::from_u64(0))),
                connection,
                sendfile: Sendfile::default(),
                buffered: Cell::new(false),
                loss_scheduled: Cell::new(false),
                writes_after_loss: Cell::new(0),
            },
        )?;
        let this = transport.get();
        this.adopt_protocol(user_protocol)?;
        let source =
            Source { object: Ref::from_borrowed(&transport), completed: super::events::completed };
        let token = home
            .get()
            .core()
            .add_source(fd, source)
            .map_err(|err| crate::convert::os_error(py, err))?;
        home.get().claim(py, fd, token);
        *this.stream.borrow_mut() = Stream::new(token);
        if let Some(server) = this.server.bound(py) {
            server.call_method1(intern!(py, "_attach"), (&transport,))?;
        }
        home.get().push(Job::Method(Ref::from_borrowed(&transport), super::events::begin));
        Ok(transport)
    }

    pub(super) fn home<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EventLoop>> {
        let home = self.home.bound(py).ok_or_else(|| {
            PyRuntimeError::new_err("the transport is closed and its event loop let go")
        })?;
        Ok(home.cast_into::<EventLoop>()?)
    }

    /// Runs `body` with the stream and the driver; neither is borrowed afterwards.
    #[inline]
    pub(super) fn with_stream<R>(
        &self,
        home: &Bound<'_, EventLoop>,
        body: impl FnOnce(&mut Stream<Chunk>, &mut crate::event_loop::Driver) -> R,
    ) -> R {
        let mut stream = self.stream.borrow_mut();
        let mut driver = home.get().core().driver.borrow_mut();
        body(&mut stream, &mut driver)
    }

    pub(super) fn read_mode(&self) -> ReadMode {
        if self.buffered.get() { ReadMode::Poll } else { ReadMode::Recv }
    }

    fn adopt_protocol(&self, user_protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = user_protocol.py();
        let buffered = user_protocol.is_instance(stdlib::buffered_protocol(py)?)?;
        self.buffered.set(buffered);
        self.protocol.set(Ref::from_borrowed(user_protocol));
        Ok(())
    }

    /// Whether the connection is over for writers: its loss is scheduled.
    pub(super) fn is_lost(&self) -> bool {
        self.loss_scheduled.get()
    }

    /// Schedules `connection_lost(error)`, once.
    pub(super) fn schedule_loss(slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<()> {
        let this = slf.get();
        if this.loss_scheduled.get() {
            return Ok(());
        }
        let home = this.home(slf.py())?;
        // On a closed loop nothing would ever run: say so, and let the descriptor go with us.
        home.get().check_open()?;
        this.loss_scheduled.set(true);
        home.get().push(Job::Method(Ref::from_borrowed(slf), super::events::lose));
        let told = this.sendfile.lost(slf.py(), error.as_ref());
        if let Some(error) = error {
            this.lost_error.set(error);
        }
        told
    }

    /// Ends the connection at once, dropping what was not sent.
    pub(super) fn force_close(slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<()> {
        let this = slf.get();
        if this.is_lost() {
            return Ok(());
        }
        let home = this.home(slf.py())?;
        let unsent = this.with_stream(&home, |stream, driver| stream.abort(driver));
        drop(unsent);
        Self::schedule_loss(slf, error)
    }

    /// A protocol or the kernel failed: report (kernel errors only in debug mode), then end.
    pub(super) fn fail(slf: &Bound<'_, Self>, err: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if crate::handle::is_fatal(py, &err) {
            return Err(err);
        }
        let this = slf.get();
        let home = this.home(py)?;
        let exception = err.into_value(py).into_bound(py);
        if exception.is_instance_of::<pyo3::exceptions::PyOSError>() {
            if home.get().debug() {
                let text = format!("{}: {message}", slf.repr()?);
                let info = pyo3::types::PyBool::new(py, true).to_owned().into_any();
                stdlib::log(py, "debug", &text, Some(info))?;
            }
        } else {
            let report = PyDict::new(py);
            report.set_item("message", message)?;
            report.set_item("exception", &exception)?;
            report.set_item("transport", slf)?;
            report.set_item("protocol", this.protocol.or_none(py))?;
            home.call_method1(intern!(py, "call_exception_handler"), (report,))?;
        }
        Self::force_close(slf, Some(Ref::new(exception)))
    }

    /// Tells the protocol to stop or go on writing; its failure is reported and changes nothing.
    pub(super) fn tell_flow(slf: &Bound<'_, Self>, pause: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
        let told = if pause {
            protocol::pause_writing(&user_protocol)
        } else {
            protocol::resume_writing(&user_protocol, this.context.get())
        };
        let Err(err) = told else { return Ok(()) };
        if crate::handle::is_fatal(py, &err) {
            return Err(err);
        }
        let name = if pause { "pause_writing" } else { "resume_writing" };
        let report = PyDict::new(py);
        report.set_item("message", format!("protocol.{name}() failed"))?;
        report.set_item("exception", err.into_value(py))?;
        report.set_item("transport", slf)?;
        report.set_item("protocol", user_protocol)?;
        this.home(py)?.call_method1(intern!(py, "call_exception_handler"), (report,))?;
        Ok(())
    }

    /// Writes after the connection is over are dropped; from the fifth on with a warning.
    fn drop_write(&self, py: Python<'_>) -> PyResult<()> {
        let count = self.writes_after_loss.get() + 1;
        self.writes_after_loss.set(count);
        if count >= SILENT_WRITES_AFTER_LOSS {
            stdlib::log(py, "warning", "socket.send() raised exception.", None)?;
        }
        Ok(())
    }

    /// What `write` and `writelines` check first; false: drop the data.
    fn may_write(&self, py: Python<'_>) -> PyResult<bool> {
        if self.stream.borrow().eof_requested() {
            return Err(PyRuntimeError::new_err("Cannot call write() after write_eof()"));
        }
        self.sendfile.refuse("write")?;
        if self.is_lost() || !self.connection.is_open() {
            self.drop_write(py)?;
            return Ok(false);
        }
        Ok(true)
    }

    #[inline]
    fn write_bytes(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if data.is_exact_instance_of::<PyBytes>() {
            if !this.may_write(py)? {
                return Ok(());
            }
            let home = this.home(py)?;
            let object = Ref::from_borrowed(data);
            let written = this.with_stream(&home, |stream, driver| {
                stream.write(driver, bytes_of(&object), |start| Chunk::Shared {
                    object: object.clone(),
                    start,
                })
            });
            return Self::wrote(slf, written);
        }
        let is_buffer = data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        if !is_buffer {
            return Err(PyTypeError::new_err(format!(
                "data argument must be a bytes-like object, not '{}'",
                data.get_type().name()?
            )));
        }
        if !this.may_write(py)? {
            return Ok(());
        }
        let contiguous = contiguous(data)?;
        let home = this.home(py)?;
        let written = this.with_stream(&home, |stream, driver| {
            let bytes = contiguous.bytes();
            // The caller may change its buffer as soon as we return.
            stream.write(driver, bytes, |start| Chunk::Owned(bytes[start..].into()))
        });
        drop(contiguous);
        Self::wrote(slf, written)
    }

    /// What a write did to the protocol's flow, or to the connection.
    #[inline]
    fn wrote(slf: &Bound<'_, Self>, written: std::io::Result<bool>) -> PyResult<()> {
        match written {
            Ok(false) => Ok(()),
            Ok(true) => Self::tell_flow(slf, true),
            Err(err) => {
                let err = crate::convert::os_error(slf.py(), err);
                Self::fail(slf, err, "Fatal write error on socket transport")
            }
        }
    }

    /// The end of `close()`.
    fn close_gently(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost() || !this.connection.is_open() {
            return Ok(());
        }
        let home = this.home(py)?;
        let finished = this.with_stream(&home, |stream, driver| stream.close(driver));
        if finished { Self::schedule_loss(slf, None) } else { Ok(()) }
    }
}

/// High and low water in bytes, from what a program gives: numbers of any size, or neither.
pub(super) fn water_marks(
    high: Option<&Bound<'_, PyAny>>,
    low: Option<&Bound<'_, PyAny>>,
) -> PyResult<(usize, usize)> {
    let number = |value: Option<&Bound<'_, PyAny>>| match value {
        Some(value) if !value.is_none() => value.extract::<f64>().map(Some),
        _ => Ok(None),
    };
    let (given_high, given_low) = (number(high)?, number(low)?);
    let high_water = given_high.unwrap_or_else(|| {
        given_low.map_or(oxloop_core::limits::WRITE_HIGH_WATER_BYTES as f64, |low| 4.0 * low)
    });
    let low_water = given_low.unwrap_or((high_water / 4.0).floor());
    if !(high_water >= low_water && low_water >= 0.0) {
        return Err(PyValueError::new_err(format!(
            "high ({high_water}) must be >= low ({low_water}) must be >= 0"
        )));
    }
    // Saturating: more bytes than there are addresses is simply never.
    Ok((high_water as usize, low_water as usize))
}

/// The bytes of `data` in one piece; what is not contiguous is copied first.
fn contiguous(data: &Bound<'_, PyAny>) -> PyResult<Exported> {
    match Exported::readable(data) {
        Ok(exported) => Ok(exported),
        Err(err) if data.is_instance_of::<PyMemoryView>() => {
            match data.call_method0(intern!(data.py(), "tobytes")) {
                Ok(copy) => Exported::readable(&copy),
                Err(_) => Err(err),
            }
        }
        Err(err) => Err(err),
    }
}

/// `write(data)`
pub fn write<'py>(slf: &Bound<'py, StreamTransport>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let mut data = args.get(0);
    args.keywords("write", |name, value| {
        let known = name == "data" && data.is_none();
        if known {
            data = Some(value);
        }
        known
    })?;
    args.expect("write", 0, 1)?;
    let Some(data) = data else {
        return Err(PyTypeError::new_err("write() missing 1 required positional argument: 'data'"));
    };
    StreamTransport::write_bytes(slf, data)?;
    Ok(none(slf.py()))
}

#[pymethods]
impl StreamTransport {
    /// Write every item of `list_of_data`, in order, with as few system calls as possible.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.stream.borrow().eof_requested() {
            return Err(PyRuntimeError::new_err("Cannot call writelines() after write_eof()"));
        }
        this.sendfile.refuse("writelines")?;
        let mut chunks = Vec::new();
        for item in list_of_data.try_iter()? {
            let item = item?;
            if item.is_exact_instance_of::<PyBytes>() {
                chunks.push(Chunk::Shared { object: Ref::new(item), start: 0 });
            } else {
                // As memoryview() would refuse what is no buffer.
                let exported = contiguous(&PyMemoryView::from(&item)?.into_any())?;
                chunks.push(Chunk::Owned(exported.bytes().into()));
            }
        }
        chunks.retain(|chunk| !chunk.as_ref().is_empty());
        if chunks.is_empty() || !this.may_write(py)? {
            return Ok(());
        }
        let home = this.home(py)?;
        let written = this.with_stream(&home, |stream, driver| stream.write_chunks(driver, chunks));
        Self::wrote(slf, written)
    }

    /// Close the write side once everything written is sent (half-close).
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost() || !this.connection.is_open() {
            return Ok(());
        }
        let home = this.home(py)?;
        let shut = this.with_stream(&home, |stream, driver| stream.write_eof(driver));
        shut.map_err(|err| crate::convert::os_error(py, err))
    }

    /// True: byte streams have half-close.
    fn can_write_eof(&self) -> bool {
        true
    }

    /// Stop reading, send what was written, then call `connection_lost(None)`.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_gently(slf)
    }

    /// Drop what was not sent and call `connection_lost(None)` soon.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        if !slf.get().connection.is_open() {
            return Ok(());
        }
        Self::force_close(slf, None)
    }

    #[pyo3(signature = (exc, /))]
    fn _force_close(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        if !slf.get().connection.is_open() {
            return Ok(());
        }
        let error = (!exc.is_none()).then(|| Ref::from_borrowed(exc));
        Self::force_close(slf, error)
    }

    /// True after `close()` or `abort()`, or when the connection is lost.
    fn is_closing(&self) -> bool {
        self.is_lost() || self.stream.borrow().is_closing() || !self.connection.is_open()
    }

    /// True while data is delivered: not paused and not closing.
    fn is_reading(&self) -> bool {
        let stream = self.stream.borrow();
        !self.is_lost() && !stream.is_closing() && !stream.is_paused() && self.connection.is_open()
    }

    /// Deliver no more data until `resume_reading()`; in force when this returns.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost() || !this.connection.is_open() {
            return Ok(());
        }
        let home = this.home(py)?;
        let changed = this.with_stream(&home, |stream, driver| stream.pause_reading(driver));
        if changed && home.get().debug() {
            stdlib::log(py, "debug", &format!("{} pauses reading", slf.repr()?), None)?;
        }
        Ok(())
    }

    /// Deliver data again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost() || !this.connection.is_open() {
            return Ok(());
        }
        let home = this.home(py)?;
        let resumed = this.with_stream(&home, |stream, driver| stream.resume_reading(driver));
        let changed = resumed.map_err(|err| crate::convert::os_error(py, err))?;
        if changed && home.get().debug() {
            stdlib::log(py, "debug", &format!("{} resumes reading", slf.repr()?), None)?;
        }
        Ok(())
    }

    /// Bytes that were written and not sent yet.
    fn get_write_buffer_size(&self) -> usize {
        self.stream.borrow().buffered_bytes()
    }

    /// `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.stream.borrow().limits()
    }

    /// Pause the protocol above `high` bytes, resume it at `low`.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (high, low) = water_marks(high, low)?;
        let change = slf.get().stream.borrow_mut().set_limits(high, low);
        if change.is_some() { Self::tell_flow(slf, true) } else { Ok(()) }
    }

    /// Replace the protocol; from now on it gets the data.
    fn set_protocol(slf: &Bound<'_, Self>, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.adopt_protocol(protocol)?;
        if this.connection.is_open() && !this.is_lost() {
            let home = this.home(py)?;
            let mode = this.read_mode();
            let set = this.with_stream(&home, |stream, driver| stream.set_read_mode(driver, mode));
            set.map_err(|err| crate::convert::os_error(py, err))?;
        }
        Ok(())
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.protocol.or_none(py)
    }

    /// `'socket'`, `'sockname'`, `'peername'`, or what the connection was made with.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        if let Some(extra) = self.extra.bound(py) {
            if let Some(found) = extra.cast_into::<PyDict>()?.get_item(name)? {
                return Ok(found);
            }
        }
        let found = match name.extract::<&str>() {
            Ok("socket") => self.connection.shown_socket(py)?,
            Ok("sockname") => self.connection.local_name(py)?,
            Ok("peername") => self.connection.peer_name(py)?,
            _ => return Ok(default),
        };
        Ok(if found.is_none() { default } else { found })
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let stream = this.stream.borrow();
        let mut parts = vec![slf.get_type().name()?.to_string()];
        if !this.connection.is_open() {
            parts.push("closed".into());
        } else {
            if stream.is_closing() || this.is_lost() {
                parts.push("closing".into());
            }
            parts.push(format!("fd={}", this.connection.fd()));
            let reading = stream.is_reading();
            parts.push(if reading { "read=polling".into() } else { "read=idle".into() });
            let waiting = stream.buffered_bytes();
            let state = if waiting > 0 { "polling" } else { "idle" };
            parts.push(format!("write=<{state}, bufsize={waiting}>"));
        }
        Ok(format!("<{}>", parts.join(" ")))
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(stdlib::asyncio_transport(slf.py())?.clone())
    }

    #[getter]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    #[getter]
    fn _sock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.connection.raw_socket(py)
    }

    #[getter]
    fn _sock_fd(&self) -> i32 {
        self.connection.fd()
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.or_none(py)
    }

    #[getter]
    fn _protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.protocol.or_none(py)
    }

    #[setter(_protocol)]
    fn replace_protocol(&self, protocol: &Bound<'_, PyAny>) {
        self.protocol.set(Ref::from_borrowed(protocol));
    }

    #[getter]
    fn _server<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.server.or_none(py)
    }

    #[getter]
    fn _closing(&self) -> bool {
        self.is_closing()
    }

    #[getter]
    fn _paused(&self) -> bool {
        self.stream.borrow().is_paused()
    }

    #[getter]
    fn _eof(&self) -> bool {
        self.stream.borrow().eof_requested()
    }

    #[getter]
    fn _conn_lost(&self) -> u32 {
        u32::from(self.is_lost()) + self.writes_after_loss.get()
    }

    #[getter]
    fn _extra<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let py = slf.py();
        let this = slf.get();
        let extra = match this.extra.bound(py) {
            Some(extra) => extra.cast_into::<PyDict>()?.copy()?,
            None => PyDict::new(py),
        };
        extra.set_item("socket", this.connection.shown_socket(py)?)?;
        extra.set_item("sockname", this.connection.local_name(py)?)?;
        extra.set_item("peername", this.connection.peer_name(py)?)?;
        Ok(extra)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.home,
            &self.protocol,
            &self.context,
            &self.server,
            &self.waiter,
            &self.extra,
            &self.lost_error,
        ] {
            slot.traverse(&visit)?;
        }
        self.sendfile.traverse(&visit)?;
        self.connection.traverse(&visit)
    }

    fn __clear__(&self) {
        let parts = (
            self.protocol.take(),
            self.context.take(),
            self.server.take(),
            self.waiter.take(),
            self.extra.take(),
            self.lost_error.take(),
            self.sendfile.take_waiter(),
        );
        drop(parts);
    }
}

impl Finalize for StreamTransport {
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        object.get().connection.is_open()
    }

    /// Nobody closed it: say so, and close the descriptor.
    fn finalize(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        if !this.connection.is_open() {
            return;
        }
        let warn = || -> PyResult<()> {
            let kwargs = PyDict::new(py);
            kwargs.set_item("source", slf)?;
            let category = py.get_type::<pyo3::exceptions::PyResourceWarning>();
            let text = format!("unclosed transport {}", slf.repr()?);
            stdlib::warn(py)?.call((text, category), Some(&kwargs)).map(drop)
        };
        if let Err(err) = warn() {
            err.write_unraisable(py, None);
        }
        if let Ok(home) = this.home(py) {
            if !home.get().is_closed_now() && !home.get().is_foreign_process() {
                let token = this.stream.borrow().token();
                home.get().disclaim(this.connection.fd(), token);
                drop(home.get().core().remove_source(token));
            }
        }
        if let Err(err) = this.connection.release(py) {
            err.write_unraisable(py, None);
        }
        if let Some(server) = this.server.take() {
            if let Err(err) = server.bind(py).call_method1(intern!(py, "_detach"), (slf,)) {
                err.write_unraisable(py, None);
            }
        }
    }
}

#[pymethods]
impl EventLoop {
    /// Take over a connected, non-blocking socket: schedules `protocol.connection_made(transport)`,
    /// starts reading after it, then resolves `waiter`.
    #[pyo3(signature = (sock, protocol, waiter = None, *, extra = None, server = None))]
    fn _make_stream_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
        server: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, StreamTransport>> {
        let py = slf.py();
        slf.get().check_open()?;
        let keep = |object: Option<&Bound<'py, PyAny>>| {
            object.filter(|object| !object.is_none()).map(Ref::from_borrowed)
        };
        let extra = match keep(extra) {
            // A copy: the transport's own.
            Some(extra) => Some(Ref::new(extra.bind(py).cast::<PyDict>()?.copy()?)),
            None => None,
        };
        let connection = Connection::adopted(sock)?;
        let context = context::copy_current(py)?;
        StreamTransport::open(slf, connection, protocol, context, keep(waiter), extra, keep(server))
    }
}
