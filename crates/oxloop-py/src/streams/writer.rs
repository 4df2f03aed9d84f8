//! `StreamWriter`: a transport, and a `drain()` that waits until it takes more.
//!
//! Facts: a write is attempted at once, as asyncio does: what the socket takes is on its way when
//! `write` returns, and an error is known to the transport. So two writes are two system calls, and
//! `writelines` is one.
//! Decision: writing to a transport of ours is a call in Rust. What happens once in the life of a
//! stream (`start_tls`, `wait_closed`, the warning of `__del__`) is inherited from asyncio's class.
//! Source of behaviour: CPython `Lib/asyncio/streams.py`.

use pyo3::exceptions::PyAssertionError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::attributes::store;
use super::drain::Drain;
use super::plain_reader;
use super::reader::home_or_current;
use crate::coroutine::{Coroutine, Waiter};
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::future::none;
use crate::stdlib;
use crate::transport::{StreamTransport, TlsTransport};

/// The writing end of a stream.
#[pyclass(frozen, subclass, module = "oxloop._oxloop", name = "StreamWriter")]
pub struct StreamWriter {
    pub(super) home: Slot,
    pub(super) transport: Slot,
    pub(super) protocol: Slot,
    pub(super) reader: Slot,
    complete: Slot,
}

attached_only!(StreamWriter);

/// A transport of ours, whose methods nobody can replace.
#[inline]
pub(super) fn native_transport<'a, 'py>(
    transport: &'a Bound<'py, PyAny>,
) -> Option<&'a Bound<'py, StreamTransport>> {
    transport.cast_exact::<StreamTransport>().ok()
}

/// `write(data)`
pub fn write<'py>(slf: &Bound<'py, StreamWriter>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let py = slf.py();
    let data = args.one("write", "data")?;
    let transport = slf.get().transport.or_none(py);
    match native_transport(&transport) {
        Some(transport) => StreamTransport::write_bytes(transport, data)?,
        None => match transport.cast_exact::<TlsTransport>() {
            Ok(transport) => TlsTransport::write_bytes(transport, data)?,
            Err(_) => drop(call::call_method_one(&transport, intern!(py, "write"), data)?),
        },
    }
    Ok(none(py))
}

/// `drain()`
pub fn drain<'py>(slf: &Bound<'py, StreamWriter>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("drain")?;
    Coroutine::make(slf.py(), Drain::new(slf))
}

#[pymethods]
impl StreamWriter {
    #[new]
    #[pyo3(
        signature = (*_args, **_kwargs),
        text_signature = "(transport, protocol, reader, loop)"
    )]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            home: Slot::empty(),
            transport: Slot::empty(),
            protocol: Slot::empty(),
            reader: Slot::empty(),
            complete: Slot::empty(),
        }
    }

    /// A writer over `transport`; `protocol` says when it must wait, `reader` may be None.
    fn __init__(
        slf: &Bound<'_, Self>,
        transport: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        reader: &Bound<'_, PyAny>,
        r#loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let is_reader = reader.is_none()
            || plain_reader(reader).is_some()
            || reader.is_instance(stdlib::asyncio_stream_reader(py)?)?;
        let this = slf.get();
        this.transport.set(Ref::from_borrowed(transport));
        this.protocol.set(Ref::from_borrowed(protocol));
        if !is_reader {
            return Err(PyAssertionError::new_err(()));
        }
        this.reader.set(Ref::from_borrowed(reader));
        this.home.set(Ref::from_borrowed(r#loop));
        Ok(())
    }

    /// Write every item of `data`, in order, with as few system calls as possible.
    fn writelines(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let transport = self.transport.or_none(py);
        call::call_method_one(&transport, intern!(py, "writelines"), data).map(drop)
    }

    /// Close the write side once everything written is sent (half-close).
    fn write_eof<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.transport.or_none(py).call_method0(intern!(py, "write_eof"))
    }

    /// Whether the transport has half-close.
    fn can_write_eof<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.transport.or_none(py).call_method0(intern!(py, "can_write_eof"))
    }

    /// Close the stream: what was written is sent first.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.transport.or_none(py).call_method0(intern!(py, "close"))
    }

    /// True if the stream is closed or closing.
    fn is_closing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.transport.or_none(py).call_method0(intern!(py, "is_closing"))
    }

    /// What the transport knows by `name`, or `default`.
    #[pyo3(signature = (name, default = None))]
    fn get_extra_info<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyAny>,
        default: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let transport = self.transport.or_none(py);
        transport.call_method1(intern!(py, "get_extra_info"), (name, default))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let this = slf.get();
        let mut text =
            format!("<{} transport={}", slf.get_type().name()?, this.transport.or_none(py).repr()?);
        let reader = this.reader.or_none(py);
        if !reader.is_none() {
            text += &format!(" reader={}", reader.repr()?);
        }
        Ok(text + ">")
    }

    /// The transport.
    #[getter]
    fn transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.transport.or_none(py)
    }

    #[getter]
    fn _transport<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.transport.or_none(py)
    }

    #[setter(_transport)]
    fn replace_transport(&self, value: &Bound<'_, PyAny>) {
        store(&self.transport, value);
    }

    #[getter]
    fn _protocol<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.protocol.or_none(py)
    }

    #[setter(_protocol)]
    fn replace_protocol(&self, value: &Bound<'_, PyAny>) {
        store(&self.protocol, value);
    }

    #[getter]
    fn _reader<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.reader.or_none(py)
    }

    #[setter(_reader)]
    fn replace_reader(&self, value: &Bound<'_, PyAny>) {
        store(&self.reader, value);
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.or_none(py)
    }

    #[setter(_loop)]
    fn replace_loop(&self, value: &Bound<'_, PyAny>) {
        store(&self.home, value);
    }

    /// A future that is done, made when somebody asks.
    #[getter]
    fn _complete_fut<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(complete) = self.complete.bound(py) {
            return Ok(complete);
        }
        let home = home_or_current(py, self.home.bound(py).as_ref())?;
        let waiter = Waiter::new(&home)?;
        waiter.wake(py, none(py))?;
        self.complete.set(waiter.as_future().clone());
        Ok(self.complete.or_none(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [&self.home, &self.transport, &self.protocol, &self.reader, &self.complete] {
            slot.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let parts = (
            self.protocol.take(),
            self.reader.take(),
            self.transport.take(),
            self.complete.take(),
            self.home.take(),
        );
        drop(parts);
    }
}
