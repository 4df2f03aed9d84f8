//! The transports of pipes: `_make_read_pipe_transport`, `_make_write_pipe_transport`.
//!
//! The coroutines over them, `connect_read_pipe` and `connect_write_pipe`, are in Python. The
//! reading end receives; the writing end of a pipe is watched for reading too, because that is how
//! the kernel tells that the other end has gone. A socket says it apart from what there is to read,
//! a character device not at all.

use std::os::fd::RawFd;

use oxloop_core::ReadMode;
use oxloop_core::sys::fd::Kind;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::EventLoop;
use crate::ffi::Ref;
use crate::transport::{PipeEnd, ReadPipeTransport, WritePipeTransport};

impl EventLoop {
    /// Whether a transport or a callback of this loop is registered for the number.
    pub fn is_claimed(&self, fd: RawFd) -> bool {
        self.descriptors.borrow().contains_key(&fd)
    }
}

fn given(waiter: Option<&Bound<'_, PyAny>>) -> Option<Ref> {
    waiter.filter(|waiter| !waiter.is_none()).map(Ref::from_borrowed)
}

#[pymethods]
impl EventLoop {
    /// A transport that reads from the file or socket object `pipe`: schedules
    /// `protocol.connection_made(transport)`, starts reading after it, then resolves `waiter`.
    #[pyo3(signature = (pipe, protocol, waiter = None, extra = None))]
    fn _make_read_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, ReadPipeTransport>> {
        slf.get().check_open()?;
        let refusal = "Pipe transport is for pipes/sockets only.";
        let end = PipeEnd::adopt(slf, pipe, protocol, given(waiter), extra, refusal, |_| {
            Some(ReadMode::Recv)
        })?;
        ReadPipeTransport::open(slf.py(), end)
    }

    /// A transport that writes to the file or socket object `pipe`; as for reading.
    #[pyo3(signature = (pipe, protocol, waiter = None, extra = None))]
    fn _make_write_pipe_transport<'py>(
        slf: &Bound<'py, Self>,
        pipe: &Bound<'py, PyAny>,
        protocol: &Bound<'py, PyAny>,
        waiter: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, WritePipeTransport>> {
        slf.get().check_open()?;
        let refusal = "Pipe transport is only for pipes, sockets and character devices";
        let watch = |kind| match kind {
            Kind::CharacterDevice => None,
            Kind::Socket => Some(ReadMode::HangUp),
            _ => Some(ReadMode::Poll),
        };
        let end = PipeEnd::adopt(slf, pipe, protocol, given(waiter), extra, refusal, watch)?;
        WritePipeTransport::open(slf.py(), end)
    }
}
