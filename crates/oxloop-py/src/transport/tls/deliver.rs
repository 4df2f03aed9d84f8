//! Plaintext to the protocol: by `data_received`, into a buffer of its own, or to TLS above.
//!
//! What was decrypted before an error is delivered before the error counts.

use oxloop_core::limits::{LARGE_RECEIVE_BYTES, READ_BUFFER_BYTES};
use oxloop_core::tls::ReadEnd;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

use super::TlsTransport;
use super::engine::Plaintext;
use crate::ffi::call::Exported;
use crate::ffi::received::{self, Room};
use crate::{protocol, stdlib};

/// How a protocol takes data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// By `data_received`.
    Protocol,
    /// By `get_buffer` and `buffer_updated`.
    Buffered,
    /// It is TLS inside TLS.
    Tls,
}

impl Kind {
    pub fn of(protocol: &Bound<'_, PyAny>) -> PyResult<Self> {
        if protocol.is_exact_instance_of::<TlsTransport>() {
            return Ok(Self::Tls);
        }
        let is_buffered = protocol.is_instance(stdlib::buffered_protocol(protocol.py())?)?;
        Ok(if is_buffered { Self::Buffered } else { Self::Protocol })
    }
}

/// Gives the protocol everything that has come.
pub(super) fn deliver(transport: &Bound<'_, TlsTransport>) -> PyResult<ReadEnd> {
    let py = transport.py();
    let this = transport.get();
    if this.kind.get() == Kind::Buffered {
        return fill(transport);
    }
    let plaintext = match this.engine.is_direct() {
        true => read_directly(transport)?,
        false => this.engine.read(py),
    };
    if let (Some(data), Some(protocol)) = (plaintext.data, this.protocol.bound(py)) {
        match protocol.cast_exact::<TlsTransport>() {
            Ok(above) => super::events::received(above, &data)?,
            Err(_) => protocol::data_received(&protocol, None, &data)?,
        }
    }
    plaintext.end
}

/// Decrypts what has come into one bytes object: straight if it is much, else by the loop's buffer.
fn read_directly<'py>(transport: &Bound<'py, TlsTransport>) -> PyResult<Plaintext<'py>> {
    let py = transport.py();
    let this = transport.get();
    let readable_bytes = this.engine.readable_directly_bytes();
    if readable_bytes >= LARGE_RECEIVE_BYTES {
        return read_large(transport, readable_bytes.min(READ_BUFFER_BYTES));
    }
    let home = this.home(py)?;
    let mut buffer = home.get().tls_buffer.lend();
    let (filled, end) = this.engine.read_directly(py, Room::from(&mut buffer[..]));
    let data = (filled > 0).then(|| PyBytes::new(py, &buffer[..filled]).into_any());
    home.get().tls_buffer.give_back(buffer, filled);
    Ok(Plaintext { data, end })
}

fn read_large<'py>(transport: &Bound<'py, TlsTransport>, size: usize) -> PyResult<Plaintext<'py>> {
    let py = transport.py();
    let mut end = Ok(ReadEnd::Drained);
    let data = received::bytes(py, size, |room| {
        let filled;
        (filled, end) = transport.get().engine.read_directly(py, Room::from(room));
        filled
    })?;
    let is_empty = data.as_bytes().is_empty();
    Ok(Plaintext { data: (!is_empty).then(|| data.into_any()), end })
}

/// Fills the protocol's own buffer, once.
fn fill(transport: &Bound<'_, TlsTransport>) -> PyResult<ReadEnd> {
    let py = transport.py();
    let this = transport.get();
    let Some(protocol) = this.protocol.bound(py) else { return Ok(ReadEnd::Drained) };
    if !this.engine.is_readable(py)? {
        return Ok(ReadEnd::Drained);
    }
    let hint = this.engine.incoming_bytes(py)?;
    let buffer = protocol::get_buffer_of(&protocol, hint)?;
    if this.engine.is_direct() {
        return fill_directly(transport, &protocol, &buffer);
    }
    let buffer = PyMemoryView::from(&buffer)?;
    let size: usize = buffer.getattr(pyo3::intern!(py, "nbytes"))?.extract()?;
    if size == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    let (filled, end) = this.engine.read_into(&buffer, size);
    drop(buffer);
    if filled > 0 {
        protocol::buffer_updated(&protocol, None, filled)?;
    }
    end
}

/// As `fill`, past the methods of `ssl`.
fn fill_directly(
    transport: &Bound<'_, TlsTransport>,
    protocol: &Bound<'_, PyAny>,
    buffer: &Bound<'_, PyAny>,
) -> PyResult<ReadEnd> {
    let py = transport.py();
    let this = transport.get();
    let mut exported = Exported::writable(buffer)?;
    let size = exported.len();
    if size == 0 {
        return Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer"));
    }
    let home = this.home(py)?;
    let mut decrypted = home.get().tls_buffer.lend();
    let size = size.min(decrypted.len());
    let (filled, end) = this.engine.read_directly(py, Room::from(&mut decrypted[..size]));
    exported.bytes_mut()[..filled].copy_from_slice(&decrypted[..filled]);
    home.get().tls_buffer.give_back(decrypted, filled);
    drop(exported);
    if filled > 0 {
        protocol::buffer_updated(protocol, None, filled)?;
    }
    end
}
