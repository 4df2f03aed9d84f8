//! `StreamReader`: what was received and not read, who waits for it, and when the transport pauses.
//!
//! Facts: received bytes come as exact `bytes` objects, from a transport that nobody else has them
//! of; one coroutine at a time may wait, by a future that programs see as `_waiter`.
//! Decision: the objects are kept, and one that is read as it came is handed on. While a coroutine
//! of ours waits, the reader knows what for (`need.rs`) and neither wakes it nor pauses the transport
//! before it is there: a pause would be taken back by the very coroutine that was woken.
//! What can still go wrong: `feed_data` beyond the limit by a caller that cannot be paused is kept
//! all the same, as in asyncio.

use std::cell::{Cell, RefCell};

use oxloop_core::{Found, ReadBuffer};
use pyo3::exceptions::{
    PyAssertionError, PyAttributeError, PyNotImplementedError, PyRuntimeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt};

use super::need::{Need, scan, scan_line};
use crate::coroutine::{Progress, Waiter};
use crate::event_loop::EventLoop;
use crate::ffi::call::Exported;
use crate::ffi::fastcall::Args;
use crate::ffi::joined::joined;
use crate::ffi::object::attached_only;
use crate::ffi::shared::SharedBytes;
use crate::ffi::{Ref, Slot, error};
use crate::future::none;
use crate::stdlib;

/// `asyncio.streams._DEFAULT_LIMIT`
pub(super) const DEFAULT_LIMIT_BYTES: usize = 64 * 1024;

pub type Received = ReadBuffer<SharedBytes>;

/// The reading end of a stream.
#[pyclass(frozen, subclass, module = "oxloop._oxloop", name = "StreamReader")]
pub struct StreamReader {
    pub(super) received: RefCell<Received>,
    pub(super) home: Slot,
    pub(super) transport: Slot,
    /// The future that a read waits for, or what a program put there.
    pub(super) waiter: Slot,
    pub(super) exception: Slot,
    pub(super) source_traceback: Slot,
    /// The limit as it was given.
    pub(super) limit: Slot,
    pub(super) limit_bytes: Cell<usize>,
    /// Above this the transport is paused: twice the limit.
    pub(super) pause_bytes: Cell<usize>,
    /// What the coroutine behind `waiter` needs.
    need: RefCell<Need>,
    /// No separator of `need` starts below this offset.
    scanned: Cell<usize>,
    pub(super) eof: Cell<bool>,
    pub(super) paused: Cell<bool>,
    patched: Cell<bool>,
}

attached_only!(StreamReader);

impl StreamReader {
    pub(super) fn bare() -> Self {
        Self {
            received: RefCell::default(),
            home: Slot::empty(),
            transport: Slot::empty(),
            waiter: Slot::empty(),
            exception: Slot::empty(),
            source_traceback: Slot::empty(),
            limit: Slot::empty(),
            limit_bytes: Cell::new(DEFAULT_LIMIT_BYTES),
            pause_bytes: Cell::new(2 * DEFAULT_LIMIT_BYTES),
            need: RefCell::default(),
            scanned: Cell::new(0),
            eof: Cell::new(false),
            paused: Cell::new(false),
            patched: Cell::new(false),
        }
    }

    /// What `__init__` does.
    pub(super) fn start(
        &self,
        py: Python<'_>,
        limit: Option<&Bound<'_, PyAny>>,
        home: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        match limit {
            Some(limit) if limit.le(0)? => {
                return Err(PyValueError::new_err("Limit cannot be <= 0"));
            }
            Some(limit) => self.set_limit(limit)?,
            None => self.set_limit(&DEFAULT_LIMIT_BYTES.into_pyobject(py)?.into_any())?,
        }
        let home = home_or_current(py, home)?;
        if is_debug(&home)? {
            if let Some(stack) = stdlib::capture_source(py)? {
                self.source_traceback.set(Ref::new(stack));
            }
        }
        let old = (self.received.take(), self.waiter.take(), self.exception.take());
        let old = (old, self.transport.take(), self.home.replace(Some(Ref::new(home))));
        self.scanned.set(0);
        self.eof.set(false);
        self.paused.set(false);
        drop(old);
        Ok(())
    }

    /// Takes a limit: an integer of any size or a float.
    pub(super) fn set_limit(&self, limit: &Bound<'_, PyAny>) -> PyResult<()> {
        let (once, twice) = match limit.cast::<PyFloat>() {
            Ok(limit) => (limit.value() as usize, (2.0 * limit.value()) as usize),
            Err(_) => {
                let bytes = match limit.extract::<usize>() {
                    Ok(bytes) => bytes,
                    Err(_) if limit.is_instance_of::<PyInt>() && limit.gt(0)? => usize::MAX,
                    Err(_) if limit.is_instance_of::<PyInt>() => 0,
                    Err(err) => return Err(err),
                };
                (bytes, bytes.saturating_mul(2))
            }
        };
        self.limit_bytes.set(once);
        self.pause_bytes.set(twice);
        self.limit.set(Ref::from_borrowed(limit));
        Ok(())
    }

