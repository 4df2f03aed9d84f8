//! What both ends of a pipe have in common: whose the descriptor is, how a transport begins and ends.
//!
//! Facts: the user's object (a file, a socket) owns the descriptor, and a descriptor that is closed
//! twice takes another thread's connection away. epoll knows a number once, yet programs make a
//! read transport and a write transport of one terminal or serial line. `fork()` leaves parent and
//! child with one and the same epoll set.
//! Decision: a pipe is closed through the user's object, once, after the driver has let go of the
//! number. Where the number is known to the loop already, the second transport works on a duplicate
//! of its own. On a loop that is closed, or the parent's, nothing can be scheduled any more: then
//! the pipe is closed at once, the protocol hears nothing, and the kernel's set is not touched.
//! What can still go wrong: a user who closes the object while the transport lives takes the number
//! away by force; reads and writes then hit what the kernel gave it to.
//! Source of behaviour: CPython `Lib/asyncio/unix_events.py`.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use oxloop_core::sys::fd::{self, Kind};
use oxloop_core::{Outcome, ReadMode, Stream, Token};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::fd::{hold, unhold};
use super::{ReadPipeTransport, WritePipeTransport, reports};
use crate::convert;
use crate::event_loop::{Chunk, Driver, EventLoop, Job, Source};
use crate::ffi::error;
use crate::ffi::{Ref, Slot, context};
use crate::{protocol, stdlib};

/// One end of a pipe, as a transport holds it.
pub struct PipeEnd {
    pub(super) home: Slot,
    pub(super) protocol: Slot,
    pub(super) context: Slot,
    /// The user's object; empty once it is closed.
    pub(super) pipe: Slot,
    waiter: Slot,
    extra: Slot,
    lost_error: Slot,
    pub(super) stream: RefCell<Stream<Chunk>>,
    fd: RawFd,
    duplicate: RefCell<Option<OwnedFd>>,
    /// How the descriptor is watched for reading, or for the other end's going away.
    watch: Option<ReadMode>,
    loss_scheduled: Cell<bool>,
}

impl PipeEnd {
    /// Looks at `pipe` and makes it non-blocking; `watch` says how each kind is watched.
    ///
    /// # Errors
    /// ValueError with `refusal` for what is no pipe, socket or character device; OSError;
    /// AttributeError for what is no protocol, and the pipe is closed then.
    pub fn adopt(
        home: &Bound<'_, EventLoop>,
        pipe: &Bound<'_, PyAny>,
        user_protocol: &Bound<'_, PyAny>,
        waiter: Option<Ref>,
        extra: Option<&Bound<'_, PyDict>>,
        refusal: &'static str,
        watch: impl FnOnce(Kind) -> Option<ReadMode>,
    ) -> PyResult<Self> {
        let py = home.py();
        let number = pipe.call_method0(intern!(py, "fileno"))?.extract::<RawFd>()?;
        let kind = fd::kind(number).map_err(|err| convert::os_error(py, err))?;
        if kind == Kind::Other {
            return Err(PyValueError::new_err(refusal));
        }
        fd::set_nonblocking(number, true).map_err(|err| convert::os_error(py, err))?;
        // Looked up here, as in asyncio: what is no protocol gets no transport, and the pipe is closed.
        if let Err(err) = user_protocol.getattr(intern!(py, "connection_made")) {
            if let Err(err) = pipe.call_method0(intern!(py, "close")) {
                err.write_unraisable(py, Some(pipe));
            }
            return Err(err);
        }
        let duplicate = match home.get().is_claimed(number) {
            true => Some(fd::duplicate(number).map_err(|err| convert::os_error(py, err))?),
            false => None,
        };
        let all_extra = match extra {
            Some(extra) => extra.copy()?,
            None => PyDict::new(py),
        };
        all_extra.set_item("pipe", pipe)?;
        let connection_context = context::copy_current(py)?;
        Ok(Self {
            home: Slot::holding(Ref::from_borrowed(home)),
            protocol: Slot::holding(Ref::from_borrowed(user_protocol)),
            context: Slot::holding(connection_context),
            pipe: Slot::holding(Ref::from_borrowed(pipe)),
            waiter: waiter.map_or_else(Slot::empty, Slot::holding),
            extra: Slot::holding(Ref::new(all_extra)),
            lost_error: Slot::empty(),
            // The token exists only once the transport does.
            stream: RefCell::new(Stream::new(Token::from_u64(0))),
            fd: duplicate.as_ref().map_or(number, OwnedFd::as_raw_fd),
            duplicate: RefCell::new(duplicate),
            watch: watch(kind),
            loss_scheduled: Cell::new(false),
        })
    }

