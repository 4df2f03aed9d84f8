//! One `sock_*` call, as a state machine.
//!
//! Decision: try the call; if it would block, yield a [`SocketWaiter`]; when resumed, try again.
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
use crate::event_loop::EventLoop;
use crate::event_loop::watchers::file_number;
use crate::ffi::object::attached_only;
use crate::ffi::{Raised, Ref, Sent, Slot, call};
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
    pub fn name(self) -> &'static str {
        match self {
            Self::Recv => "sock_recv",
            Self::RecvInto => "sock_recv_into",
            Self::RecvFrom => "sock_recvfrom",
            Self::RecvFromInto => "sock_recvfrom_into",
            Self::SendAll => "sock_sendall",
            Self::SendTo => "sock_sendto",
            Self::Connect => "sock_connect",
            Self::Accept => "sock_accept",
        }
    }

    fn side(self) -> Side {
        match self {
            Self::SendAll | Self::SendTo | Self::Connect => Side::Write,
            _ => Side::Read,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nothing was done yet.
    Created,
    /// `sock_connect` looks up a name; `awaited` is the coroutine that does.
    Resolving,
    /// The socket was not ready; `awaited` is the [`SocketWaiter`].
    Waiting,
    Running,
    Done,
}

/// The coroutine of one `sock_*` call.
#[pyclass(frozen, weakref, module = "oxloop._oxloop", name = "_SocketOperation")]
pub struct SocketOperation {
    pub(super) stage: Cell<Stage>,
    pub(super) call: Call,
    home: Slot,
    sock: Slot,
    /// The size, buffer, data or address, by call.
    subject: Slot,
    /// The size of `sock_recvfrom_into`, the address of `sock_sendto`.
    extra: Slot,
    pub(super) awaited: Slot,
    /// `sock_sendall`: how much is sent. `sock_connect`: whether the kernel is connecting.
    progress: Cell<usize>,
}

attached_only!(SocketOperation);

impl SocketOperation {
    pub(super) fn new<'py>(
        home: &Bound<'py, EventLoop>,
        call: Call,
        sock: &Bound<'py, PyAny>,
        subject: Option<&Bound<'py, PyAny>>,
        extra: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let slot = |object: Option<&Bound<'py, PyAny>>| {
            object.map_or_else(Slot::empty, |object| Slot::holding(Ref::from_borrowed(object)))
        };
        let operation = Self {
            stage: Cell::new(Stage::Created),
            call,
            home: Slot::holding(Ref::from_borrowed(home)),
            sock: slot(Some(sock)),
            subject: slot(subject),
            extra: slot(extra),
            awaited: Slot::empty(),
            progress: Cell::new(0),
        };
        Bound::new(home.py(), operation)
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

    /// The first step.
    pub(super) fn begin(slf: &Bound<'_, Self>) -> PyResult<Sent> {
        let py = slf.py();
        let this = slf.get();
        let home = Self::part(&this.home)?;
        let home = home.bind_as::<EventLoop>(py);
        let sock = Self::part(&this.sock)?.into_bound(py);
        Self::check_socket(py, home, &sock)?;
        match this.call {
            Call::RecvFromInto => {
                let given = match this.extra.bound(py) {
                    Some(size) => size.is_truthy()?,
                    None => false,
                };
                if !given {
                    let buffer = Self::part(&this.subject)?;
                    let size = buffer.bind(py).len()?.into_pyobject(py)?;
                    this.extra.set(Ref::new(size));
                }
            }
            Call::Connect if is_internet(&sock)? => {
                let address = Self::part(&this.subject)?;
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
                let sent = call::iter_send(&resolving, &py.None().into_bound(py));
                this.awaited.set(Ref::new(resolving));
                return Self::resolved(slf, sent);
            }
            _ => {}
        }
        Self::go_on(slf)
    }

    /// What the look-up of a name did.
    pub(super) fn resolved(slf: &Bound<'_, Self>, sent: Sent) -> PyResult<Sent> {
        let py = slf.py();
        let this = slf.get();
        match sent {
            Sent::Yielded(value) => {
                this.stage.set(Stage::Resolving);
                Ok(Sent::Yielded(value))
            }
            Sent::Returned(answers) => {
                this.awaited.clear();
                let address = answers.bind(py).get_item(0)?.get_item(4)?;
                this.subject.set(Ref::new(address));
                Self::go_on(slf)
            }
            Sent::Raised(raised) => Err(raised.into_err(py)),
        }
    }

    /// Tries the call; waits if it would block.
    pub(super) fn go_on(slf: &Bound<'_, Self>) -> PyResult<Sent> {
        let py = slf.py();
        let this = slf.get();
        let sock = Self::part(&this.sock)?.into_bound(py);
        let err = match this.attempt(py, &sock) {
            Ok(Some(value)) => return Ok(Sent::Returned(value)),
            Ok(None) => None,
            Err(err) if would_block(py, &err) => Some(err),
            Err(err) => return Err(err),
        };
        drop(err);
        let home = Self::part(&this.home)?;
        let home = home.bind_as::<EventLoop>(py);
        let waiter = SocketWaiter::start(home, file_number(&sock)?, this.call.side())?;
        waiter.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        let waiter = Ref::new(waiter);
        this.awaited.set(waiter.clone());
        this.stage.set(Stage::Waiting);
        Ok(Sent::Yielded(waiter))
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

    /// Ends the operation and lets go of everything.
    pub(super) fn finish(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let waiting = this.stage.replace(Stage::Done) == Stage::Waiting;
        let awaited = this.awaited.take();
        let parts = (this.home.take(), this.sock.take(), this.subject.take(), this.extra.take());
        let ended = match &awaited {
            Some(waiter) if waiting => SocketWaiter::end_watch(waiter.bind_as(py)),
            _ => Ok(()),
        };
        drop((awaited, parts));
        ended
    }

    /// Passes on what a step did; whatever is not a yield was the last.
    pub(super) fn settle(slf: &Bound<'_, Self>, outcome: PyResult<Sent>) -> Sent {
        let py = slf.py();
        if let Ok(Sent::Yielded(value)) = outcome {
            return Sent::Yielded(value);
        }
        let finished = Self::finish(slf);
        match outcome.and_then(|sent| finished.map(|()| sent)) {
            Ok(sent) => sent,
            Err(err) => Sent::Raised(Raised::from_err(py, err)),
        }
    }
}

impl SocketOperation {
    pub(super) fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [&self.home, &self.sock, &self.subject, &self.extra, &self.awaited] {
            slot.traverse(visit)?;
        }
        Ok(())
    }

    pub(super) fn let_go(&self) {
        for slot in [&self.home, &self.sock, &self.subject, &self.extra, &self.awaited] {
            slot.clear();
        }
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