    /// Whether a method of this very object was replaced.
    #[inline]
    pub(super) fn is_patched(&self) -> bool {
        self.patched.get()
    }

    pub(super) fn set_patched(&self) {
        self.patched.set(true);
    }

    #[inline]
    pub(super) fn len_bytes(&self) -> usize {
        self.received.borrow().len_bytes()
    }

    /// The exception that ended the stream.
    #[inline]
    pub(super) fn check_exception(&self, py: Python<'_>) -> PyResult<()> {
        match self.exception.bound(py) {
            None => Ok(()),
            Some(exception) => Err(error::raised(&exception)),
        }
    }

    /// `feed_data(data)`
    pub(super) fn feed(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        if self.eof.get() {
            return Err(PyAssertionError::new_err("feed_data after feed_eof"));
        }
        if let Ok(data) = data.cast_exact::<PyBytes>() {
            let piece = SharedBytes::new(data);
            if piece.as_ref().is_empty() {
                return Ok(());
            }
            self.received.borrow_mut().push(piece);
        } else {
            if !data.is_truthy()? {
                return Ok(());
            }
            let exported = Exported::readable(data)?;
            self.received.borrow_mut().gather(exported.bytes());
        }
        self.arrived(py)
    }

    /// Bytes were added: wakes who waits for them, and pauses the transport.
    #[inline]
    pub(super) fn arrived(&self, py: Python<'_>) -> PyResult<()> {
        if self.waiter.is_some() {
            if !self.is_satisfied() && self.waits(py)? {
                return Ok(());
            }
            self.wake(py)?;
        }
        if self.len_bytes() > self.pause_bytes.get() && !self.paused.get() {
            return self.pause(py);
        }
        Ok(())
    }

