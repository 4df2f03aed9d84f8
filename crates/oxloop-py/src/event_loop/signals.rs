//! Signals: `add_signal_handler`, and Ctrl-C while the loop waits.
//!
//! Facts: CPython's C handler notes the signal and writes its number to the wakeup descriptor; the
//! Python handler runs later, on the main thread, between bytecodes. A loop that waits in the kernel
//! runs no bytecode, and a signal that arrives just before the wait would be seen only after it.
//! Decision: while the loop runs on the main thread, a pipe of its own is the wakeup descriptor, so
//! that a signal always ends the wait. A wakeup descriptor that somebody else set is left in place.
//! With handlers registered it stays set between runs, so that signals that arrive meanwhile are
//! handled by the next run.
//! Source of behaviour: CPython `Lib/asyncio/unix_events.py`, `Modules/signalmodule.c`.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use oxloop_core::sys::fd::{pipe, read};
use oxloop_core::{Driver as _, Op, Outcome, Token};
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::{Chunk, EventLoop, Job, SignalHandlers, Source, os_error, thread_ident};
use crate::ffi::{Ref, call};
use crate::handle::{Arguments, Handle, context_or_copy};
use crate::stdlib;

#[derive(Default)]
pub(super) struct Signals {
    handlers: RefCell<SignalHandlers>,
    wakeup: RefCell<Option<Wakeup>>,
    /// Our descriptor is the process's wakeup descriptor.
    installed: Cell<bool>,
}

struct Wakeup {
    reader: OwnedFd,
    writer: OwnedFd,
    token: Token,
}

impl Signals {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(handlers) = self.handlers.try_borrow() {
            handlers.values().try_for_each(|handle| handle.traverse(visit))?;
        }
        Ok(())
    }

    pub fn take_handlers(&self) -> SignalHandlers {
        self.handlers.take()
    }
}

