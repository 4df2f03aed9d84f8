//! `sock_recv` and its seven sisters: operations on a non-blocking socket, as native coroutines.
//!
//! | file           | subject                                                       |
//! |----------------|---------------------------------------------------------------|
//! | `operation.rs` | the calls themselves, as the body of a coroutine              |
//! | `waiter.rs`    | the future of readiness that an operation waits for           |
//!
//! Facts: asyncio's versions are coroutines, so the work starts with the first `send`; the calls
//! are made on the socket object, so that subclasses and their errors are the user's; and most
//! calls finish at once.
//! Source of behaviour: CPython `Lib/asyncio/selector_events.py`.

mod operation;
mod waiter;

use pyo3::prelude::*;

use super::EventLoop;
use operation::{Call, SocketOperation};

#[pymethods]
impl EventLoop {
    /// Receive at most `n` bytes from a non-blocking socket; `b""` at the end of the stream.
    fn sock_recv<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        n: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::Recv, sock, Some(n), None)
    }

    /// Receive into the writable buffer `buf`; the result is the number of bytes.
    fn sock_recv_into<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        buf: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::RecvInto, sock, Some(buf), None)
    }

    /// Receive a datagram of at most `bufsize` bytes; the result is `(bytes, address)`.
    fn sock_recvfrom<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        bufsize: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::RecvFrom, sock, Some(bufsize), None)
    }

    /// Receive a datagram into `buf`, at most `nbytes` bytes (0: as many as `buf` has room for);
    /// the result is `(number of bytes, address)`.
    #[pyo3(signature = (sock, buf, nbytes = None))]
    fn sock_recvfrom_into<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        buf: &Bound<'py, PyAny>,
        nbytes: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::RecvFromInto, sock, Some(buf), nbytes)
    }

    /// Send all of `data`. After an error nobody can say how much of it was sent.
    fn sock_sendall<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        data: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::SendAll, sock, Some(data), None)
    }

    /// Send a datagram to `address`; the result is the number of bytes.
    fn sock_sendto<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        data: &Bound<'py, PyAny>,
        address: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::SendTo, sock, Some(data), Some(address))
    }

    /// Connect a non-blocking socket to `address`; host names are looked up by the loop.
    fn sock_connect<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
        address: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::Connect, sock, Some(address), None)
    }

    /// Accept a connection; the result is `(non-blocking socket, address)`.
    fn sock_accept<'py>(
        slf: &Bound<'py, Self>,
        sock: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        SocketOperation::coroutine(slf, Call::Accept, sock, None, None)
    }
}
