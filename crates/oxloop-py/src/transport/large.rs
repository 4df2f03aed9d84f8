//! Large receives: straight into the object that the protocol gets.
//!
//! Facts: the driver's shared buffer costs a copy, which for small messages is nothing. For one of
//! 100 KiB it is 5 % of all that receiving and sending it takes. An object can only be made as large
//! as the message when that is known, and making it as large as any receive, to be cut afterwards,
//! costs more than the copy.
//! Decision: after a large receive the transport is told when there is something to read, asks how
//! much, and receives that. A receive that is not large ends it. A protocol sees no difference.
//! What can still go wrong: messages that are large and small in turn pay for the question each time.

use oxloop_core::limits::{LARGE_RECEIVE_BYTES, READ_BUFFER_BYTES};
use oxloop_core::{Driver as _, ReadEvent};
use pyo3::prelude::*;

use super::StreamTransport;
use super::events::{deliver, ended};
use crate::event_loop::EventLoop;
use crate::ffi::received;

/// Made when nobody can say how much there is, or when it is the end.
const LEAST_BYTES: usize = 4096;

/// Decides where the next bytes go, from the number of those that came last.
#[inline]
pub(super) fn expect(this: &StreamTransport, home: &Bound<'_, EventLoop>, count: usize) {
    let is_large = count >= LARGE_RECEIVE_BYTES;
    if is_large != this.receives_large.get() {
        switch(this, home, is_large);
    }
}

#[cold]
fn switch(this: &StreamTransport, home: &Bound<'_, EventLoop>, is_large: bool) {
    this.receives_large.set(is_large);
    let mode = this.read_mode();
    let set = this.with_stream(home, |stream, driver| stream.set_read_mode(driver, mode));
    if set.is_err() {
        // The driver has not taken it: what was in force still is.
        this.receives_large.set(!is_large);
    }
}

/// There is something to read, and it is expected to be large.
pub(super) fn receive(
    transport: &Bound<'_, StreamTransport>,
    home: &Bound<'_, EventLoop>,
) -> PyResult<()> {
    let py = transport.py();
    let this = transport.get();
    let token = this.stream.borrow().token();
    let driver = &home.get().core().driver;
    let waiting_bytes = driver.borrow_mut().waiting_bytes(token).unwrap_or(READ_BUFFER_BYTES);
    let size = waiting_bytes.clamp(LEAST_BYTES, READ_BUFFER_BYTES);
    let mut result = Ok(0);
    let data = received::bytes(py, size, |room| {
        result = driver.borrow_mut().try_recv_uninit(token, room);
        *result.as_ref().unwrap_or(&0)
    });
    let data = match data {
        Ok(data) => data,
        Err(err) => {
            return StreamTransport::fail(transport, err, "Fatal read error on socket transport");
        }
    };
    let event = this.with_stream(home, |stream, driver| stream.on_received(driver, result));
    match event {
        ReadEvent::Data(count) => {
            expect(this, home, count);
            deliver(transport, &data)
        }
        other => ended(transport, other),
    }
}