    #[cold]
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        let Some(transport) = self.transport.bound(py) else { return Ok(()) };
        match transport.call_method0(intern!(py, "pause_reading")) {
            Ok(_) => self.paused.set(true),
            // A transport of the program's that cannot be paused says so, as asyncio's abstract one
            // does: everything is kept, and nobody asks again.
            Err(err) if err.is_instance_of::<PyNotImplementedError>(py) => self.transport.clear(),
            Err(err) => return Err(err),
        }
        Ok(())
    }

    #[cold]
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.paused.set(false);
        match self.transport.bound(py) {
            Some(transport) => transport.call_method0(intern!(py, "resume_reading")).map(drop),
            None => Err(PyAttributeError::new_err(
                "'NoneType' object has no attribute 'resume_reading'",
            )),
        }
    }

    /// Resumes the transport if there is room again.
    #[inline]
    pub(super) fn resume_if_room(&self, py: Python<'_>) -> PyResult<()> {
        if self.paused.get() && self.len_bytes() <= self.limit_bytes.get() {
            return self.resume(py);
        }
        Ok(())
    }

    /// Whether the read that waits can go on with what there is.
    fn is_satisfied(&self) -> bool {
        let need = self.need.borrow();
        match &*need {
            Need::Any => true,
            Need::Bytes(count) => self.len_bytes() >= *count,
            Need::End => false,
            need => match self.search(need, self.scanned.get()) {
                Ok(_) => true,
                Err(offset) => {
                    self.scanned.set(offset);
                    offset > self.limit_bytes.get()
                }
            },
        }
    }

    /// The separator of `need` that ends first, or the offset below which none starts.
    #[inline]
    pub(super) fn search(&self, need: &Need, from: usize) -> Result<Found, usize> {
        let received = self.received.borrow();
        match need {
            Need::Separator(separators) => scan(&received, separators, from),
            _ => scan_line(&received, from),
        }
    }

    /// Whether the future of the read that waits is not done.
    fn waits(&self, py: Python<'_>) -> PyResult<bool> {
        match self.waiter.get() {
            Some(waiter) => Waiter::from_future(waiter).is_done(py).map(|done| !done),
            None => Ok(false),
        }
    }

    /// Lets the waiting read go on.
    #[inline]
    pub(super) fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let Some(waiter) = self.waiter.take() else { return Ok(()) };
        let waiter = Waiter::from_future(waiter);
        if waiter.is_cancelled(py)? {
            return Ok(());
        }
        waiter.wake(py, none(py))
    }

    /// `set_exception(exc)`
    pub(super) fn fail(&self, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = exception.py();
        self.exception.replace((!exception.is_none()).then(|| Ref::from_borrowed(exception)));
        let Some(waiter) = self.waiter.take() else { return Ok(()) };
        let waiter = Waiter::from_future(waiter);
        if waiter.is_cancelled(py)? {
            return Ok(());
        }
        waiter.fail(exception)
    }

    /// `feed_eof()`
    pub(super) fn feed_eof(&self, py: Python<'_>) -> PyResult<()> {
        self.eof.set(true);
        self.wake(py)
    }

    /// Waits for `need`, for the method called `name`; no separator starts below `scanned`.
    ///
    /// # Errors
    /// RuntimeError if another coroutine waits.
    #[inline]
    pub(super) fn wait(
        &self,
        py: Python<'_>,
        name: &str,
        need: Need,
        scanned: usize,
    ) -> PyResult<Progress> {
        if self.waiter.is_some() {
            return Err(PyRuntimeError::new_err(format!(
                "{name}() called while another coroutine is already waiting for incoming data"
            )));
        }
        // Waiting while the transport is paused would last for ever.
        if self.paused.get() {
            self.resume(py)?;
        }
        let Some(home) = self.home.get() else {
            return Err(PyRuntimeError::new_err("StreamReader.__init__() was not called"));
        };
        let waiter = Waiter::new(home.bind(py))?;
        self.need.replace(need);
        self.scanned.set(scanned);
        self.waiter.set(waiter.as_future().clone());
        Ok(waiter.wait())
    }

    /// The end of a wait, whatever ended it.
    #[inline]
    pub(super) fn waited(&self) {
        self.waiter.clear();
        self.need.replace(Need::Any);
    }

    /// Takes the first line, if it lies in one piece and is not longer than the limit.
    #[inline]
    pub(super) fn take_line(&self, py: Python<'_>) -> Option<Ref> {
        // As in `take`.
        let mut received = self.received.borrow_mut();
        let line = received.front_through(b'\n')?;
        let count = line.len();
        if count > self.limit_bytes.get() {
            return None;
        }
        self.scanned.set(0);
        let whole = received.take_piece(count);
        if let Some(piece) = whole {
            return Some(piece.into_object());
        }
        let taken = Ref::new(PyBytes::new(py, received.front(count)?));
        received.advance(count);
        Some(taken)
    }

    /// Takes the first `count` bytes, which are there.
    #[inline]
    pub(super) fn take(&self, py: Python<'_>, count: usize) -> PyResult<Ref> {
        self.scanned.set(0);
        // `bytes` is no object of the collector, and dropping one runs nothing: the borrow may stay.
        let mut received = self.received.borrow_mut();
        if let Some(piece) = received.take_piece(count) {
            return Ok(piece.into_object());
        }
        let taken = match received.front(count) {
            Some(bytes) => Ref::new(PyBytes::new(py, bytes)),
            None => joined(py, count, received.slices())?,
        };
        received.advance(count);
        Ok(taken)
    }

    /// Takes everything.
    pub(super) fn take_all(&self, py: Python<'_>) -> PyResult<Ref> {
        self.take(py, self.len_bytes())
    }

    /// The byte at `index`, if there is one.
    pub(super) fn byte_at(&self, index: usize) -> Option<u8> {
        let received = self.received.borrow();
        let mut rest = index;
        for slice in received.slices() {
            match slice.get(rest) {
                Some(byte) => return Some(*byte),
                None => rest -= slice.len(),
            }
        }
        None
    }

    /// Drops the first `count` bytes, or all if there are not so many.
    pub(super) fn discard(&self, count: usize) {
        self.scanned.set(0);
        self.received.borrow_mut().advance(count);
    }
}

/// `home`, or the current loop if it is None.
pub(super) fn home_or_current<'py>(
    py: Python<'py>,
    home: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    match home {
        Some(home) if !home.is_none() => Ok(home.clone()),
        _ => stdlib::get_event_loop(py)?.call0(),
    }
}

/// `home.get_debug()`
pub(super) fn is_debug(home: &Bound<'_, PyAny>) -> PyResult<bool> {
    match home.cast::<EventLoop>() {
        Ok(native) => Ok(native.get().debug()),
        Err(_) => home.call_method0(intern!(home.py(), "get_debug"))?.is_truthy(),
    }
}

/// `feed_data(data)`
pub fn feed_data<'py>(slf: &Bound<'py, StreamReader>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let data = args.one("feed_data", "data")?;
    slf.get().feed(data)?;
    Ok(none(slf.py()))
}
