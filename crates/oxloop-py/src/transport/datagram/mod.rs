//! The `DatagramTransport` class: UDP, Unix datagrams, and whatever else has messages.
//!
//! | file         | subject                                                             |
//! |--------------|---------------------------------------------------------------------|
//! | `mod.rs`     | the class and its public methods                                     |
//! | `sending.rs` | `sendto`: at once, or queued; flow control                           |
//! | `events.rs`  | what the driver's completions mean for the protocol                  |
//! | `address.rs` | addresses, from Python's form to the kernel's and back               |
//!
//! Facts: a datagram transport has no end of stream and survives errors; each datagram stands for
//! itself. Empty datagrams are sent from Python 3.13 on and were dropped before; from then on each
//! queued datagram also counts 8 bytes for its header.
//! Decision: one system call per datagram. A batch (recvmmsg) would take out of the kernel what a
//! pause or a close in the first callback must leave there.
//! Law: `connection_lost` is scheduled, never called from inside `sendto()` or `close()`; nothing is
//! delivered after `pause_reading()` or `close()` have returned.
//! What can still go wrong: a program that never pauses fills the queue without bound, as the
//! limits only tell the protocol.
//! Source of behaviour: CPython `Lib/asyncio/selector_events.py`, `Lib/asyncio/transports.py`.

mod address;
mod events;
mod sending;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use oxloop_core::{Driver as _, Side, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::fd::Connection;
use super::limits::water_marks;
use super::reports;
use crate::event_loop::{EventLoop, Job, Source};
use crate::ffi::class::Finalize;
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, context};
use crate::{convert, stdlib};
use address::{Family, LastSender};
use sending::Datagram;

/// What a queued datagram counts besides its payload, from Python 3.13 on.
const HEADER_BYTES: usize = 8;

/// A datagram socket in the hands of a protocol. Made by the loop.
#[pyclass(frozen, weakref, module = "oxloop", name = "DatagramTransport")]
pub struct DatagramTransport {
    home: Slot,
    protocol: Slot,
    context: Slot,
    waiter: Slot,
    extra: Slot,
    lost_error: Slot,
    /// The only address that datagrams may go to, if one was fixed.
    remote: Slot,
    token: Cell<Token>,
    connection: Connection,
    family: Family,
    is_connected: bool,
    skips_empty: bool,
    header_bytes: usize,
    queue: RefCell<VecDeque<Datagram>>,
    buffered_bytes: Cell<usize>,
    high_water_bytes: Cell<usize>,
    low_water_bytes: Cell<usize>,
    protocol_paused: Cell<bool>,
    /// `connection_made` was called.
    started: Cell<bool>,
    reading_paused: Cell<bool>,
    closing: Cell<bool>,
    loss_scheduled: Cell<bool>,
    datagrams_after_loss: Cell<u32>,
    last_sender: RefCell<Option<LastSender>>,
}

attached_only!(DatagramTransport);

