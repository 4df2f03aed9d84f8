//! One `sock_*` call, as a state machine.
//!
//! Decision: try the call; if it would block, await a [`SocketWaiter`]; when resumed, try again.
//! Nothing is received or accepted on behalf of a task before it runs, so a cancelled call loses
//! no bytes and no connection.
//! What can still go wrong: two operations on the same side of one socket; the later one takes the
//! watch over, as in asyncio.

use std::cell::Cell;

use oxloop_core::Side;
use pyo3::exceptions::{
    PyBlockingIOError, PyInterruptedError, PyOSError, PyTypeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyMemoryView, PySlice};
use pyo3::{PyTraverseError, PyVisit};

use super::waiter::SocketWaiter;
use crate::coroutine::{Body, Coroutine, Progress};
use crate::event_loop::EventLoop;
use crate::event_loop::watchers::file_number;
use crate::ffi::{Ref, Slot, call};
use crate::future::none;
use crate::stdlib;

/// Which method of the loop was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    Recv,
    RecvInto,
    RecvFrom,
    RecvFromInto,
    SendAll,
    SendTo,
    Connect,
    Accept,
}

impl Call {
    fn qualified_name(self) -> &'static str {
        match self {
            Self::Recv => "EventLoop.sock_recv",
            Self::RecvInto => "EventLoop.sock_recv_into",
            Self::RecvFrom => "EventLoop.sock_recvfrom",
            Self::RecvFromInto => "EventLoop.sock_recvfrom_into",
            Self::SendAll => "EventLoop.sock_sendall",
            Self::SendTo => "EventLoop.sock_sendto",
            Self::Connect => "EventLoop.sock_connect",
            Self::Accept => "EventLoop.sock_accept",
        }
    }

    fn side(self) -> Side {
        match self {
            Self::SendAll | Self::SendTo | Self::Connect => Side::Write,
            _ => Side::Read,
        }
    }
}

/// The body of the coroutine of one `sock_*` call.
pub struct SocketOperation {
    call: Call,
    home: Slot,
    sock: Slot,
    /// The size, buffer, data or address, by call.
    subject: Slot,
    /// The size of `sock_recvfrom_into`, the address of `sock_sendto`.
    extra: Slot,
    /// The [`SocketWaiter`] while the socket is not ready.
    waiter: Slot,
    /// `sock_sendall`: how much is sent. `sock_connect`: whether the kernel is connecting.
    progress: Cell<usize>,
}

