//! The `StreamTransport` class: what a protocol may ask of its connection.
//!
//! Law: `connection_lost` is scheduled, never called from inside `write()` or `close()`; nothing is
//! delivered after `pause_reading()` or `close()` have returned.
//! Source of behaviour: CPython `Lib/asyncio/selector_events.py`, `Lib/asyncio/transports.py`.

use std::cell::{Cell, RefCell};

use oxloop_core::{ReadMode, Stream};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;

use super::fd::Connection;
use super::reports;
use super::sendfile::Sendfile;
use super::tls::{self, TlsTransport};
use crate::event_loop::{Chunk, EventLoop, Job, Source};
use crate::ffi::class::Finalize;
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};
use crate::{protocol, stdlib};

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
    /// The last receive was large: the next one goes into an object of its own (`large.rs`).
    pub(super) receives_large: Cell<bool>,
    /// The protocol is a native TLS transport, which is called without Python.
    pub(super) carries_tls: Cell<bool>,
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
                receives_large: Cell::new(false),
                carries_tls: Cell::new(false),
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

    #[inline]
    pub(super) fn home<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EventLoop>> {
        match self.home.get() {
            // Only `open` fills the slot, with an `EventLoop`.
            Some(home) => Ok(home.bind_as::<EventLoop>(py).clone()),
            None => {
                Err(PyRuntimeError::new_err("the transport is closed and its event loop let go"))
            }
        }
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
        if self.buffered.get() || self.receives_large.get() {
            ReadMode::Poll
        } else {
            ReadMode::Recv
        }
    }

    pub(super) fn adopt_protocol(&self, user_protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = user_protocol.py();
        let buffered = user_protocol.is_instance(stdlib::buffered_protocol(py)?)?;
        self.buffered.set(buffered);
        self.receives_large.set(false);
        self.carries_tls.set(user_protocol.is_exact_instance_of::<TlsTransport>());
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
        let exception = error::instance(py, err);
        if exception.is_instance_of::<pyo3::exceptions::PyOSError>() {
            if home.get().debug() {
                let text = format!("{}: {message}", slf.repr()?);
                // The exception itself: it is not the one being handled.
                stdlib::log(py, "debug", &text, Some(exception.clone().into_any()))?;
            }
        } else {
            let user_protocol = this.protocol.or_none(py);
            reports::report(&home, slf.as_any(), &user_protocol, &exception, message)?;
        }
        Self::force_close(slf, Some(Ref::new(exception)))
    }

    /// Tells the protocol to stop or go on writing; its failure is reported and changes nothing.
    pub(super) fn tell_flow(slf: &Bound<'_, Self>, pause: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
        let told = if this.carries_tls.get() {
            let tls = user_protocol.cast::<TlsTransport>()?;
            // A pause comes from inside a write, in whatever context that is.
            let context = if pause { None } else { this.context.get() };
            protocol::within(py, context, || tls::events::flow(tls, pause))
        } else if pause {
            protocol::pause_writing(&user_protocol)
        } else {
            protocol::resume_writing(&user_protocol, this.context.get())
        };
        reports::flow_told(told, pause, || this.home(py), slf.as_any(), &user_protocol)
    }

    /// The end of `close()`.
    pub(super) fn close_gently(slf: &Bound<'_, Self>) -> PyResult<()> {
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
        reports::warn_unclosed(slf.as_any());
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