impl DatagramTransport {
    fn open<'py>(
        home: &Bound<'py, EventLoop>,
        sock: &Bound<'py, PyAny>,
        user_protocol: &Bound<'py, PyAny>,
        remote: Option<Ref>,
        waiter: Option<Ref>,
        extra: Option<Ref>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = home.py();
        let family = Family::of(sock)?;
        let own_context = context::copy_current(py)?;
        let connection = Connection::adopted(sock)?;
        let is_connected = !connection.peer_name(py)?.is_none();
        let fd = connection.fd();
        let slot = |value: Option<Ref>| value.map_or_else(Slot::empty, Slot::holding);
        let counts_headers = stdlib::at_least(py, 13);
        // The token exists only once the object does.
        let transport = Bound::new(
            py,
            Self {
                home: Slot::holding(Ref::from_borrowed(home)),
                protocol: Slot::holding(Ref::from_borrowed(user_protocol)),
                context: Slot::holding(own_context),
                waiter: slot(waiter),
                extra: slot(extra),
                lost_error: Slot::empty(),
                remote: slot(remote),
                token: Cell::new(Token::from_u64(0)),
                connection,
                family,
                is_connected,
                skips_empty: !counts_headers,
                header_bytes: if counts_headers { HEADER_BYTES } else { 0 },
                queue: RefCell::default(),
                buffered_bytes: Cell::new(0),
                high_water_bytes: Cell::new(oxloop_core::limits::WRITE_HIGH_WATER_BYTES),
                low_water_bytes: Cell::new(oxloop_core::limits::WRITE_LOW_WATER_BYTES),
                protocol_paused: Cell::new(false),
                started: Cell::new(false),
                reading_paused: Cell::new(false),
                closing: Cell::new(false),
                loss_scheduled: Cell::new(false),
                datagrams_after_loss: Cell::new(0),
                last_sender: RefCell::new(None),
            },
        )?;
        let source =
            Source { object: Ref::from_borrowed(&transport), completed: events::completed };
        let token =
            home.get().core().add_source(fd, source).map_err(|err| convert::os_error(py, err))?;
        home.get().claim(py, fd, token);
        transport.get().token.set(token);
        home.get().push(Job::Method(Ref::from_borrowed(&transport), events::begin));
        Ok(transport)
    }

    fn home<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EventLoop>> {
        let home = self.home.bound(py).ok_or_else(|| {
            PyRuntimeError::new_err("the transport is closed and its event loop let go")
        })?;
        Ok(home.cast_into::<EventLoop>()?)
    }

    /// The end is scheduled.
    fn is_lost(&self) -> bool {
        self.loss_scheduled.get()
    }

    /// Not paused and not closing.
    fn wants_datagrams(&self) -> bool {
        !self.closing.get() && !self.reading_paused.get() && self.connection.is_open()
    }

    /// The driver and the loop forget the descriptor.
    fn forget_source(&self, home: &Bound<'_, EventLoop>) {
        let token = self.token.get();
        home.get().disclaim(self.connection.fd(), token);
        drop(home.get().core().remove_source(token));
    }

    /// The loop is closed and can run nothing for us: lets go of everything, then says so.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        let home = self.home(py)?;
        self.closing.set(true);
        self.loss_scheduled.set(true);
        let unsent = self.queue.take();
        self.buffered_bytes.set(0);
        drop(unsent);
        let closed = self.connection.release(py);
        let parts =
            (self.protocol.take(), self.context.take(), self.home.take(), self.waiter.take());
        drop(parts);
        closed.and(home.get().check_open())
    }

    /// Schedules `connection_lost(error)`, once.
    fn schedule_loss(slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<()> {
        let this = slf.get();
        if this.loss_scheduled.replace(true) {
            return Ok(());
        }
        if let Some(error) = error {
            this.lost_error.set(error);
        }
        let home = this.home(slf.py())?;
        home.get().push(Job::Method(Ref::from_borrowed(slf), events::lose));
        Ok(())
    }

    /// Ends the transport at once, dropping what was not sent.
    fn force_close(slf: &Bound<'_, Self>, error: Option<Ref>) -> PyResult<()> {
        let this = slf.get();
        if this.is_lost() {
            return Ok(());
        }
        this.closing.set(true);
        let home = this.home(slf.py())?;
        if home.get().is_closed_now() {
            return this.abandon(slf.py());
        }
        {
            let mut driver = home.get().core().driver.borrow_mut();
            let sides = [Side::Read, Side::Write];
            drop(sides.map(|side| driver.cancel(this.token.get(), side)));
        }
        let unsent = this.queue.take();
        this.buffered_bytes.set(0);
        drop(unsent);
        Self::schedule_loss(slf, error)
    }

    /// Reports an error to the exception handler.
    fn report(slf: &Bound<'_, Self>, err: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let user_protocol = this.protocol.or_none(py);
        let home = this.home(py)?;
        let exception = error::instance(py, err);
        reports::report(&home, slf.as_any(), &user_protocol, &exception, message)
    }

    /// Something failed for good: report (kernel errors only in debug mode), then end.
    fn fail(slf: &Bound<'_, Self>, err: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if crate::handle::is_fatal(py, &err) {
            return Err(err);
        }
        let exception = Ref::from_borrowed(err.value(py));
        if err.is_instance_of::<pyo3::exceptions::PyOSError>(py) {
            if slf.get().home(py)?.get().debug() {
                let text = format!("{}: {message}", slf.repr()?);
                stdlib::log(py, "debug", &text, Some(exception.bind(py).clone()))?;
            }
        } else {
            Self::report(slf, err, message)?;
        }
        Self::force_close(slf, Some(exception))
    }
}

