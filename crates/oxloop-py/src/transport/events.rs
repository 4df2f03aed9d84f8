//! What the driver's completions mean for the protocol.
//!
//! The path of a byte ends here: the driver's receive is in its shared buffer, the core's stream
//! says what it was, one exact `bytes` object is made, and the protocol gets it; `large.rs` receives
//! large messages without the buffer. Grammar, per
//! connection: `connection_made (data_received | pause_writing | resume_writing)* eof_received?
//! connection_lost`, the last exactly once and nothing after it.

use oxloop_core::{Driver as _, Outcome, ReadEvent, ReadMode};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::tls::{self, TlsTransport};
use super::{StreamTransport, large, reports};
use crate::convert;
use crate::event_loop::{Chunk, EventLoop};
use crate::ffi::call::Exported;
use crate::handle::is_fatal;
use crate::protocol;

/// The first job of a transport: `connection_made`, then reading, then the waiter.
pub(super) fn begin(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let transport = object.cast::<StreamTransport>()?;
    let this = transport.get();
    let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
    let made = match user_protocol.cast_exact::<TlsTransport>() {
        Ok(above) => protocol::within(py, this.context.get(), || tls::events::begin(above, object)),
        Err(_) => protocol::connection_made(&user_protocol, this.context.get(), object),
    };
    let told = reports::connection_made_told(made, || this.home(py), object);
    told.and(start(transport))
}

/// Starts reading and tells whoever waits for the connection.
fn start(transport: &Bound<'_, StreamTransport>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    if this.connection.is_open() && !this.is_lost() {
        let home = this.home(py)?;
        let mode = this.read_mode();
        let started = this.with_stream(&home, |stream, driver| stream.start_reading(driver, mode));
        if let Err(err) = started {
            let err = convert::os_error(py, err);
            StreamTransport::fail(transport, err, "Fatal read error on socket transport")?;
        }
    }
    reports::wake(py, this.waiter.take())
}

/// A completion of the driver.
pub(super) fn completed(object: &Bound<'_, PyAny>, outcome: Outcome<Chunk>) -> PyResult<()> {
    let transport = object.cast::<StreamTransport>()?;
    let py = object.py();
    let home = transport.get().home(py)?;
    match outcome {
        Outcome::Received(result) => received(transport, &home, result),
        Outcome::Readable => readable(transport, &home),
        Outcome::Sent(left, result) => sent(transport, &home, left, result),
        Outcome::Writable => StreamTransport::has_room(transport),
        _ => Ok(()),
    }
}

/// Bytes, or the end, or an error.
#[inline]
fn received(
    transport: &Bound<'_, StreamTransport>,
    home: &Bound<'_, EventLoop>,
    result: std::io::Result<usize>,
) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let event = this.with_stream(home, |stream, driver| stream.on_received(driver, result));
    match event {
        ReadEvent::Data(count) if this.carries_tls.get() => encrypted(transport, home, count),
        ReadEvent::Data(count) => {
            let data = {
                // `bytes` is no object of the collector: nothing else runs while we borrow.
                let driver = home.get().core().driver.borrow();
                let received = driver.received();
                PyBytes::new(py, &received[..count.min(received.len())])
            };
            large::expect(this, home, count);
            deliver(transport, &data)
        }
        other => ended(transport, other),
    }
}

/// Gives the protocol what was received.
#[inline]
pub(super) fn deliver(
    transport: &Bound<'_, StreamTransport>,
    data: &Bound<'_, PyBytes>,
) -> PyResult<()> {
    let this = transport.get();
    let Some(user_protocol) = this.protocol.bound(transport.py()) else { return Ok(()) };
    match protocol::data_received(&user_protocol, this.context.get(), data) {
        Ok(()) => Ok(()),
        Err(err) => {
            let message = "Fatal error: protocol.data_received() call failed.";
            StreamTransport::fail(transport, err, message)
        }
    }
}

/// Bytes for TLS.
fn encrypted(
    transport: &Bound<'_, StreamTransport>,
    home: &Bound<'_, EventLoop>,
    count: usize,
) -> PyResult<()> {
    let py = transport.py();
    let Some(above) = transport.get().protocol.bound(py) else { return Ok(()) };
    let above = above.cast_into::<TlsTransport>()?;
    let context = transport.get().context.get();
    let data = {
        // Neither way runs any Python while we borrow.
        let driver = home.get().core().driver.borrow();
        let received = driver.received();
        let received = &received[..count.min(received.len())];
        let is_taken = tls::events::feed_directly(above.get(), received);
        (!is_taken).then(|| PyBytes::new(py, received))
    };
    let taken = protocol::within(py, context, || match &data {
        None => tls::events::fed(&above),
        Some(data) => tls::events::received(&above, data.as_any()),
    });
    match taken {
        Ok(()) => Ok(()),
        Err(err) => {
            let message = "Fatal error: protocol.buffer_updated() call failed.";
            StreamTransport::fail(transport, err, message)
        }
    }
}

