//! `StreamWriter.drain()`, and the part of it that waits in the protocol.
//!
//! Facts: on a transport that is closing, one turn of the loop passes first, so that the loss of the
//! connection is known and raised; else a program that only writes and drains would never notice.
//! While a transport of ours still sends what it has, asyncio's `drain()` returns at once, and such a
//! program spins (python/cpython#80982): here it waits for the end of the connection.
//! Several tasks may wait at once. The protocol may be a program's own, with its `_drain_helper`.

use std::cell::{Cell, RefCell};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::protocol::StreamReaderProtocol;
use super::writer::{StreamWriter, native_transport};
use super::{plain_protocol, plain_reader};
use crate::coroutine::{Body, Progress, Waiter};
use crate::ffi::{Ref, error};
use crate::future::none;
use crate::transport::TlsTransport;

/// The wait for a protocol that is paused.
pub struct DrainHelper {
    protocol: Ref,
    waiter: RefCell<Option<Waiter>>,
    /// The transport is closing: room for more is no reason to go on.
    until_lost: bool,
}

impl DrainHelper {
    pub fn new(protocol: &Bound<'_, StreamReaderProtocol>) -> Self {
        Self::with(protocol, false)
    }

    fn with(protocol: &Bound<'_, StreamReaderProtocol>, until_lost: bool) -> Self {
        let protocol = Ref::from_borrowed(protocol);
        Self { protocol, waiter: RefCell::default(), until_lost }
    }

    fn wait(&self, py: Python<'_>) -> PyResult<Progress> {
        // Only `with` fills the field.
        let protocol = self.protocol.bind_as::<StreamReaderProtocol>(py).get();
        let waiter = protocol.add_drain_waiter(py)?;
        let progress = waiter.wait();
        self.waiter.replace(Some(waiter));
        Ok(progress)
    }

    fn traverse_waiter(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.protocol.traverse(visit)?;
        match self.waiter.try_borrow() {
            Ok(waiter) => waiter.iter().try_for_each(|waiter| waiter.traverse(visit)),
            Err(_) => Ok(()),
        }
    }
}

impl Body for DrainHelper {
    fn qualified_name(&self) -> &'static str {
        "StreamReaderProtocol._drain_helper"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let protocol = self.protocol.bind_as::<StreamReaderProtocol>(py).get();
        if protocol.may_write()? && !self.until_lost {
            return Ok(Progress::Return(none(py)));
        }
        self.wait(py)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let waiter = self.waiter.take();
        let protocol = self.protocol.bind_as::<StreamReaderProtocol>(py).get();
        if let Some(waiter) = &waiter {
            protocol.remove_drain_waiter(waiter);
        }
        outcome?;
        if self.until_lost && !protocol.is_lost() {
            return self.wait(py);
        }
        Ok(Progress::Return(none(py)))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse_waiter(visit)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The turn of a closing transport.
    Turn,
    /// In the protocol.
    Helper,
}

/// `drain()`.
pub struct Drain {
    writer: Ref,
    stage: Cell<Stage>,
    helper: RefCell<Option<DrainHelper>>,
}

impl Drain {
    pub fn new(writer: &Bound<'_, StreamWriter>) -> Self {
        Self {
            writer: Ref::from_borrowed(writer),
            stage: Cell::new(Stage::Turn),
            helper: RefCell::default(),
        }
    }

    /// Whether the transport is one that is sure to tell its end, and is closing.
    fn is_ours_and_closing(&self, py: Python<'_>) -> PyResult<bool> {
        let transport = self.writer.bind_as::<StreamWriter>(py).get().transport.or_none(py);
        if let Some(transport) = native_transport(&transport) {
            return Ok(transport.get().is_closing());
        }
        match transport.cast_exact::<TlsTransport>() {
            Ok(transport) => transport.call_method0(intern!(py, "is_closing"))?.is_truthy(),
            Err(_) => Ok(false),
        }
    }

    fn help(&self, py: Python<'_>) -> PyResult<Progress> {
        self.stage.set(Stage::Helper);
        // Only `new` fills the field.
        let protocol = self.writer.bind_as::<StreamWriter>(py).get().protocol.or_none(py);
        let Some(native) = plain_protocol(&protocol) else {
            let helper = protocol.call_method0(intern!(py, "_drain_helper"))?;
            return Ok(Progress::Await(Ref::new(helper)));
        };
        let until_lost = self.is_ours_and_closing(py)?;
        if native.get().may_write()? && !until_lost {
            return Ok(Progress::Return(none(py)));
        }
        let helper = DrainHelper::with(native, until_lost);
        let progress = helper.begin(py)?;
        self.helper.replace(Some(helper));
        Ok(progress)
    }
}

impl Body for Drain {
    fn qualified_name(&self) -> &'static str {
        "StreamWriter.drain"
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let writer = self.writer.bind_as::<StreamWriter>(py).get();
        let reader = writer.reader.or_none(py);
        if !reader.is_none() {
            match plain_reader(&reader) {
                Some(reader) => reader.get().check_exception(py)?,
                None => {
                    let exception = reader.call_method0(intern!(py, "exception"))?;
                    if !exception.is_none() {
                        return Err(error::raised(&exception));
                    }
                }
            }
        }
        let transport = writer.transport.or_none(py);
        let is_closing = match native_transport(&transport) {
            Some(transport) => transport.get().is_closing(),
            None => transport.call_method0(intern!(py, "is_closing"))?.is_truthy()?,
        };
        if is_closing {
            return Ok(Progress::Pause);
        }
        self.help(py)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        if self.stage.get() == Stage::Turn {
            outcome?;
            return self.help(py);
        }
        let Some(helper) = self.helper.take() else {
            return outcome.map(|_| Progress::Return(none(py)));
        };
        let progress = helper.resumed(py, outcome)?;
        if matches!(progress, Progress::Await(_)) {
            // There is room again, and the connection has not ended.
            self.helper.replace(Some(helper));
        }
        Ok(progress)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.writer.traverse(visit)?;
        match self.helper.try_borrow() {
            Ok(helper) => helper.iter().try_for_each(|helper| helper.traverse_waiter(visit)),
            Err(_) => Ok(()),
        }
    }
}
