//! What every kind of transport tells others than its protocol: the exception handler, who waits
//! for its start, and whoever forgot to close it.
//!
//! Facts: a failing callback of a protocol is reported and changes nothing; SystemExit and
//! KeyboardInterrupt are nobody's to report and leave the loop instead.
//! Source of behaviour: CPython `Lib/asyncio/selector_events.py` and `transports.py`.

use pyo3::exceptions::PyResourceWarning;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::event_loop::EventLoop;
use crate::ffi::Ref;
use crate::ffi::error;
use crate::handle::is_fatal;
use crate::stdlib;

/// Calls the exception handler for an error of `transport` or of its `protocol`.
pub(super) fn report(
    home: &Bound<'_, EventLoop>,
    transport: &Bound<'_, PyAny>,
    protocol: &Bound<'_, PyAny>,
    exception: &Bound<'_, PyAny>,
    message: &str,
) -> PyResult<()> {
    let py = home.py();
    let report = PyDict::new(py);
    report.set_item("message", message)?;
    report.set_item("exception", exception)?;
    report.set_item("transport", transport)?;
    report.set_item("protocol", protocol)?;
    error::while_handling(exception, || {
        home.call_method1(intern!(py, "call_exception_handler"), (report,)).map(drop)
    })
}

/// How `pause_writing` (`pause`) or `resume_writing` of `protocol` ended: its failure is reported.
///
/// # Errors
/// An exception that leaves the loop.
pub(super) fn flow_told<'py>(
    told: PyResult<()>,
    pause: bool,
    home: impl FnOnce() -> PyResult<Bound<'py, EventLoop>>,
    transport: &Bound<'py, PyAny>,
    protocol: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = transport.py();
    let Err(err) = told else { return Ok(()) };
    if is_fatal(py, &err) {
        return Err(err);
    }
    let name = if pause { "pause_writing" } else { "resume_writing" };
    let message = format!("protocol.{name}() failed");
    report(&home()?, transport, protocol, &error::instance(py, err), &message)
}

/// How `connection_made` of the transport's protocol ended: its failure is reported.
///
/// # Errors
/// An exception that leaves the loop.
pub(super) fn connection_made_told<'py>(
    made: PyResult<()>,
    home: impl FnOnce() -> PyResult<Bound<'py, EventLoop>>,
    transport: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let Err(err) = made else { return Ok(()) };
    if is_fatal(transport.py(), &err) {
        return Err(err);
    }
    let message = "Exception in callback protocol.connection_made()";
    EventLoop::report_failure(home()?.as_any(), message, err, "transport", transport)
}

/// Tells who waits for the transport that it has started.
pub(super) fn wake(py: Python<'_>, waiter: Option<Ref>) -> PyResult<()> {
    let Some(waiter) = waiter else { return Ok(()) };
    let waiter = waiter.bind(py);
    if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
        return Ok(());
    }
    waiter.call_method1(intern!(py, "set_result"), (py.None(),)).map(drop)
}

/// ResourceWarning for a transport that dies without having been closed. A warning that was made an
/// error is shown and goes no further.
pub(super) fn warn_unclosed(transport: &Bound<'_, PyAny>) {
    let py = transport.py();
    let warn = || -> PyResult<()> {
        let kwargs = PyDict::new(py);
        kwargs.set_item("source", transport)?;
        let text = format!("unclosed transport {}", transport.repr()?);
        let category = py.get_type::<PyResourceWarning>();
        stdlib::warn(py)?.call((text, category), Some(&kwargs)).map(drop)
    };
    if let Err(err) = warn() {
        err.write_unraisable(py, None);
    }
}