/// The end of the stream, or an error of the read.
#[cold]
pub(super) fn ended(transport: &Bound<'_, StreamTransport>, event: ReadEvent) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    match event {
        ReadEvent::Eof => {
            let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
            let keep_open = match user_protocol.cast_exact::<TlsTransport>() {
                Ok(above) => protocol::within(py, this.context.get(), || tls::events::ended(above)),
                Err(_) => protocol::eof_received(&user_protocol, this.context.get()),
            };
            match keep_open {
                // Half-close: the protocol goes on writing and closes when it likes.
                Ok(true) => Ok(()),
                Ok(false) => transport.call_method0(intern!(py, "close")).map(drop),
                // It leaves the loop, and the end is not told again: nothing else would close this.
                Err(err) if is_fatal(py, &err) => {
                    let closed = transport.call_method0(intern!(py, "close")).map(drop);
                    closed.and(Err(err))
                }
                Err(err) => StreamTransport::fail(
                    transport,
                    err,
                    "Fatal error: protocol.eof_received() call failed.",
                ),
            }
        }
        ReadEvent::Error(err) => {
            let err = convert::os_error(py, err);
            StreamTransport::fail(transport, err, "Fatal read error on socket transport")
        }
        ReadEvent::Data(_) | ReadEvent::Ignored => Ok(()),
    }
}

/// There are bytes, or it is the end: whoever owns the memory for them receives.
fn readable(transport: &Bound<'_, StreamTransport>, home: &Bound<'_, EventLoop>) -> PyResult<()> {
    let this = transport.get();
    if this.read_mode() != ReadMode::Poll || !this.stream.borrow().is_reading() {
        return Ok(());
    }
    match this.receives_large.get() {
        true => large::receive(transport, home),
        false => read_into_protocol(transport, home),
    }
}

/// A BufferedProtocol reads into its own buffer.
fn read_into_protocol(
    transport: &Bound<'_, StreamTransport>,
    home: &Bound<'_, EventLoop>,
) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
    let exported = protocol::get_buffer(&user_protocol, this.context.get())
        .and_then(|buffer| Exported::writable(&buffer))
        .and_then(|exported| match exported.len() {
            0 => Err(PyRuntimeError::new_err("get_buffer() returned an empty buffer")),
            _ => Ok(exported),
        });
    let mut exported = match exported {
        Ok(exported) => exported,
        Err(err) => {
            let message = "Fatal error: protocol.get_buffer() call failed.";
            return StreamTransport::fail(transport, err, message);
        }
    };
    // The protocol may have paused or closed in get_buffer().
    if !this.stream.borrow().is_reading() {
        return Ok(());
    }
    let token = this.stream.borrow().token();
    let result = home.get().core().driver.borrow_mut().try_recv(token, exported.bytes_mut());
    drop(exported);
    let event = this.with_stream(home, |stream, driver| stream.on_received(driver, result));
    match event {
        ReadEvent::Data(count) => {
            let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
            match protocol::buffer_updated(&user_protocol, this.context.get(), count) {
                Ok(()) => Ok(()),
                Err(err) => StreamTransport::fail(
                    transport,
                    err,
                    "Fatal error: protocol.buffer_updated() call failed.",
                ),
            }
        }
        other => ended(transport, other),
    }
}

/// A queued send has made progress, or failed.
fn sent(
    transport: &Bound<'_, StreamTransport>,
    home: &Bound<'_, EventLoop>,
    left: oxloop_core::WriteQueue<Chunk>,
    result: std::io::Result<usize>,
) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let progress = this.with_stream(home, |stream, driver| stream.on_sent(driver, left, result));
    let progress = match progress {
        Ok(progress) => progress,
        Err(err) => {
            let err = convert::os_error(py, err);
            return StreamTransport::fail(transport, err, "Fatal write error on socket transport");
        }
    };
    let mut told = Ok(());
    if progress.resume {
        told = StreamTransport::tell_flow(transport, false);
    }
    if progress.drained {
        told = told.and(this.sendfile.ready(py));
    }
    // The protocol may have written more, or closed, in resume_writing().
    let is_finished = this.stream.borrow_mut().finish();
    if is_finished { told.and(StreamTransport::schedule_loss(transport, None)) } else { told }
}

/// The last job of a transport: `connection_lost`, then the descriptor is closed.
pub(super) fn lose(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let transport = object.cast::<StreamTransport>()?;
    let this = transport.get();
    let error = match this.lost_error.take() {
        Some(error) => error.into_bound(py),
        None => py.None().into_bound(py),
    };
    let told = match this.protocol.bound(py) {
        Some(user_protocol) => match user_protocol.cast_exact::<TlsTransport>() {
            Ok(above) => {
                protocol::within(py, this.context.get(), || tls::events::lost(above, &error))
            }
            Err(_) => protocol::connection_lost(&user_protocol, this.context.get(), &error),
        },
        None => Ok(()),
    };
    let let_go = release(transport);
    told.and(let_go)
}

/// Lets go of everything: driver, descriptor, protocol, server, loop.
fn release(transport: &Bound<'_, StreamTransport>) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let home = this.home(py)?;
    let token = this.stream.borrow().token();
    let unsent = this.with_stream(&home, |stream, driver| stream.lose(driver));
    drop(unsent);
    home.get().disclaim(this.connection.fd(), token);
    drop(home.get().core().remove_source(token));
    let closed = this.connection.release(py);
    let waiter = this.waiter.take();
    let parts = (this.protocol.take(), this.context.take(), this.home.take(), waiter);
    drop(parts);
    if let Some(server) = this.server.take() {
        server.bind(py).call_method1(intern!(py, "_detach"), (transport,))?;
    }
    closed
}
