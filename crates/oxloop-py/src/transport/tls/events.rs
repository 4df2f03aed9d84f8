//! What the transport below reports: its beginning, ciphertext, its end, room to write, its loss.
//!
//! The caller has entered the connection's context already; what is scheduled here enters it anew.

use oxloop_core::tls::{Phase, Timer};
use pyo3::exceptions::{PyException, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;

use super::TlsTransport;
use super::below::Below;
use super::deliver::Kind;
use super::ends::Side;
use crate::event_loop::Job;
use crate::ffi::Ref;
use crate::protocol;

/// The transport below is ready: the handshake begins.
pub fn begin(transport: &Bound<'_, TlsTransport>, below: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    if !Below::is_possible(below) {
        return Err(PyTypeError::new_err("TLS needs a transport of this event loop"));
    }
    if this.below.is_some() || this.closed.get() {
        return Ok(());
    }
    this.below.set(Ref::from_borrowed(below));
    if let Some(context) = Below::of(py, &this.below).and_then(|below| below.context()) {
        this.context.set(context);
    }
    this.session.start(&Side(transport))
}

/// Takes ciphertext past Python, if that can be done; [`fed`] has to follow then. Runs no Python.
#[inline]
pub fn feed_directly(transport: &TlsTransport, data: &[u8]) -> bool {
    transport.engine.feed_directly(data)
}

/// The engine was given ciphertext.
#[inline]
pub fn fed(transport: &Bound<'_, TlsTransport>) -> PyResult<()> {
    transport.get().session.received(&Side(transport))
}

/// Ciphertext has come.
#[inline]
pub fn received(transport: &Bound<'_, TlsTransport>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = transport.get();
    if this.session.phase() == Phase::Unwrapped && this.below.is_some() {
        // Over already, and nobody will ever read it.
        return Ok(());
    }
    this.engine.feed(data)?;
    fed(transport)
}

/// The peer's end of the transport below. Whether it is to stay open.
pub fn ended(transport: &Bound<'_, TlsTransport>) -> PyResult<bool> {
    let side = Side(transport);
    side.log_debug(|name| format!("{name} received EOF"))?;
    let ended = transport.get().session.transport_ended(&side);
    match ended {
        Err(err) if err.is_instance_of::<PyException>(transport.py()) => {
            if let Some(below) = side.below() {
                below.close()?;
            }
            Err(err)
        }
        ended => ended,
    }
}

/// The transport below has too much to send, or room again.
pub fn flow(transport: &Bound<'_, TlsTransport>, pause: bool) -> PyResult<()> {
    let session = &transport.get().session;
    if pause {
        session.transport_full();
        return Ok(());
    }
    session.transport_has_room(&Side(transport))
}

/// The transport below is lost, because of `error` (None: by request).
pub fn lost(transport: &Bound<'_, TlsTransport>, error: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let side = Side(transport);
    this.drop_backlog();
    this.closed.set(true);
    this.writes_after_loss.set(this.writes_after_loss.get() + 1);
    if this.session.lost() {
        if !error.is_none() {
            this.lost_error.set(Ref::from_borrowed(error));
        }
        this.home(py)?.get().push(Job::Method(Ref::from_borrowed(transport), lose));
    } else {
        let parts = (this.protocol.take(), this.context.take());
        drop(parts);
    }
    this.below.clear();
    let discarded = this.engine.fetch(py).map(drop);
    let stopped = side.stop(Timer::Handshake).and(side.stop(Timer::Shutdown));
    let told = side.wake(if error.is_none() { None } else { Some(error) });
    this.forget();
    discarded.and(stopped).and(told)
}

/// The last job: the protocol's `connection_lost`.
fn lose(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let this = object.cast::<TlsTransport>()?.get();
    let error = match this.lost_error.take() {
        Some(error) => error.into_bound(py),
        None => py.None().into_bound(py),
    };
    let context = this.context.take();
    let Some(protocol) = this.protocol.take() else { return Ok(()) };
    let protocol = protocol.into_bound(py);
    if this.kind.get() == Kind::Tls {
        return protocol::within(py, context, || lost(protocol.cast::<TlsTransport>()?, &error));
    }
    protocol::connection_lost(&protocol, context, &error)
}

/// Reads again, as a job: there may be more, or the protocol wants it now.
pub(super) fn read_again(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let transport = object.cast::<TlsTransport>()?;
    let this = transport.get();
    protocol::within(object.py(), this.context.get(), || this.session.resumed(&Side(transport)))
}

/// The end of a timeout.
#[pyfunction]
pub(super) fn handshake_timed_out(transport: &Bound<'_, TlsTransport>) -> PyResult<()> {
    transport.get().session.timed_out(&Side(transport), Timer::Handshake)
}

/// The end of a timeout.
#[pyfunction]
pub(super) fn shutdown_timed_out(transport: &Bound<'_, TlsTransport>) -> PyResult<()> {
    transport.get().session.timed_out(&Side(transport), Timer::Shutdown)
}

/// Cancels a timer handle.
pub(super) fn cancel(timer: Option<Ref>, py: Python<'_>) -> PyResult<()> {
    match timer {
        Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
        None => Ok(()),
    }
}