#[pymethods]
impl DatagramTransport {
    /// Send `data` to `addr`, or to the remote address if one was given when this was made; what
    /// the socket does not take at once is queued. An OSError goes to `protocol.error_received`.
    #[pyo3(signature = (data, addr = None))]
    fn sendto<'py>(
        slf: &Bound<'py, Self>,
        data: &Bound<'py, PyAny>,
        addr: Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let addr = addr.unwrap_or_else(|| slf.py().None().into_bound(slf.py()));
        Self::send(slf, data, &addr)
    }

    /// Stop reading, send what is queued, then call `connection_lost(None)`.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.closing.replace(true) {
            return Ok(());
        }
        let home = this.home(slf.py())?;
        if home.get().is_closed_now() {
            return this.abandon(slf.py());
        }
        drop(home.get().core().driver.borrow_mut().cancel(this.token.get(), Side::Read));
        let is_drained = this.queue.borrow().is_empty();
        if is_drained { Self::schedule_loss(slf, None) } else { Ok(()) }
    }

    /// Drop what is queued and call `connection_lost(None)` soon.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::force_close(slf, None)
    }

    #[pyo3(signature = (exc, /))]
    fn _force_close(slf: &Bound<'_, Self>, exc: &Bound<'_, PyAny>) -> PyResult<()> {
        let error = (!exc.is_none()).then(|| Ref::from_borrowed(exc));
        Self::force_close(slf, error)
    }

    /// True after `close()` or `abort()`.
    fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// True while datagrams are delivered: not paused and not closing.
    fn is_reading(&self) -> bool {
        self.wants_datagrams()
    }

    /// Deliver no more datagrams until `resume_reading()`; in force when this returns.
    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.wants_datagrams() {
            return Ok(());
        }
        this.reading_paused.set(true);
        let home = this.home(py)?;
        drop(home.get().core().driver.borrow_mut().cancel(this.token.get(), Side::Read));
        if home.get().debug() {
            stdlib::log(py, "debug", &format!("{} pauses reading", slf.repr()?), None)?;
        }
        Ok(())
    }

    /// Deliver datagrams again.
    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.closing.get() || !this.reading_paused.replace(false) {
            return Ok(());
        }
        events::arm(slf)?;
        if this.home(py)?.get().debug() {
            stdlib::log(py, "debug", &format!("{} resumes reading", slf.repr()?), None)?;
        }
        Ok(())
    }

    /// Bytes that are queued; from Python 3.13 on with 8 bytes for each datagram's header.
    fn get_write_buffer_size(&self) -> usize {
        self.buffered_bytes.get()
    }

    /// `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        (self.low_water_bytes.get(), self.high_water_bytes.get())
    }

    /// Pause the protocol above `high` bytes, resume it at `low`.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (high, low) = water_marks(high, low)?;
        let this = slf.get();
        this.high_water_bytes.set(high);
        this.low_water_bytes.set(low);
        Self::pause_if_above_high(slf)
    }

    /// Replace the protocol; from now on it gets the datagrams.
    fn set_protocol(&self, protocol: &Bound<'_, PyAny>) {
        self.protocol.set(Ref::from_borrowed(protocol));
    }

    /// The protocol; None once the transport is closed.
    fn get_protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.protocol.or_none(py)
    }

    /// `'socket'`, `'sockname'`, `'peername'`, or what the transport was made with.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let extra = self._extra(py)?;
        let default = default.unwrap_or_else(|| py.None().into_bound(py));
        Ok(extra.get_item(name)?.unwrap_or(default))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let mut parts = vec![slf.get_type().name()?.to_string()];
        if !this.connection.is_open() {
            parts.push("closed".into());
        } else {
            if this.closing.get() {
                parts.push("closing".into());
            }
            parts.push(format!("fd={}", this.connection.fd()));
            let reading = this.started.get() && this.wants_datagrams();
            parts.push(format!("read={}", if reading { "polling" } else { "idle" }));
            let state = if this.queue.borrow().is_empty() { "idle" } else { "polling" };
            parts.push(format!("write=<{state}, bufsize={}>", this.buffered_bytes.get()));
        }
        Ok(format!("<{}>", parts.join(" ")))
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(shown_class(slf.py())?.clone())
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

    #[getter]
    fn _address<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.remote.or_none(py)
    }

    #[getter]
    fn _conn_lost(&self) -> u32 {
        u32::from(self.is_lost()) + self.datagrams_after_loss.get()
    }

    #[getter]
    fn _extra<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let extra = PyDict::new(py);
        extra.set_item("peername", self.connection.peer_name(py)?)?;
        if let Some(given) = self.extra.bound(py) {
            extra.update(given.cast_into::<PyDict>()?.as_mapping())?;
        }
        extra.set_item("socket", self.connection.shown_socket(py)?)?;
        extra.set_item("sockname", self.connection.local_name(py)?)?;
        Ok(extra)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.home,
            &self.protocol,
            &self.context,
            &self.waiter,
            &self.extra,
            &self.lost_error,
            &self.remote,
        ] {
            slot.traverse(&visit)?;
        }
        self.connection.traverse(&visit)
    }

    fn __clear__(&self) {
        let parts = (
            self.protocol.take(),
            self.context.take(),
            self.waiter.take(),
            self.extra.take(),
            self.lost_error.take(),
        );
        drop(parts);
    }
}

