//! The beginning of a connection: the reader learns its transport, a server calls its callback.
//!
//! A coroutine that the callback returns becomes a task, which the protocol holds until the
//! connection is lost. An exception, of the callback or of its coroutine, goes to the exception
//! handler, and the connection is closed; a task that was cancelled closes it in silence. All of
//! this on every version.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use super::protocol::StreamReaderProtocol;
use super::writer_class;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::stdlib;

/// Whether asyncio's protocol of this version holds the writer of a server's connection.
fn holds_writer(py: Python<'_>) -> PyResult<bool> {
    static HOLDS: PyOnceLock<bool> = PyOnceLock::new();
    HOLDS
        .get_or_try_init(py, || {
            py.import("asyncio.streams")?
                .getattr("StreamReaderProtocol")?
                .hasattr("_replace_writer")
        })
        .copied()
}

#[pymethods]
impl StreamReaderProtocol {
    /// The connection exists: a server's callback is called, its coroutine becomes a task.
    fn connection_made(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let home = this.home.or_none(py);
        if this.rejects.get() {
            let report = PyDict::new(py);
            report.set_item(
                "message",
                "An open stream was garbage collected prior to establishing network connection; \
                 call \"stream.close()\" explicitly.",
            )?;
            if let Some(stack) = this.source_traceback.bound(py) {
                report.set_item("source_traceback", stack)?;
            }
            home.call_method1(intern!(py, "call_exception_handler"), (report,))?;
            transport.call_method0(intern!(py, "abort"))?;
            return Ok(());
        }
        this.transport.set(Ref::from_borrowed(transport));
        let reader = this.reader(py);
        if let Some(reader) = &reader {
            call::call_method_one(reader, intern!(py, "set_transport"), transport)?;
        }
        let over_tls = call::call_method_one(
            transport,
            intern!(py, "get_extra_info"),
            intern!(py, "sslcontext").as_any(),
        )?;
        this.over_tls.set(!over_tls.is_none());
        if let Some(callback) = this.connected_cb.bound(py) {
            let reader = reader.unwrap_or_else(|| py.None().into_bound(py));
            Self::serve(slf, &home, transport, &reader, &callback)?;
            this.strong_reader.clear();
        }
        Ok(())
    }
}

impl StreamReaderProtocol {
    /// Calls `client_connected_cb(reader, writer)`.
    fn serve(
        slf: &Bound<'_, Self>,
        home: &Bound<'_, PyAny>,
        transport: &Bound<'_, PyAny>,
        reader: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let writer = writer_class(py).call1((transport, slf, reader, home))?;
        if holds_writer(py)? {
            slf.get().writer.set(Ref::from_borrowed(&writer));
        }
        let answer = match callback.call1((reader, &writer)) {
            Ok(answer) => answer,
            Err(err) if err.is_instance_of::<PyException>(py) => {
                report_and_close(home, transport, err.value(py).as_any())?;
                return Ok(());
            }
            Err(err) => return Err(err),
        };
        drop(writer);
        if !stdlib::is_coroutine(py)?.call1((&answer,))?.is_truthy()? {
            return Ok(());
        }
        let task = call::call_method_one(home, intern!(py, "create_task"), &answer)?;
        slf.get().task.set(Ref::from_borrowed(&task));
        let done = ClientDone {
            home: Slot::holding(Ref::from_borrowed(home)),
            transport: Slot::holding(Ref::from_borrowed(transport)),
        };
        let done = Bound::new(py, done)?;
        call::call_method_one(&task, intern!(py, "add_done_callback"), done.as_any())?;
        Ok(())
    }
}

/// What becomes of an exception of the callback, or of its coroutine.
fn report_and_close(
    home: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    exception: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = home.py();
    let report = PyDict::new(py);
    report.set_item("message", "Unhandled exception in client_connected_cb")?;
    report.set_item("exception", exception)?;
    report.set_item("transport", transport)?;
    home.call_method1(intern!(py, "call_exception_handler"), (report,))?;
    transport.call_method0(intern!(py, "close")).map(drop)
}

/// The done callback of the task of a server's connection.
#[pyclass(frozen, module = "oxloop._oxloop", name = "_ClientDone")]
pub struct ClientDone {
    home: Slot,
    transport: Slot,
}

attached_only!(ClientDone);

#[pymethods]
impl ClientDone {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = task.py();
        let transport = self.transport.or_none(py);
        if !task.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
            let exception = task.call_method0(intern!(py, "exception"))?;
            if exception.is_none() {
                return Ok(());
            }
            return report_and_close(&self.home.or_none(py), &transport, &exception);
        }
        transport.call_method0(intern!(py, "close"))?;
        Ok(())
    }

    /// The name of asyncio's own callback, which the repr of the task shows.
    #[getter]
    fn __qualname__(&self) -> &'static str {
        "StreamReaderProtocol.connection_made.<locals>.callback"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.home.traverse(&visit)?;
        self.transport.traverse(&visit)
    }

    fn __clear__(&self) {
        drop((self.home.take(), self.transport.take()));
    }
}
