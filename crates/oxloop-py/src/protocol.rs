//! The only calls into a user's protocol.
//!
//! Each runs in the context of its connection, looks the method up anew (programs replace methods
//! and whole protocols), and gives the error back to the transport, which decides what it means.

use pyo3::intern;
use pyo3::prelude::*;

use crate::ffi::{Entered, Ref, call};
use crate::streams;

/// Runs `body` in `context`; an error in entering counts like one of the body.
pub fn within<R>(
    py: Python<'_>,
    context: Option<Ref>,
    body: impl FnOnce() -> PyResult<R>,
) -> PyResult<R> {
    let Some(context) = context else { return body() };
    let context = context.into_bound(py);
    let entered = Entered::enter(&context)?;
    let outcome = body();
    entered.exit()?;
    outcome
}

/// `protocol.connection_made(transport)`
pub fn connection_made(
    protocol: &Bound<'_, PyAny>,
    context: Option<Ref>,
    transport: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = protocol.py();
    within(py, context, || {
        call::call_method_one(protocol, intern!(py, "connection_made"), transport).map(drop)
    })
}

/// `protocol.data_received(data)`
#[inline]
pub fn data_received(
    protocol: &Bound<'_, PyAny>,
    context: Option<Ref>,
    data: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = protocol.py();
    // Into the reader of a stream: nothing there runs code that could ask for the context.
    if streams::data_received(protocol, data)? {
        return Ok(());
    }
    within(py, context, || {
        call::call_method_one(protocol, intern!(py, "data_received"), data).map(drop)
    })
}

/// `protocol.datagram_received(data, addr)`
#[inline]
pub fn datagram_received(
    protocol: &Bound<'_, PyAny>,
    context: Option<Ref>,
    data: &Bound<'_, PyAny>,
    sender: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = protocol.py();
    within(py, context, || {
        protocol.call_method1(intern!(py, "datagram_received"), (data, sender)).map(drop)
    })
}

/// `protocol.error_received(exc)`; without a context in the caller's, from inside `sendto`.
pub fn error_received(
    protocol: &Bound<'_, PyAny>,
    context: Option<Ref>,
    exception: &Bound<'_, pyo3::exceptions::PyBaseException>,
) -> PyResult<()> {
    let py = protocol.py();
    within(py, context, || {
        call::call_method_one(protocol, intern!(py, "error_received"), exception).map(drop)
    })
}

/// `protocol.eof_received()`; whether the protocol wants to keep its side open.
pub fn eof_received(protocol: &Bound<'_, PyAny>, context: Option<Ref>) -> PyResult<bool> {
    let py = protocol.py();
    within(py, context, || protocol.call_method0(intern!(py, "eof_received"))?.is_truthy())
}

/// `protocol.connection_lost(exc)`
pub fn connection_lost(
    protocol: &Bound<'_, PyAny>,
    context: Option<Ref>,
    exception: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = protocol.py();
    within(py, context, || {
        call::call_method_one(protocol, intern!(py, "connection_lost"), exception).map(drop)
    })
}

/// `protocol.pause_writing()`, in the caller's context: it is called from inside `write`.
pub fn pause_writing(protocol: &Bound<'_, PyAny>) -> PyResult<()> {
    protocol.call_method0(intern!(protocol.py(), "pause_writing")).map(drop)
}

/// `protocol.resume_writing()`
pub fn resume_writing(protocol: &Bound<'_, PyAny>, context: Option<Ref>) -> PyResult<()> {
    let py = protocol.py();
    within(py, context, || protocol.call_method0(intern!(py, "resume_writing")).map(drop))
}

/// `protocol.get_buffer(-1)`
pub fn get_buffer<'py>(
    protocol: &Bound<'py, PyAny>,
    context: Option<Ref>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = protocol.py();
    within(py, context, || protocol.call_method1(intern!(py, "get_buffer"), (-1,)))
}

/// `protocol.get_buffer(size_hint)`, in the caller's context; `size_hint` in bytes.
pub fn get_buffer_of<'py>(
    protocol: &Bound<'py, PyAny>,
    size_hint: usize,
) -> PyResult<Bound<'py, PyAny>> {
    protocol.call_method1(intern!(protocol.py(), "get_buffer"), (size_hint,))
}

/// `protocol.buffer_updated(nbytes)`
pub fn buffer_updated(
    protocol: &Bound<'_, PyAny>,
    context: Option<Ref>,
    received_bytes: usize,
) -> PyResult<()> {
    let py = protocol.py();
    within(py, context, || {
        protocol.call_method1(intern!(py, "buffer_updated"), (received_bytes,)).map(drop)
    })
}