impl EventLoop {
    fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
        let main = stdlib::main_thread(py)?.call0()?.getattr(intern!(py, "ident"))?;
        Ok(main.extract::<Option<u64>>()? == Some(thread_ident(py)?))
    }

    /// The write end of the wakeup pipe, made at first use.
    fn wakeup_fd(slf: &Bound<'_, Self>) -> PyResult<i32> {
        let this = slf.get();
        if let Some(wakeup) = &*this.signals.wakeup.borrow() {
            return Ok(wakeup.writer.as_raw_fd());
        }
        let failed = |err| os_error("cannot make the pipe that signals wake the loop by", err);
        let (reader, writer) = pipe().map_err(failed)?;
        let source = Source { object: Ref::from_borrowed(slf), completed: on_wakeup };
        let token = this.core.add_source(reader.as_raw_fd(), source).map_err(failed)?;
        this.core.driver.borrow_mut().submit(token, Op::PollRead).map_err(failed)?;
        let fd = writer.as_raw_fd();
        *this.signals.wakeup.borrow_mut() = Some(Wakeup { reader, writer, token });
        Ok(fd)
    }

    /// Makes our pipe the wakeup descriptor. One that somebody else set is taken over when handlers
    /// need it (`insist`), as asyncio does, else it is left in place.
    fn install_wakeup_fd(slf: &Bound<'_, Self>, insist: bool) -> PyResult<bool> {
        let py = slf.py();
        let fd = Self::wakeup_fd(slf)?;
        let kwargs = PyDict::new(py);
        kwargs.set_item("warn_on_full_buffer", false)?;
        let before = stdlib::set_wakeup_fd(py)?.call((fd,), Some(&kwargs))?.extract::<i32>()?;
        if before != -1 && before != fd && !insist {
            stdlib::set_wakeup_fd(py)?.call1((before,))?;
            return Ok(false);
        }
        slf.get().signals.installed.set(true);
        Ok(true)
    }

    fn uninstall_wakeup_fd(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let signals = &slf.get().signals;
        if !signals.installed.replace(false) {
            return Ok(());
        }
        let before = stdlib::set_wakeup_fd(py)?.call1((-1,))?.extract::<i32>()?;
        let ours = signals.wakeup.borrow().as_ref().map(|wakeup| wakeup.writer.as_raw_fd());
        if before != -1 && Some(before) != ours {
            // Somebody took over meanwhile.
            stdlib::set_wakeup_fd(py)?.call1((before,))?;
        }
        Ok(())
    }

    /// At the start of a run.
    pub(super) fn listen_to_signals(slf: &Bound<'_, Self>) -> PyResult<()> {
        // A simulated kernel has no signals: Ctrl-C is seen between two jobs.
        if slf.get().simulated().is_none() && Self::is_main_thread(slf.py())? {
            Self::install_wakeup_fd(slf, false)?;
        }
        Ok(())
    }

    /// At the end of a run.
    pub(super) fn stop_listening_to_signals(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().signals.handlers.borrow().is_empty() && Self::is_main_thread(slf.py())? {
            Self::uninstall_wakeup_fd(slf)?;
        }
        Ok(())
    }

    /// At close: every handler goes, as does the pipe.
    pub(super) fn forget_signals(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let registered: Vec<i32> = this.signals.handlers.borrow().keys().copied().collect();
        let main = Self::is_main_thread(slf.py())?;
        for number in registered {
            if main {
                Self::forget_signal(slf, number)?;
            } else {
                let handle = this.signals.handlers.borrow_mut().remove(&number);
                drop(handle);
            }
        }
        if main {
            Self::uninstall_wakeup_fd(slf)?;
        }
        let wakeup = this.signals.wakeup.borrow_mut().take();
        if let Some(wakeup) = wakeup {
            drop(this.core.remove_source(wakeup.token));
            if this.signals.installed.replace(false) {
                // Still the process's wakeup descriptor, and only the main thread could change that:
                // the pipe stays open for good, so that no signal is written to a stranger.
                let _ = (wakeup.reader.into_raw_fd(), wakeup.writer.into_raw_fd());
            }
        }
        Ok(())
    }

    /// In the child of a fork: signals must not be written into the pipe shared with the parent.
    pub(super) fn forget_wakeup_fd(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().signals.installed.get() && Self::is_main_thread(slf.py())? {
            Self::uninstall_wakeup_fd(slf)?;
        }
        Ok(())
    }

    /// Removes the handler of one signal and restores the default action; false if there was none.
    fn forget_signal(slf: &Bound<'_, Self>, number: i32) -> PyResult<bool> {
        let py = slf.py();
        let handle = slf.get().signals.handlers.borrow_mut().remove(&number);
        if handle.is_none() {
            return Ok(false);
        }
        drop(handle);
        let action = if stdlib::sigint(py)?.eq(number)? {
            stdlib::default_int_handler(py)?
        } else {
            stdlib::sig_dfl(py)?
        };
        if let Err(err) = stdlib::set_signal(py)?.call1((number, action)) {
            return Err(explain(py, err, number));
        }
        let last = slf.get().signals.handlers.borrow().is_empty();
        if last && slf.get().thread.get().is_none() {
            if let Err(err) = Self::uninstall_wakeup_fd(slf) {
                stdlib::log(
                    py,
                    "info",
                    &format!("set_wakeup_fd(-1) failed: {}", err.value(py)),
                    None,
                )?;
            }
        }
        Ok(true)
    }

    fn check_signal(sig: &Bound<'_, PyAny>) -> PyResult<i32> {
        let py = sig.py();
        if !sig.is_instance_of::<PyInt>() {
            return Err(PyTypeError::new_err(format!("sig must be an int, not {}", sig.repr()?)));
        }
        let valid = py.import(intern!(py, "signal"))?.call_method0("valid_signals")?;
        if !valid.contains(sig)? {
            return Err(PyValueError::new_err(format!("invalid signal number {}", sig.str()?)));
        }
        sig.extract()
    }
}

/// EINVAL means that the signal cannot be caught.
fn explain(py: Python<'_>, err: PyErr, number: i32) -> PyErr {
    let invalid = err.value(py).getattr("errno").and_then(|code| code.eq(22)).unwrap_or(false);
    if err.is_instance_of::<PyOSError>(py) && invalid {
        return PyRuntimeError::new_err(format!("sig {number} cannot be caught"));
    }
    err
}