    /// Makes the transport `object` known to the loop and schedules its `connection_made`.
    pub fn attach(
        &self,
        object: &Bound<'_, PyAny>,
        completed: fn(&Bound<'_, PyAny>, Outcome<Chunk>) -> PyResult<()>,
    ) -> PyResult<()> {
        let py = object.py();
        let home = self.home(py)?;
        let core = home.get().core();
        let source = Source { object: Ref::from_borrowed(object), completed };
        let token = core.add_source(self.fd, source).map_err(|err| {
            // Not ours after all: the caller keeps the pipe.
            drop(self.pipe.take());
            convert::os_error(py, err)
        })?;
        home.get().claim(py, self.fd, token);
        *self.stream.borrow_mut() = Stream::new(token);
        if let Some(pipe) = self.pipe.bound(py) {
            hold(&pipe)?;
        }
        home.get().push(Job::Method(Ref::from_borrowed(object), begin));
        Ok(())
    }

    pub(super) fn home<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EventLoop>> {
        let home = self.home.bound(py).ok_or_else(|| {
            PyRuntimeError::new_err("the transport is closed and its event loop let go")
        })?;
        Ok(home.cast_into::<EventLoop>()?)
    }

    /// Runs `body` with the stream and the driver; neither is borrowed afterwards.
    pub(super) fn with_stream<R>(
        &self,
        home: &Bound<'_, EventLoop>,
        body: impl FnOnce(&mut Stream<Chunk>, &mut Driver) -> R,
    ) -> R {
        let mut stream = self.stream.borrow_mut();
        let mut driver = home.get().core().driver.borrow_mut();
        body(&mut stream, &mut driver)
    }

    /// Whether the pipe is still this transport's.
    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    /// Whether `connection_lost` is scheduled or was called.
    pub(super) fn is_lost(&self) -> bool {
        self.loss_scheduled.get()
    }

    pub(super) fn is_closing(&self) -> bool {
        !self.is_open() || self.is_lost() || self.stream.borrow().is_closing()
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        self.stream.borrow().buffered_bytes()
    }

    /// Whether the loop can still run anything for this transport.
    fn is_reachable(&self, py: Python<'_>) -> PyResult<bool> {
        let home = self.home(py)?;
        Ok(!home.get().is_closed_now() && !home.get().is_foreign_process())
    }

    /// Stops reading, and ends the transport once everything is written.
    pub(super) fn close(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        if self.is_closing() {
            return Ok(());
        }
        if !self.is_reachable(py)? {
            return self.release(py);
        }
        let home = self.home(py)?;
        let is_drained = self.with_stream(&home, |stream, driver| stream.close(driver));
        if is_drained { self.schedule_loss(object, None) } else { Ok(()) }
    }

    /// Ends the transport now, dropping what was not written.
    pub(super) fn force_close(
        &self,
        object: &Bound<'_, PyAny>,
        error: Option<Ref>,
    ) -> PyResult<()> {
        let py = object.py();
        if !self.is_open() || self.is_lost() {
            return Ok(());
        }
        if !self.is_reachable(py)? {
            return self.release(py);
        }
        let home = self.home(py)?;
        let unsent = self.with_stream(&home, |stream, driver| stream.abort(driver));
        drop(unsent);
        self.schedule_loss(object, error)
    }

    /// Schedules `connection_lost(error)`, once.
    pub(super) fn schedule_loss(
        &self,
        object: &Bound<'_, PyAny>,
        error: Option<Ref>,
    ) -> PyResult<()> {
        if self.loss_scheduled.replace(true) {
            return Ok(());
        }
        if let Some(error) = error {
            self.lost_error.set(error);
        }
        self.home(object.py())?.get().push(Job::Method(Ref::from_borrowed(object), lose));
        Ok(())
    }

    /// The kernel failed: report, unless that is the usual end of such a pipe, then end.
    pub(super) fn fail(
        &self,
        object: &Bound<'_, PyAny>,
        err: PyErr,
        message: &str,
        is_usual: bool,
    ) -> PyResult<()> {
        let py = object.py();
        let home = self.home(py)?;
        let exception = error::instance(py, err);
        if !is_usual {
            reports::report(&home, object, &self.protocol.or_none(py), &exception, message)?;
        } else if home.get().debug() {
            let text = format!("{}: {message}: {exception}", object.repr()?);
            stdlib::log(py, "debug", &text, None)?;
        }
        self.force_close(object, Some(Ref::new(exception)))
    }

    /// Notes in debug mode what happened to the transport.
    pub(super) fn debug_log(
        &self,
        object: &Bound<'_, PyAny>,
        level: &str,
        what: &str,
    ) -> PyResult<()> {
        let py = object.py();
        if !self.home(py)?.get().debug() {
            return Ok(());
        }
        stdlib::log(py, level, &format!("{} {what}", object.repr()?), None)
    }

    /// Lets go of everything: driver, pipe, protocol, loop.
    pub(super) fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.loss_scheduled.set(true);
        // No loop: it was let go before, and somebody gave the transport a pipe again.
        if self.home.is_some() {
            self.unhook(&self.home(py)?);
        }
        let duplicate = self.duplicate.borrow_mut().take();
        drop(duplicate);
        let closed = match self.pipe.take() {
            Some(pipe) => {
                let pipe = pipe.bind(py);
                let let_go = unhold(pipe);
                pipe.call_method0(intern!(py, "close")).map(drop).and(let_go)
            }
            None => Ok(()),
        };
        let parts = (self.protocol.take(), self.context.take(), self.waiter.take());
        drop(parts);
        drop((self.lost_error.take(), self.home.take()));
        closed
    }

