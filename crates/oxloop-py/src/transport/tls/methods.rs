//! The methods and attributes of `TlsTransport` as Python sees them, writing apart.

use oxloop_core::tls::{Marks, Phase};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::below::Below;
use super::ends::Side;
use super::{Options, TlsTransport, events};
use crate::event_loop::EventLoop;
use crate::ffi::Ref;
use crate::stdlib;
use crate::transport::limits::water_marks_or;

impl TlsTransport {
    pub(super) fn close_gently(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closed.replace(true) {
            this.forgotten.set(true);
            this.forget();
            return Ok(());
        }
        this.session.close(&Side(slf))
    }

    pub(super) fn force_close(slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<()> {
        let this = slf.get();
        this.closed.set(true);
        let error = error.map(|error| PyErr::from_value(error.into_bound(slf.py())));
        this.session.abort(&Side(slf), error)
    }

    pub(super) fn pause(slf: &Bound<'_, Self>, pause: bool) {
        let session = &slf.get().session;
        if pause { session.pause_reading() } else { session.resume_reading(&Side(slf)) }
    }

    pub(super) fn is_closing_now(&self) -> bool {
        self.closed.get()
    }
}

#[pymethods]
impl TlsTransport {
    /// Deliver what has come, send what was written, shut TLS down, then `connection_lost(None)`.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_gently(slf)
    }

    /// Drop what was not sent and call `connection_lost(None)` soon.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, None)
    }

    #[pyo3(signature = (exc, /))]
    fn _force_close(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::force_close(slf, (!exc.is_none()).then(|| Ref::from_borrowed(exc)))
    }

    /// True after `close()` or `abort()`, or when the connection is lost or about to be.
    fn is_closing(&self, py: Python<'_>) -> bool {
        self.closed.get() || Below::of(py, &self.below).is_some_and(|below| below.is_closing())
    }

    /// True unless reading is paused.
    fn is_reading(&self) -> bool {
        !self.session.reading_paused()
    }

    /// Deliver no more data until `resume_reading()`; in force when this returns.
    fn pause_reading(slf: &Bound<'_, Self>) {
        Self::pause(slf, true);
    }

    /// Deliver data again.
    fn resume_reading(slf: &Bound<'_, Self>) {
        Self::pause(slf, false);
    }

    /// Replace the protocol; from now on it gets the data.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.adopt_protocol(protocol)
    }

    /// The protocol; None once the connection is lost.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.protocol.or_none(py)
    }

    /// `'sslcontext'`; after the handshake `'peercert'`, `'cipher'`, `'compression'` and
    /// `'ssl_object'`; the rest is asked of the transport below.
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
        match self.below.bound(py) {
            Some(below) => below.call_method1(intern!(py, "get_extra_info"), (name, default)),
            None => Ok(default),
        }
    }

    /// Bytes that were written and that the transport below was not given.
    fn get_write_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.backlog_bytes.get() + self.engine.outgoing_bytes(py)?)
    }

    /// `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        let marks = self.session.write_marks();
        (marks.low_bytes, marks.high_bytes)
    }

    /// Pause the protocol at `high` bytes, resume it at `low`.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let default = oxloop_core::limits::TLS_WRITE_HIGH_WATER_BYTES;
        let (high_bytes, low_bytes) = water_marks_or(high, low, default)?;
        slf.get().session.set_write_marks(&Side(slf), Marks { high_bytes, low_bytes })
    }

    /// Bytes that came and that TLS has not looked at.
    fn get_read_buffer_size(&self, py: Python<'_>) -> PyResult<usize> {
        self.engine.incoming_bytes(py)
    }

    /// `(low, high)` in bytes.
    fn get_read_buffer_limits(&self) -> (usize, usize) {
        let marks = self.session.read_marks();
        (marks.low_bytes, marks.high_bytes)
    }

    /// Pause the transport below at `high` bytes, resume it at `low`.
    #[pyo3(signature = (high = None, low = None))]
    fn set_read_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let default = oxloop_core::limits::TLS_READ_HIGH_WATER_BYTES;
        let (high_bytes, low_bytes) = water_marks_or(high, low, default)?;
        slf.get().session.set_read_marks(&Side(slf), Marks { high_bytes, low_bytes })
    }

    fn __repr__(&self) -> String {
        let phase = match self.session.phase() {
            Phase::Unwrapped if self.closed.get() => "closed",
            Phase::Unwrapped => "unwrapped",
            Phase::Handshake => "handshake",
            Phase::Wrapped => "wrapped",
            Phase::Flushing => "flushing",
            Phase::Shutdown => "shutdown",
        };
        format!("<TlsTransport {phase}>")
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(stdlib::asyncio_ssl_transport(slf.py())?.clone())
    }

    #[getter]
    fn _start_tls_compatible(&self) -> bool {
        true
    }

    /// Files are read and written: the kernel does not know the keys.
    #[getter]
    fn _sendfile_compatible<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let constants = slf.py().import("asyncio.constants")?;
        constants.getattr("_SendfileMode")?.getattr("FALLBACK")
    }

    #[getter]
    fn _protocol_paused(&self) -> bool {
        self.session.writing_paused()
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.or_none(py)
    }

    /// asyncio has an object between the transports; here it is this one.
    #[getter]
    fn _ssl_protocol<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.below.or_none(py)
    }

    #[getter]
    fn _sslobj<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.engine.object(py)
    }

    /// True while data goes past the methods of `ssl` to the library below them.
    #[getter]
    fn _is_direct(&self) -> bool {
        self.engine.is_direct()
    }

    /// Begin the handshake over `transport`, whose protocol this is.
    #[pyo3(signature = (transport, /))]
    fn _begin(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        events::begin(slf, transport)
    }

    /// Take bytes that came before the beginning.
    #[pyo3(signature = (data, /))]
    fn _feed_early(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        self.engine.feed(data)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.home,
            &self.below,
            &self.protocol,
            &self.context,
            &self.waiter,
            &self.extra,
            &self.lost_error,
            &self.handshake_timeout,
            &self.shutdown_timeout,
            &self.handshake_timer,
            &self.shutdown_timer,
        ] {
            slot.traverse(&visit)?;
        }
        if let Ok(backlog) = self.backlog.try_borrow() {
            backlog.iter().try_for_each(|(data, _)| data.traverse(&visit))?;
        }
        self.engine.traverse(&visit)
    }

    fn __clear__(&self) {
        let parts = (
            self.below.take(),
            self.protocol.take(),
            self.context.take(),
            self.waiter.take(),
            self.extra.take(),
            self.lost_error.take(),
            self.handshake_timer.take(),
            self.shutdown_timer.take(),
        );
        drop(parts);
        self.engine.release();
    }
}

