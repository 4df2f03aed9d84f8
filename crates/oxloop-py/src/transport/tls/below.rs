//! What is asked of the transport below: a stream, or TLS again.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::TlsTransport;
use crate::ffi::{Ref, Slot};
use crate::transport::StreamTransport;

/// The transport below, by its type.
pub(super) enum Below<'py> {
    Stream(Bound<'py, StreamTransport>),
    Tls(Bound<'py, TlsTransport>),
}

impl<'py> Below<'py> {
    /// What the slot holds; None before the beginning and after the loss.
    pub fn of(py: Python<'py>, slot: &Slot) -> Option<Self> {
        let object = slot.bound(py)?;
        match object.cast_into::<StreamTransport>() {
            Ok(stream) => Some(Self::Stream(stream)),
            // Nothing else is ever stored: `events::begin` checks.
            Err(err) => err.into_inner().cast_into::<TlsTransport>().ok().map(Self::Tls),
        }
    }

    /// Whether `object` can carry TLS natively.
    pub fn is_possible(object: &Bound<'_, PyAny>) -> bool {
        object.is_instance_of::<StreamTransport>() || object.is_instance_of::<TlsTransport>()
    }

    pub fn write(&self, data: &Bound<'py, PyAny>) -> PyResult<()> {
        match self {
            Self::Stream(stream) => StreamTransport::write_bytes(stream, data),
            Self::Tls(tls) => TlsTransport::write_bytes(tls, data),
        }
    }

    /// Writes bytes that are the caller's.
    pub fn write_slice(&self, data: &[u8]) -> PyResult<()> {
        match self {
            Self::Stream(stream) => StreamTransport::write_slice(stream, data),
            Self::Tls(tls) => TlsTransport::write_bytes(tls, &PyBytes::new(tls.py(), data)),
        }
    }

    pub fn pause_reading(&self, pause: bool) -> PyResult<()> {
        match self {
            Self::Stream(stream) if pause => StreamTransport::pause(stream),
            Self::Stream(stream) => StreamTransport::resume(stream),
            Self::Tls(tls) => {
                TlsTransport::pause(tls, pause);
                Ok(())
            }
        }
    }

    pub fn close(&self) -> PyResult<()> {
        match self {
            Self::Stream(stream) => StreamTransport::close_gently(stream),
            Self::Tls(tls) => TlsTransport::close_gently(tls),
        }
    }

    pub fn abort(&self, error: Option<Ref>) -> PyResult<()> {
        match self {
            Self::Stream(stream) if !stream.get().connection.is_open() => Ok(()),
            Self::Stream(stream) => StreamTransport::force_close(stream, error),
            Self::Tls(tls) => TlsTransport::force_close(tls, error),
        }
    }

    pub fn is_closing(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.get().is_closing(),
            Self::Tls(tls) => tls.get().is_closing_now(),
        }
    }

    pub fn context(&self) -> Option<Ref> {
        match self {
            Self::Stream(stream) => stream.get().context.get(),
            Self::Tls(tls) => tls.get().context.get(),
        }
    }

    pub fn as_any(&self) -> &Bound<'py, PyAny> {
        match self {
            Self::Stream(stream) => stream.as_any(),
            Self::Tls(tls) => tls.as_any(),
        }
    }
}

/// `transport.close()`, as a job of the loop.
pub(super) fn close(object: &Bound<'_, PyAny>) -> PyResult<()> {
    match object.cast::<StreamTransport>() {
        Ok(stream) => StreamTransport::close_gently(stream),
        Err(_) => TlsTransport::close_gently(object.cast::<TlsTransport>()?),
    }
}