    /// Makes the driver forget the descriptor. In the child of a fork the kernel's set is the
    /// parent's, who still needs it.
    fn unhook(&self, home: &Bound<'_, EventLoop>) {
        if home.get().is_foreign_process() {
            return;
        }
        let token = self.stream.borrow().token();
        let unsent = self.with_stream(home, |stream, driver| stream.lose(driver));
        drop(unsent);
        home.get().disclaim(self.fd, token);
        drop(home.get().core().remove_source(token));
    }

    /// Replaces the pipe object. None: the transport lets the pipe go without closing it.
    pub(super) fn set_pipe(&self, pipe: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = pipe.py();
        if !pipe.is_none() {
            self.pipe.set(Ref::from_borrowed(pipe));
            return Ok(());
        }
        if let Some(former) = self.pipe.take() {
            self.unhook(&self.home(py)?);
            unhold(former.bind(py))?;
        }
        Ok(())
    }

    /// Nobody closed the transport: say so, and close the pipe.
    pub(super) fn finalize(&self, object: &Bound<'_, PyAny>) {
        let py = object.py();
        if !self.is_open() {
            return;
        }
        reports::warn_unclosed(object);
        if let Err(err) = self.release(py) {
            err.write_unraisable(py, None);
        }
    }

    pub(super) fn extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(extra) = self.extra.bound(py) {
            if let Some(found) = extra.cast_into::<PyDict>()?.get_item(name)? {
                return Ok(found);
            }
        }
        Ok(default.unwrap_or_else(|| py.None().into_bound(py)))
    }

    pub(super) fn extra<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.extra.or_none(py)
    }

    /// `<Name fd=5 polling …>`, as asyncio writes it.
    pub(super) fn describe(
        &self,
        py: Python<'_>,
        name: &str,
        is_polling: bool,
        buffered_bytes: Option<usize>,
    ) -> PyResult<String> {
        let mut parts = vec![name.to_owned()];
        if !self.is_open() {
            parts.push("closed".into());
        } else if self.is_closing() {
            parts.push("closing".into());
        }
        parts.push(format!("fd={}", self.fd));
        if !self.is_open() {
            parts.push("closed".into());
        } else if self.is_reachable(py)? {
            parts.push(if is_polling { "polling".into() } else { "idle".into() });
            parts.extend(buffered_bytes.map(|bytes| format!("bufsize={bytes}")));
        } else {
            parts.push("open".into());
        }
        Ok(format!("<{}>", parts.join(" ")))
    }

    /// Whether the end of a socket's stream is watched for, apart from its data.
    pub(super) fn watches_hang_up(&self) -> bool {
        self.watch == Some(ReadMode::HangUp)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.home,
            &self.protocol,
            &self.context,
            &self.pipe,
            &self.waiter,
            &self.extra,
            &self.lost_error,
        ] {
            slot.traverse(visit)?;
        }
        Ok(())
    }

    /// Breaks cycles. The loop stays; the pipe has been let go by the finalizer, which runs before,
    /// unless it was given to a transport that had been finalized already.
    pub(super) fn clear(&self) {
        drop((self.protocol.take(), self.context.take(), self.waiter.take()));
        drop((self.extra.take(), self.lost_error.take(), self.pipe.take()));
    }
}

fn end_of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a PipeEnd> {
    if let Ok(transport) = object.cast::<ReadPipeTransport>() {
        return Ok(&transport.get().end);
    }
    Ok(&object.cast::<WritePipeTransport>()?.get().end)
}

/// The first job of a transport: `connection_made`, then watching, then the waiter.
fn begin(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let end = end_of(object)?;
    let Some(user_protocol) = end.protocol.bound(py) else { return Ok(()) };
    let made = protocol::connection_made(&user_protocol, end.context.get(), object);
    let told = reports::connection_made_told(made, || end.home(py), object);
    told.and(start(object, end))
}

fn start(object: &Bound<'_, PyAny>, end: &PipeEnd) -> PyResult<()> {
    let py = object.py();
    if let Some(mode) = end.watch.filter(|_| !end.is_closing()) {
        let home = end.home(py)?;
        let started = end.with_stream(&home, |stream, driver| stream.start_reading(driver, mode));
        if let Err(err) = started {
            let err = convert::os_error(py, err);
            end.fail(object, err, "Fatal error on pipe transport", false)?;
        }
    }
    reports::wake(py, end.waiter.take())
}

/// The last job of a transport: `connection_lost`, then the pipe is closed.
fn lose(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let end = end_of(object)?;
    if !end.is_open() {
        return Ok(());
    }
    let error = end.lost_error.or_none(py);
    let told = match end.protocol.bound(py) {
        Some(user_protocol) => protocol::connection_lost(&user_protocol, end.context.get(), &error),
        None => Ok(()),
    };
    let let_go = end.release(py);
    told.and(let_go)
}