/// Signal numbers have arrived: Python's own handlers first, then ours, as callbacks.
fn on_wakeup(object: &Bound<'_, PyAny>, _outcome: Outcome<Chunk>) -> PyResult<()> {
    let py = object.py();
    let home = object.cast::<EventLoop>()?;
    let this = home.get();
    let mut numbers = Vec::new();
    loop {
        let mut buffer = [0u8; 256];
        let got = match &*this.signals.wakeup.borrow() {
            Some(wakeup) => read(wakeup.reader.as_raw_fd(), &mut buffer),
            None => break,
        };
        match got {
            Ok(count) if count > 0 => numbers.extend_from_slice(&buffer[..count]),
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    for number in numbers {
        let handle = this.signals.handlers.borrow().get(&i32::from(number)).cloned();
        let Some(handle) = handle else { continue };
        if handle.bind(py).cast::<Handle>()?.get().is_cancelled() {
            EventLoop::forget_signal(home, i32::from(number))?;
            continue;
        }
        this.push(Job::Handle(super::watchers::repeat(py, &handle)?));
    }
    call::check_signals(py)
}

/// The handler that Python calls; the wakeup descriptor has told us already.
#[pyfunction]
#[pyo3(name = "_signal_noop", signature = (_signum, _frame))]
fn signal_noop(_signum: &Bound<'_, PyAny>, _frame: &Bound<'_, PyAny>) {}

#[pymethods]
impl EventLoop {
    /// Call `callback(*args)` on the loop when signal `sig` arrives. Main thread only.
    ///
    /// Raises TypeError for coroutines, ValueError for invalid numbers, RuntimeError outside the
    /// main thread or for signals that cannot be caught.
    #[pyo3(signature = (sig, callback, *args))]
    fn add_signal_handler(
        slf: &Bound<'_, Self>,
        sig: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let inspect = py.import(intern!(py, "inspect"))?;
        if stdlib::is_coroutine(py)?.call1((callback,))?.is_truthy()?
            || inspect.call_method1("iscoroutinefunction", (callback,))?.is_truthy()?
        {
            return Err(PyTypeError::new_err(
                "coroutines cannot be used with add_signal_handler()",
            ));
        }
        let number = Self::check_signal(sig)?;
        this.check_open()?;
        Self::install_wakeup_fd(slf, true).map_err(|err| {
            if err.is_instance_of::<PyValueError>(py) || err.is_instance_of::<PyOSError>(py) {
                PyRuntimeError::new_err(err.value(py).to_string())
            } else {
                err
            }
        })?;
        let items: Vec<_> = args.iter().collect();
        let handle = Handle::build(
            slf,
            Ref::from_borrowed(callback),
            Arguments::collect(py, items.iter())?,
            context_or_copy(py, None)?,
        )?;
        let handle = handle.into_object(py)?;
        let before = this.signals.handlers.borrow_mut().insert(number, handle);
        drop(before);
        let signal = py.import(intern!(py, "signal"))?;
        let noop = pyo3::wrap_pyfunction!(signal_noop, py)?;
        let installed = signal
            .call_method1("signal", (number, noop))
            .and_then(|_| signal.call_method1("siginterrupt", (number, false)));
        if let Err(err) = installed {
            let handle = this.signals.handlers.borrow_mut().remove(&number);
            drop(handle);
            if this.signals.handlers.borrow().is_empty() && this.thread.get().is_none() {
                Self::uninstall_wakeup_fd(slf)?;
            }
            return Err(explain(py, err, number));
        }
        Ok(())
    }

    /// Remove the handler of signal `sig`; False if there was none.
    fn remove_signal_handler(slf: &Bound<'_, Self>, sig: &Bound<'_, PyAny>) -> PyResult<bool> {
        let number = Self::check_signal(sig)?;
        Self::forget_signal(slf, number)
    }

    #[getter]
    fn _signal_handlers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let rows: Vec<(i32, Ref)> = self
            .signals
            .handlers
            .borrow()
            .iter()
            .map(|(number, handle)| (*number, handle.clone()))
            .collect();
        let dict = PyDict::new(py);
        for (number, handle) in rows {
            dict.set_item(number, handle.into_bound(py))?;
        }
        Ok(dict)
    }
}