impl SocketOperation {
    pub(super) fn coroutine<'py>(
        home: &Bound<'py, EventLoop>,
        call: Call,
        sock: &Bound<'py, PyAny>,
        subject: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let slot = |object: Option<&Bound<'py, PyAny>>| {
            object.map_or_else(Slot::empty, |object| Slot::holding(Ref::from_borrowed(object)))
        };
        let operation = Self {
            call,
            home: Slot::holding(Ref::from_borrowed(home)),
            sock: slot(Some(sock)),
            subject: slot(subject),
            extra: slot(extra),
            waiter: Slot::empty(),
            progress: Cell::new(0),
        };
        Ok(Coroutine::make(home.py(), operation)?.into_bound(home.py()))
    }

    fn part(slot: &Slot) -> PyResult<Ref> {
        slot.get().ok_or_else(call::unexplained)
    }

    /// The checks that asyncio makes before it touches the socket.
    fn check_socket(
        py: Python<'_>,
        home: &Bound<'_, EventLoop>,
        sock: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        static TLS: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
        if !sock.get_type().is(stdlib::socket_class(py)?) {
            // A Python without the ssl module has no such sockets.
            let class = TLS.get_or_init(py, || {
                Some(py.import("ssl").ok()?.getattr("SSLSocket").ok()?.unbind())
            });
            if let Some(class) = class {
                if sock.is_instance(class.bind(py))? {
                    return Err(PyTypeError::new_err("Socket cannot be of type SSLSocket"));
                }
            }
        }
        if home.get().debug() && !sock.call_method0(intern!(py, "gettimeout"))?.eq(0)? {
            return Err(PyValueError::new_err("the socket must be non-blocking"));
        }
        Ok(())
    }

    /// Tries the call; waits if it would block.
    fn go_on(&self, py: Python<'_>) -> PyResult<Progress> {
        let sock = Self::part(&self.sock)?.into_bound(py);
        let attempted = self.attempt(py, &sock);
        if matches!(self.call, Call::SendAll | Call::SendTo | Call::Connect) {
            // The other end may be this loop's own.
            Self::part(&self.home)?.bind_as::<EventLoop>(py).get().core().force_poll();
        }
        let err = match attempted {
            Ok(Some(value)) => return Ok(Progress::Return(value)),
            Ok(None) => None,
            Err(err) if would_block(py, &err) => Some(err),
            Err(err) => return Err(err),
        };
        drop(err);
        let home = Self::part(&self.home)?;
        let home = home.bind_as::<EventLoop>(py);
        let waiter = SocketWaiter::start(home, file_number(&sock)?, self.call.side())?;
        let waiter = Ref::new(waiter);
        self.waiter.set(waiter.clone());
        Ok(Progress::Await(waiter))
    }

    /// One call of the socket's method; None if there is more to do when the socket is ready.
    fn attempt(&self, py: Python<'_>, sock: &Bound<'_, PyAny>) -> PyResult<Option<Ref>> {
        let subject = || Self::part(&self.subject).map(|object| object.into_bound(py));
        let extra = || Self::part(&self.extra).map(|object| object.into_bound(py));
        let value = match self.call {
            Call::Recv => call::call_method_one(sock, intern!(py, "recv"), &subject()?)?,
            Call::RecvInto => call::call_method_one(sock, intern!(py, "recv_into"), &subject()?)?,
            Call::RecvFrom => call::call_method_one(sock, intern!(py, "recvfrom"), &subject()?)?,
            Call::RecvFromInto => {
                sock.call_method1(intern!(py, "recvfrom_into"), (subject()?, extra()?))?
            }
            Call::SendTo => sock.call_method1(intern!(py, "sendto"), (subject()?, extra()?))?,
            Call::SendAll => return self.send_rest(sock, &subject()?),
            Call::Connect => return self.connect(sock, &subject()?),
            Call::Accept => {
                let accepted = sock.call_method0(intern!(py, "accept"))?;
                accepted.get_item(0)?.call_method1(intern!(py, "setblocking"), (false,))?;
                accepted
            }
        };
        Ok(Some(Ref::new(value)))
    }

    fn send_rest(&self, sock: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Option<Ref>> {
        let py = sock.py();
        let done = self.progress.get();
        let send = intern!(py, "send");
        let (sent, total) = if done == 0 {
            // The object itself, as the socket's own method wants to see it.
            let sent = call::call_method_one(sock, send, data);
            let total = match data.cast_exact::<PyBytes>() {
                Ok(bytes) => bytes.as_bytes().len(),
                Err(_) => size_bytes(data)?,
            };
            (sent, total)
        } else {
            let view = PyMemoryView::from(data)?.call_method1(intern!(py, "cast"), ("B",))?;
            let total = view.len()?;
            let rest = view.get_item(PySlice::new(py, done as isize, isize::MAX, 1))?;
            (call::call_method_one(sock, send, &rest), total)
        };
        let more = match &sent {
            Ok(sent) => done + sent.extract::<usize>()? < total,
            Err(err) => would_block(py, err),
        };
        if more && !data.is_instance_of::<PyMemoryView>() && !data.is_exact_instance_of::<PyBytes>()
        {
            // Holds the caller's buffer: until the end it can be changed, not resized.
            self.subject.set(Ref::new(PyMemoryView::from(data)?));
        }
        self.progress.set(done + sent?.extract::<usize>()?);
        Ok((!more).then(|| none(py)))
    }

    fn connect(
        &self,
        sock: &Bound<'_, PyAny>,
        address: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Ref>> {
        let py = sock.py();
        if self.progress.get() == 0 {
            return match call::call_method_one(sock, intern!(py, "connect"), address) {
                Ok(_) => Ok(Some(none(py))),
                Err(err) => {
                    // The kernel goes on by itself, after EINTR too: from now on ask how it went.
                    self.progress.set(1);
                    Err(err)
                }
            };
        }
        let (level, option) = so_error(py)?;
        let code = sock.call_method1(intern!(py, "getsockopt"), (level, option))?;
        if code.is_truthy()? {
            let text = format!("Connect call failed {}", address.str()?);
            return Err(PyOSError::new_err((code.unbind(), text)));
        }
        Ok(Some(none(py)))
    }
}

impl Body for SocketOperation {
    fn qualified_name(&self) -> &'static str {
        self.call.qualified_name()
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let home = Self::part(&self.home)?;
        let home = home.bind_as::<EventLoop>(py);
        let sock = Self::part(&self.sock)?.into_bound(py);
        Self::check_socket(py, home, &sock)?;
        match self.call {
            Call::RecvFromInto => {
                let given = match self.extra.bound(py) {
                    Some(size) => size.is_truthy()?,
                    None => false,
                };
                if !given {
                    let buffer = Self::part(&self.subject)?;
                    let size = buffer.bind(py).len()?.into_pyobject(py)?;
                    self.extra.set(Ref::new(size));
                }
            }
            Call::Connect if is_internet(&sock)? => {
                let address = Self::part(&self.subject)?;
                let kwargs = PyDict::new(py);
                for name in [intern!(py, "family"), intern!(py, "type"), intern!(py, "proto")] {
                    kwargs.set_item(name, sock.getattr(name)?)?;
                }
                kwargs.set_item(intern!(py, "loop"), home)?;
                let resolving = home.call_method(
                    intern!(py, "_ensure_resolved"),
                    (address.bind(py),),
                    Some(&kwargs),
                )?;
                return Ok(Progress::Await(Ref::new(resolving)));
            }
            _ => {}
        }
        self.go_on(py)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        if let Some(waiter) = self.waiter.take() {
            // Also when an exception was thrown in: nobody waits for the socket any more.
            let ended = SocketWaiter::end_watch(waiter.bind_as(py));
            outcome?;
            ended?;
            return self.go_on(py);
        }
        let address = outcome?.bind(py).get_item(0)?.get_item(4)?;
        self.subject.set(Ref::new(address));
        self.go_on(py)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [&self.home, &self.sock, &self.subject, &self.extra, &self.waiter] {
            slot.traverse(visit)?;
        }
        Ok(())
    }
}