/// The class that instances say they are: both `asyncio.Transport` and `asyncio.DatagramTransport`.
/// asyncio's own are the former in all versions and the latter from 3.13 on; programs test for
/// either.
fn shown_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS
        .get_or_try_init(py, || {
            let bases = (stdlib::asyncio_transport(py)?, stdlib::asyncio_datagram_transport(py)?);
            let names = PyDict::new(py);
            names.set_item("__module__", "oxloop")?;
            names.set_item("__slots__", ())?;
            let class = py.get_type::<PyType>().call1(("DatagramTransport", bases, names))?;
            Ok::<_, PyErr>(class.unbind())
        })
        .map(|class| class.bind(py))
}

impl Finalize for DatagramTransport {
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
        reports::warn_unclosed(slf.as_any());
        if let Ok(home) = this.home(py) {
            if !home.get().is_closed_now() && !home.get().is_foreign_process() {
                this.forget_source(&home);
            }
        }
        if let Err(err) = this.connection.release(py) {
            err.write_unraisable(py, None);
        }
    }
}

#[pymethods]
impl EventLoop {
    /// Take over a non-blocking datagram socket: schedules `protocol.connection_made(transport)`,
    /// starts reading after it, then resolves `waiter`. With `address` datagrams go there only.
    #[pyo3(signature = (sock, protocol, address = None, waiter = None, extra = None))]
    fn _make_datagram_transport<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        address: Option<&Bound<'py, PyAny>>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, DatagramTransport>> {
        let py = slf.py();
        slf.get().check_open()?;
        let extra = match extra {
            // A copy: the transport's own.
            Some(extra) => Some(Ref::new(extra.cast::<PyDict>()?.copy()?)),
            None => None,
        };
        let remote = match address {
            Some(address) if address.is_truthy()? => Some(Ref::from_borrowed(address)),
            _ => None,
        };
        let fd = sock.call_method0(intern!(py, "fileno"))?.extract()?;
        slf.get().ensure_no_transport(py, fd)?;
        let waiter = waiter.map(Ref::from_borrowed);
        DatagramTransport::open(slf, sock, protocol, remote, waiter, extra)
    }
}
