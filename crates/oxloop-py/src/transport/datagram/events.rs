//! What the driver's completions mean for a datagram protocol.
//!
//! Grammar: `connection_made (datagram_received | error_received | pause_writing |
//! resume_writing)* connection_lost`, the last exactly once and nothing after it. The driver
//! receives one datagram per completion, so a pause or a close in one callback holds for the next.
//! An exception of the protocol is reported by the loop, and the transport goes on, as in asyncio.

use std::io;

use oxloop_core::{Driver as _, Op, Outcome, SockAddr};
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::super::reports;
use super::DatagramTransport;
use super::address::{Family, LastSender};
use crate::convert;
use crate::event_loop::Chunk;
use crate::protocol;

/// Bytes of a datagram for which there is room; asyncio's value, and more than any has.
const DATAGRAM_BYTES_MAX: usize = 256 * 1024;

/// The first job of a transport: `connection_made`, then reading, then the waiter.
pub(super) fn begin(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let transport = object.cast::<DatagramTransport>()?;
    let this = transport.get();
    let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
    let made = protocol::connection_made(&user_protocol, this.context.get(), object);
    let told = reports::connection_made_told(made, || this.home(py), object);
    told.and(start(transport))
}

/// Starts reading and tells whoever waits for the transport.
fn start(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    this.started.set(true);
    let armed = arm(transport);
    if let Err(err) = armed {
        DatagramTransport::fail(transport, err, "Fatal read error on datagram transport")?;
    }
    reports::wake(py, this.waiter.take())
}

/// Asks the driver for datagrams, if they are to be delivered.
pub(super) fn arm(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    if !this.started.get() || !this.wants_datagrams() {
        return Ok(());
    }
    let op = match this.family {
        Family::Other => Op::PollRead,
        _ => Op::RecvFrom,
    };
    let home = this.home(py)?;
    home.get().check_open()?;
    let submitted = home.get().core().driver.borrow_mut().submit(this.token.get(), op);
    submitted.map(drop).map_err(|err| convert::os_error(py, err))
}

/// A completion of the driver.
pub(super) fn completed(object: &Bound<'_, PyAny>, outcome: Outcome<Chunk>) -> PyResult<()> {
    let transport = object.cast::<DatagramTransport>()?;
    if transport.get().is_lost() {
        return Ok(());
    }
    match outcome {
        Outcome::ReceivedFrom(result) => received(transport, result),
        Outcome::Readable => receive_by_object(transport),
        Outcome::Writable => DatagramTransport::flush(transport),
        _ => Ok(()),
    }
}

/// One datagram, or an error that one of ours or of the network has caused.
#[inline]
fn received(
    transport: &Bound<'_, DatagramTransport>,
    result: io::Result<(usize, Box<SockAddr>)>,
) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let (count, sender) = match result {
        Ok(received) => received,
        Err(err) => return tell_error(transport, convert::os_error(py, err)),
    };
    let data = {
        let home = this.home(py)?;
        // `bytes` is no object of the collector: nothing else runs while we borrow.
        let driver = home.get().core().driver.borrow();
        let received = driver.received();
        PyBytes::new(py, &received[..count.min(received.len())])
    };
    let mut last = this.last_sender.take();
    let sender = LastSender::show(py, &mut last, &sender);
    this.last_sender.replace(last);
    deliver(transport, data.as_any(), &sender?)
}

fn deliver(
    transport: &Bound<'_, DatagramTransport>,
    data: &Bound<'_, PyAny>,
    sender: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let this = transport.get();
    let Some(user_protocol) = this.protocol.bound(transport.py()) else { return Ok(()) };
    protocol::datagram_received(&user_protocol, this.context.get(), data, sender)
}

fn tell_error(transport: &Bound<'_, DatagramTransport>, err: PyErr) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
    protocol::error_received(&user_protocol, this.context.get(), err.value(py))
}

/// One datagram of a family whose addresses only the socket module knows.
fn receive_by_object(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    if !this.wants_datagrams() {
        return Ok(());
    }
    let sock = this.connection.raw_socket(py)?;
    let result = sock
        .call_method1(intern!(py, "recvfrom"), (DATAGRAM_BYTES_MAX,))
        .and_then(|pair| pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>());
    match result {
        Ok((data, sender)) => deliver(transport, &data, &sender),
        Err(err)
            if err.is_instance_of::<PyBlockingIOError>(py)
                || err.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(())
        }
        Err(err) if err.is_instance_of::<PyOSError>(py) => tell_error(transport, err),
        Err(err) => {
            DatagramTransport::fail(transport, err, "Fatal read error on datagram transport")
        }
    }
}

/// The last job of a transport: `connection_lost`, then the descriptor is closed.
pub(super) fn lose(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let transport = object.cast::<DatagramTransport>()?;
    let this = transport.get();
    let error = match this.lost_error.take() {
        Some(error) => error.into_bound(py),
        None => py.None().into_bound(py),
    };
    let told = match this.protocol.bound(py) {
        Some(user_protocol) => {
            protocol::connection_lost(&user_protocol, this.context.get(), &error)
        }
        None => Ok(()),
    };
    let let_go = release(transport);
    told.and(let_go)
}

/// Lets go of everything: driver, descriptor, protocol, loop.
fn release(transport: &Bound<'_, DatagramTransport>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let home = this.home(py)?;
    this.forget_source(&home);
    let closed = this.connection.release(py);
    let parts = (this.protocol.take(), this.context.take(), this.home.take(), this.waiter.take());
    drop(parts);
    closed
}
