//! Writing: what is sent at once, what is kept, and when the protocol must pause.
//!
//! Immutable `bytes` are kept by reference; what the caller may change is copied as soon as the
//! socket does not take all of it. Writes after the connection is over are dropped, as asyncio does.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::StreamTransport;
use super::limits::water_marks;
use crate::event_loop::Chunk;
use crate::ffi::Ref;
use crate::ffi::call::{Exported, bytes_of};
use crate::ffi::fastcall::Args;
use crate::future::none;
use crate::stdlib;

/// Writes to a lost connection that are dropped before a warning is logged.
const SILENT_WRITES_AFTER_LOSS: u32 = 5;

impl StreamTransport {
    /// Writes after the connection is over are dropped; from the fifth on with a warning.
    fn drop_write(&self, py: Python<'_>) -> PyResult<()> {
        let count = self.writes_after_loss.get() + 1;
        self.writes_after_loss.set(count);
        if count >= SILENT_WRITES_AFTER_LOSS {
            stdlib::log(py, "warning", "socket.send() raised exception.", None)?;
        }
        Ok(())
    }

    /// What `write` and `writelines` check first; false: drop the data.
    fn may_write(&self, py: Python<'_>, is_empty: bool) -> PyResult<bool> {
        if self.stream.borrow().eof_requested() {
            return Err(PyRuntimeError::new_err("Cannot call write() after write_eof()"));
        }
        self.sendfile.refuse("write")?;
        if self.is_lost() || !self.connection.is_open() {
            if !is_empty {
                self.drop_write(py)?;
            }
            return Ok(false);
        }
        Ok(true)
    }

    #[inline]
    pub fn write_bytes(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if data.is_exact_instance_of::<PyBytes>() {
            let object = Ref::from_borrowed(data);
            if !this.may_write(py, bytes_of(&object).is_empty())? {
                return Ok(());
            }
            let home = this.home(py)?;
            let written = this.with_stream(&home, |stream, driver| {
                stream.write(driver, bytes_of(&object), |start| Chunk::Shared {
                    object: object.clone(),
                    start,
                })
            });
            return Self::wrote(slf, written);
        }
        let is_buffer = data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        if !is_buffer {
            let wanted = if stdlib::at_least(py, 14) {
                "bytes, bytearray, or memoryview"
            } else {
                "bytes-like"
            };
            return Err(PyTypeError::new_err(format!(
                "data argument must be a {wanted} object, not '{}'",
                data.get_type().name()?
            )));
        }
        if !this.may_write(py, data.len()? == 0)? {
            return Ok(());
        }
        let contiguous = contiguous(data)?;
        let home = this.home(py)?;
        let written = this.with_stream(&home, |stream, driver| {
            let bytes = contiguous.bytes();
            // The caller may change its buffer as soon as we return.
            stream.write(driver, bytes, |start| Chunk::Owned(bytes[start..].into()))
        });
        drop(contiguous);
        Self::wrote(slf, written)
    }

    /// Writes bytes that stay the caller's.
    #[inline]
    pub(super) fn write_slice(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.may_write(py, data.is_empty())? {
            return Ok(());
        }
        let home = this.home(py)?;
        let written = this.with_stream(&home, |stream, driver| {
            stream.write(driver, data, |start| Chunk::Owned(data[start..].into()))
        });
        Self::wrote(slf, written)
    }

    /// What a write did to the protocol's flow, or to the connection.
    #[inline]
    fn wrote(slf: &Bound<'_, Self>, written: std::io::Result<bool>) -> PyResult<()> {
        match written {
            Ok(false) => Ok(()),
            Ok(true) => Self::tell_flow(slf, true),
            Err(err) => {
                let err = crate::convert::os_error(slf.py(), err);
                Self::fail(slf, err, "Fatal write error on socket transport")
            }
        }
    }
}

/// The bytes of `data` in one piece; what is not contiguous is copied first.
pub(super) fn contiguous(data: &Bound<'_, PyAny>) -> PyResult<Exported> {
    match Exported::readable(data) {
        Ok(exported) => Ok(exported),
        Err(err) if data.is_instance_of::<PyMemoryView>() => {
            match data.call_method0(intern!(data.py(), "tobytes")) {
                Ok(copy) => Exported::readable(&copy),
                Err(_) => Err(err),
            }
        }
        Err(err) => Err(err),
    }
}

/// `write(data)`
pub fn write<'py>(slf: &Bound<'py, StreamTransport>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let data = args.one("write", "data")?;
    StreamTransport::write_bytes(slf, data)?;
    Ok(none(slf.py()))
}

#[pymethods]
impl StreamTransport {
    /// Write every item of `list_of_data`, in order, with as few system calls as possible.
    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.stream.borrow().eof_requested() {
            return Err(PyRuntimeError::new_err("Cannot call writelines() after write_eof()"));
        }
        this.sendfile.refuse("writelines")?;
        let mut chunks = Vec::new();
        for item in list_of_data.try_iter()? {
            let item = item?;
            if item.is_exact_instance_of::<PyBytes>() {
                chunks.push(Chunk::Shared { object: Ref::new(item), start: 0 });
            } else {
                // As memoryview() would refuse what is no buffer.
                let exported = contiguous(&PyMemoryView::from(&item)?.into_any())?;
                chunks.push(Chunk::Owned(exported.bytes().into()));
            }
        }
        chunks.retain(|chunk| !chunk.as_ref().is_empty());
        if chunks.is_empty() || !this.may_write(py, false)? {
            return Ok(());
        }
        let home = this.home(py)?;
        let written = this.with_stream(&home, |stream, driver| stream.write_chunks(driver, chunks));
        Self::wrote(slf, written)
    }

    /// Close the write side once everything written is sent (half-close).
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost() || !this.connection.is_open() {
            return Ok(());
        }
        let home = this.home(py)?;
        let shut = this.with_stream(&home, |stream, driver| stream.write_eof(driver));
        shut.map_err(|err| crate::convert::os_error(py, err))
    }

    /// Bytes that were written and not sent yet.
    fn get_write_buffer_size(&self) -> usize {
        self.stream.borrow().buffered_bytes()
    }

    /// `(low, high)` in bytes.
    fn get_write_buffer_limits(&self) -> (usize, usize) {
        self.stream.borrow().limits()
    }

    /// Pause the protocol above `high` bytes, resume it at `low`.
    #[pyo3(signature = (high = None, low = None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<&Bound<'_, PyAny>>,
        low: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (high, low) = water_marks(high, low)?;
        let change = slf.get().stream.borrow_mut().set_limits(high, low);
        if change.is_some() { Self::tell_flow(slf, true) } else { Ok(()) }
    }
}