#[pymethods]
impl EventLoop {
    /// The transport that `protocol` will see of a TLS connection. Given to a stream transport as
    /// its protocol, it shakes hands, calls `connection_made`, and resolves `waiter`.
    #[pyo3(signature = (
        protocol, sslcontext, waiter = None, *, server_side = false, server_hostname = None,
        ssl_handshake_timeout = None, ssl_shutdown_timeout = None, call_connection_made = true
    ))]
    #[allow(clippy::too_many_arguments)]
    fn _make_tls_transport<'py>(
        slf: &Bound<'py, Self>,
        protocol: &Bound<'py, PyAny>,
        sslcontext: Option<&Bound<'py, PyAny>>,
        waiter: Option<&Bound<'py, PyAny>>,
        server_side: bool,
        server_hostname: Option<&Bound<'py, PyAny>>,
        ssl_handshake_timeout: Option<&Bound<'py, PyAny>>,
        ssl_shutdown_timeout: Option<&Bound<'py, PyAny>>,
        call_connection_made: bool,
    ) -> PyResult<Bound<'py, TlsTransport>> {
        let options = Options {
            server_side,
            server_hostname,
            handshake_timeout: ssl_handshake_timeout,
            shutdown_timeout: ssl_shutdown_timeout,
            tell_protocol: call_connection_made,
        };
        TlsTransport::new(slf, protocol, sslcontext, waiter.map(Ref::from_borrowed), &options)
    }
}
