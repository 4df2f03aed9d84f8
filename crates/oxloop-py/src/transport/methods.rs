//! The methods and attributes of `StreamTransport` as Python sees them, writing apart.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::fd::Connection;
use super::stream::StreamTransport;
use crate::event_loop::EventLoop;
use crate::ffi::{Ref, context};
use crate::stdlib;

impl StreamTransport {
    /// `pause_reading()`
    pub(super) fn pause(slf: &Bound<'_, Self>) -> PyResult<()> {
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

    /// `resume_reading()`
    pub(super) fn resume(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost() || !this.connection.is_open() {
            return Ok(());
        }
        let home = this.home(py)?;
        let resumed = this.with_stream(&home, |stream, driver| stream.resume_reading(driver));
        let changed = match resumed {
            Ok(changed) => changed,
            Err(err) => {
                home.get().check_open()?;
                return Err(crate::convert::os_error(py, err));
            }
        };
        if changed && home.get().debug() {
            stdlib::log(py, "debug", &format!("{} resumes reading", slf.repr()?), None)?;
        }
        Ok(())
    }
}

#[pymethods]
impl StreamTransport {
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
    pub fn is_closing(&self) -> bool {
        self.is_lost() || self.stream.borrow().is_closing() || !self.connection.is_open()
    }

    /// True while data is delivered: not paused and not closing.
    fn is_reading(&self) -> bool {
        let stream = self.stream.borrow();
        !self.is_lost() && !stream.is_closing() && !stream.is_paused() && self.connection.is_open()
    }

    /// Deliver no more data until `resume_reading()`; in force when this returns.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::pause(slf)
    }

    /// Deliver data again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::resume(slf)
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
