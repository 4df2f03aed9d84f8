//! Writing: plaintext goes to the engine at once, or waits for the handshake.
//!
//! Immutable `bytes` are kept by reference, anything else is copied before it can change.

use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::TlsTransport;
use super::ends::Side;
use crate::ffi::Ref;
use crate::ffi::call::bytes_of;
use crate::ffi::fastcall::Args;
use crate::future::none;
use crate::stdlib;
use crate::transport::write::contiguous;

/// Writes to a connection that is over which are dropped before a warning is logged.
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

impl TlsTransport {
    /// False if the connection is over or about to be; the data is dropped then, from the fifth
    /// time on with a warning.
    fn may_write(&self, py: Python<'_>) -> PyResult<bool> {
        if self.session.takes_plaintext() {
            return Ok(true);
        }
        let count = self.writes_after_loss.get();
        self.writes_after_loss.set(count + 1);
        if count >= SILENT_WRITES_AFTER_LOSS {
            stdlib::log(py, "warning", "SSL connection is closed", None)?;
        }
        Ok(false)
    }

    fn queue(&self, data: Ref) {
        let size = bytes_of(&data).len();
        if size > 0 {
            self.backlog_bytes.set(self.backlog_bytes.get() + size);
            self.backlog.borrow_mut().push_back((data, 0));
        }
    }

    /// `write(data)`
    #[inline]
    pub fn write_bytes(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let data = match data.is_exact_instance_of::<PyBytes>() {
            true => Ref::from_borrowed(data),
            false => copied(data)?,
        };
        if bytes_of(&data).is_empty() || !this.may_write(slf.py())? {
            return Ok(());
        }
        this.queue(data);
        this.session.written(&Side(slf))
    }
}

/// A bytes object of what the caller may change.
fn copied(data: &Bound<'_, PyAny>) -> PyResult<Ref> {
    let is_buffer = data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>();
    if !is_buffer {
        return Err(PyTypeError::new_err(format!(
            "data: expecting a bytes-like instance, got {}",
            data.get_type().name()?
        )));
    }
    Ok(Ref::new(PyBytes::new(data.py(), contiguous(data)?.bytes())))
}

/// `write(data)`
pub fn write<'py>(slf: &Bound<'py, TlsTransport>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let data = args.one("write", "data")?;
    TlsTransport::write_bytes(slf, data)?;
    Ok(none(slf.py()))
}

#[pymethods]
impl TlsTransport {
    /// Write every item of `list_of_data`, in order.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let mut parts = Vec::new();
        for item in list_of_data.try_iter()? {
            let item = item?;
            if item.is_exact_instance_of::<PyBytes>() {
                parts.push(Ref::new(item));
            } else {
                // As memoryview() would refuse what is no buffer.
                let view = PyMemoryView::from(&item)?.into_any();
                parts.push(Ref::new(PyBytes::new(py, contiguous(&view)?.bytes())));
            }
        }
        if !this.may_write(py)? {
            return Ok(());
        }
        for part in parts {
            this.queue(part);
        }
        this.session.written(&Side(slf))
    }

    /// TLS has no half-close: NotImplementedError, as from asyncio's `sslproto`.
    fn write_eof(&self) -> PyResult<()> {
        Err(PyNotImplementedError::new_err(()))
    }

    /// False: TLS has no half-close.
    fn can_write_eof(&self) -> bool {
        false
    }
}
