//! Sending datagrams: try at once, queue what the socket does not take, tell the protocol when
//! there is too much.
//!
//! A datagram is sent whole or not at all, and one that fails concerns nobody else: an OSError goes
//! to `error_received` and the next datagram is sent. Only an error of another kind (an address that
//! is none) ends the transport.
//! On a closed loop, whose driver knows no descriptor any more, what the socket takes is still sent.
//! Law: nothing of the transport is borrowed while the protocol is called.

use std::io;

use oxloop_core::sys::socket;
use oxloop_core::{Driver as _, Op, Side};
use pyo3::exceptions::{
    PyBlockingIOError, PyInterruptedError, PyOSError, PyTypeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::super::reports;
use super::DatagramTransport;
use super::address::{Destination, numeric};
use crate::convert;
use crate::event_loop::{Chunk, EventLoop};
use crate::ffi::Ref;
use crate::ffi::call::Exported;
use crate::{protocol, stdlib};

/// Datagrams to a lost connection that are dropped before a warning is logged.
const SILENT_DATAGRAMS_AFTER_LOSS: u32 = 5;

/// A datagram that waits for room in the socket.
pub(super) struct Datagram {
    payload: Chunk,
    to: Destination,
}

impl DatagramTransport {
    /// `sendto(data, addr)`
    pub(super) fn send(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        addr: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let is_buffer = data.is_instance_of::<PyBytes>()
            || data.is_instance_of::<PyByteArray>()
            || data.is_instance_of::<PyMemoryView>();
        if !is_buffer {
            return Err(PyTypeError::new_err(format!(
                "data argument must be a bytes-like object, not '{}'",
                data.get_type().name()?
            )));
        }
        if this.skips_empty && !data.is_truthy()? {
            return Ok(());
        }
        let to = this.destination(py, addr)?;
        if this.is_lost() && (this.remote.is_some() || !this.connection.is_open()) {
            return this.drop_datagram(py);
        }
        let home = this.home(py)?;
        let payload = Self::exported(data)?;
        if this.queue.borrow().is_empty() {
            match this.try_send(&home, payload.bytes(), &to) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(err) => {
                    drop(payload);
                    return Self::failed(slf, err, false);
                }
            }
        }
        if this.is_lost() || home.get().is_closed_now() {
            // Nobody would send what is queued now.
            return this.drop_datagram(py);
        }
        if this.queue.borrow().is_empty() {
            let submitted =
                home.get().core().driver.borrow_mut().submit(this.token.get(), Op::PollWrite);
            submitted.map_err(|err| convert::os_error(py, err))?;
        }
        let kept = if data.is_exact_instance_of::<PyBytes>() {
            Chunk::Shared { object: Ref::from_borrowed(data), start: 0 }
        } else {
            // The caller may change its buffer as soon as we return.
            Chunk::Owned(payload.bytes().into())
        };
        drop(payload);
        this.enqueue(Datagram { payload: kept, to }, true);
        Self::pause_if_above_high(slf)
    }

    /// Where a datagram for `addr` goes; ValueError if the remote address was fixed to another one.
    fn destination(&self, py: Python<'_>, addr: &Bound<'_, PyAny>) -> PyResult<Destination> {
        let remote = self.remote.bound(py);
        if let Some(remote) = &remote {
            if !addr.is_none() && !addr.eq(remote)? {
                let text = format!("Invalid address: must be None or {}", remote.str()?);
                return Err(PyValueError::new_err(text));
            }
        }
        if self.is_connected {
            return Ok(Destination::Peer);
        }
        let addr = remote.as_ref().unwrap_or(addr);
        let seen = self.last_sender.borrow().as_ref().and_then(|last| last.address_of(addr));
        Ok(match seen.or_else(|| numeric(self.family, addr)) {
            Some(address) => Destination::Kernel(address),
            None => Destination::Python(Ref::from_borrowed(addr)),
        })
    }

    /// The bytes of `data`; what is not contiguous is copied first.
    fn exported(data: &Bound<'_, PyAny>) -> PyResult<Exported> {
        Exported::readable(data).or_else(|err| {
            if !data.is_instance_of::<PyMemoryView>() {
                return Err(err);
            }
            Exported::readable(&data.call_method0(intern!(data.py(), "tobytes"))?)
        })
    }

    /// Sends one datagram; false: the socket has no room now.
    fn try_send(
        &self,
        home: &Bound<'_, EventLoop>,
        payload: &[u8],
        to: &Destination,
    ) -> PyResult<bool> {
        let py = home.py();
        let sent = if home.get().is_closed_now() {
            match to {
                // The world of a simulation has ended with its loop.
                _ if home.get().simulated().is_some() => return Ok(true),
                Destination::Peer => socket::send(self.connection.fd(), payload),
                Destination::Kernel(to) => socket::send_to(self.connection.fd(), payload, to),
                Destination::Python(to) => {
                    return self.try_send_by_object(py, payload, to.bind(py));
                }
            }
        } else {
            let mut driver = home.get().core().driver.borrow_mut();
            match to {
                Destination::Peer => driver.try_send(self.token.get(), payload),
                Destination::Kernel(to) => driver.try_send_to(self.token.get(), payload, to),
                Destination::Python(to) => {
                    drop(driver);
                    return self.try_send_by_object(py, payload, to.bind(py));
                }
            }
        };
        match sent {
            Ok(_) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(err) => Err(convert::os_error(py, err)),
        }
    }

    fn try_send_by_object(
        &self,
        py: Python<'_>,
        payload: &[u8],
        to: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let sock = self.connection.raw_socket(py)?;
        let payload = PyBytes::new(py, payload);
        match sock.call_method1(intern!(py, "sendto"), (payload, to)) {
            Ok(_) => Ok(true),
            Err(err)
                if err.is_instance_of::<PyBlockingIOError>(py)
                    || err.is_instance_of::<PyInterruptedError>(py) =>
            {
                Ok(false)
            }
            Err(err) => Err(err),
        }
    }

    /// A datagram could not be sent: the protocol is told, or the transport ends.
    fn failed(slf: &Bound<'_, Self>, err: PyErr, in_context: bool) -> PyResult<()> {
        let py = slf.py();
        if !err.is_instance_of::<PyOSError>(py) {
            return Self::fail(slf, err, "Fatal write error on datagram transport");
        }
        let this = slf.get();
        let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
        let context = if in_context { this.context.get() } else { None };
        protocol::error_received(&user_protocol, context, err.value(py))
    }

    /// Datagrams after the transport is over are dropped; from the fifth on with a warning.
    fn drop_datagram(&self, py: Python<'_>) -> PyResult<()> {
        let count = self.datagrams_after_loss.get() + 1;
        self.datagrams_after_loss.set(count);
        if count >= SILENT_DATAGRAMS_AFTER_LOSS {
            stdlib::log(py, "warning", "socket.send() raised exception.", None)?;
        }
        Ok(())
    }

    /// Puts a datagram at the end, or back in front.
    fn enqueue(&self, datagram: Datagram, at_end: bool) {
        let size = datagram.payload.as_ref().len() + self.header_bytes;
        self.buffered_bytes.set(self.buffered_bytes.get() + size);
        let mut queue = self.queue.borrow_mut();
        if at_end { queue.push_back(datagram) } else { queue.push_front(datagram) }
    }

    fn dequeue(&self) -> Option<Datagram> {
        let datagram = self.queue.borrow_mut().pop_front()?;
        let size = datagram.payload.as_ref().len() + self.header_bytes;
        self.buffered_bytes.set(self.buffered_bytes.get() - size);
        Some(datagram)
    }

    /// The socket has room: send what waits.
    pub(super) fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let home = this.home(py)?;
        while let Some(datagram) = this.dequeue() {
            match this.try_send(&home, datagram.payload.as_ref(), &datagram.to) {
                Ok(true) => {}
                Ok(false) => {
                    this.enqueue(datagram, false);
                    break;
                }
                // The rest has its turn with the next wake, whatever the protocol does now.
                Err(err) => return Self::failed(slf, err, true),
            }
        }
        let resumes =
            this.protocol_paused.get() && this.buffered_bytes.get() <= this.low_water_bytes.get();
        if resumes {
            this.protocol_paused.set(false);
            Self::tell_flow(slf, false)?;
        }
        // The protocol may have sent more, or closed, in resume_writing().
        if this.queue.borrow().is_empty() && !this.is_lost() {
            drop(home.get().core().driver.borrow_mut().cancel(this.token.get(), Side::Write));
            if this.closing.get() {
                return Self::schedule_loss(slf, None);
            }
        }
        Ok(())
    }

    pub(super) fn pause_if_above_high(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let above = this.buffered_bytes.get() > this.high_water_bytes.get();
        if !above || this.protocol_paused.replace(true) {
            return Ok(());
        }
        Self::tell_flow(slf, true)
    }

    /// Tells the protocol to stop or go on sending; its failure is reported and changes nothing.
    fn tell_flow(slf: &Bound<'_, Self>, pause: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(user_protocol) = this.protocol.bound(py) else { return Ok(()) };
        let told = if pause {
            protocol::pause_writing(&user_protocol)
        } else {
            protocol::resume_writing(&user_protocol, this.context.get())
        };
        reports::flow_told(told, pause, || this.home(py), slf.as_any(), &user_protocol)
    }
}