/// The call can be made again later.
fn would_block(py: Python<'_>, err: &PyErr) -> bool {
    err.is_instance_of::<PyBlockingIOError>(py) || err.is_instance_of::<PyInterruptedError>(py)
}

/// The size of a bytes-like object.
fn size_bytes(data: &Bound<'_, PyAny>) -> PyResult<usize> {
    PyMemoryView::from(data)?.getattr(intern!(data.py(), "nbytes"))?.extract()
}

/// `(socket.SOL_SOCKET, socket.SO_ERROR)`
fn so_error(py: Python<'_>) -> PyResult<(i32, i32)> {
    static NUMBERS: PyOnceLock<(i32, i32)> = PyOnceLock::new();
    NUMBERS
        .get_or_try_init(py, || {
            let socket = py.import("socket")?;
            Ok((socket.getattr("SOL_SOCKET")?.extract()?, socket.getattr("SO_ERROR")?.extract()?))
        })
        .copied()
}

/// Whether addresses of the socket are hosts and ports.
fn is_internet(sock: &Bound<'_, PyAny>) -> PyResult<bool> {
    static FAMILIES: PyOnceLock<(i32, i32)> = PyOnceLock::new();
    let py = sock.py();
    let families = FAMILIES.get_or_try_init(py, || {
        let socket = py.import("socket")?;
        Ok::<_, PyErr>((
            socket.getattr("AF_INET")?.extract()?,
            socket.getattr("AF_INET6")?.extract()?,
        ))
    })?;
    let family = sock.getattr(intern!(py, "family"))?;
    let (inet, inet6) = families;
    Ok(family.eq(inet)? || family.eq(inet6)?)
}
