//! Who owns a transport's descriptor.
//!
//! Facts: a descriptor that is closed behind the loop's back is reused by the kernel at once, and
//! the next write goes to a stranger; this has happened to others in production. An accepted
//! connection needs no Python socket object until somebody asks for it; one that the user passed in
//! stays the user's object.
//! Decision: the transport owns the descriptor, natively or through the socket object. A socket
//! object is held by one more of its own I/O references (as `socket.makefile` holds it), so that a
//! `close()` by the user takes effect only when the transport has let go. The descriptor is closed
//! once, by `release`, after the driver has forgotten it.
//! What can still go wrong: `socket.detach()` and `os.close()` take the number away by force.

use std::cell::{Cell, RefCell};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use oxloop_core::SockAddr;
use oxloop_core::sys::socket;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};

use crate::convert;
use crate::ffi::{Ref, Slot};
use crate::stdlib;

/// A connected descriptor and what is known of its ends.
pub struct Connection {
    fd: Cell<RawFd>,
    native: RefCell<Option<OwnedFd>>,
    socket: Slot,
    shown: Slot,
    local: Slot,
    peer: Slot,
    peer_address: RefCell<Option<Box<SockAddr>>>,
    /// Asked for already: a missing name is None, not asked again.
    local_known: Cell<bool>,
}

impl Connection {
    /// An accepted connection.
    pub fn accepted(fd: OwnedFd, peer: Box<SockAddr>) -> Self {
        Self {
            fd: Cell::new(fd.as_raw_fd()),
            native: RefCell::new(Some(fd)),
            socket: Slot::empty(),
            shown: Slot::empty(),
            local: Slot::empty(),
            peer: Slot::empty(),
            peer_address: RefCell::new(Some(peer)),
            local_known: Cell::new(false),
        }
    }

    /// A socket object that the transport takes over.
    pub fn adopted(sock: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = sock.py();
        let fd = sock.call_method0(intern!(py, "fileno"))?.extract::<RawFd>()?;
        let connection = Self {
            fd: Cell::new(fd),
            native: RefCell::new(None),
            socket: Slot::empty(),
            shown: Slot::empty(),
            local: Slot::empty(),
            peer: Slot::empty(),
            peer_address: RefCell::new(None),
            local_known: Cell::new(true),
        };
        if let Ok(local) = sock.call_method0(intern!(py, "getsockname")) {
            connection.local.set(Ref::new(local));
        }
        if let Ok(peer) = sock.call_method0(intern!(py, "getpeername")) {
            connection.peer.set(Ref::new(peer));
        }
        hold(sock)?;
        connection.socket.set(Ref::from_borrowed(sock));
        Ok(connection)
    }

    /// The descriptor's number; -1 once released.
    #[inline]
    pub fn fd(&self) -> RawFd {
        self.fd.get()
    }

    pub fn is_open(&self) -> bool {
        self.fd.get() >= 0
    }

    /// TCP_NODELAY, where there is such a thing.
    pub fn set_nodelay(&self) {
        // Unix sockets refuse; that is all there is to know.
        let _ = socket::set_nodelay(self.fd.get(), true);
    }

    /// The socket object; an accepted connection gets one now, which then owns the descriptor.
    fn socket_object<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(sock) = self.socket.bound(py) {
            return Ok(Some(sock));
        }
        if !self.is_open() {
            return Ok(None);
        }
        let kwargs = PyDict::new(py);
        kwargs.set_item("fileno", self.fd.get())?;
        let sock = stdlib::socket_class(py)?.call((), Some(&kwargs))?;
        // From here on the socket object is the owner.
        if let Some(owned) = self.native.borrow_mut().take() {
            let _number = owned.into_raw_fd();
        }
        self.socket.set(Ref::from_borrowed(&sock));
        hold(&sock)?;
        Ok(Some(sock))
    }

    /// What `get_extra_info('socket')` shows: a `TransportSocket`.
    pub fn shown_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(shown) = self.shown.bound(py) {
            return Ok(shown);
        }
        let sock = match self.socket_object(py)? {
            Some(sock) => sock,
            None => {
                // The connection is over: a closed socket, as asyncio would show.
                let sock = stdlib::socket_class(py)?.call0()?;
                sock.call_method0(intern!(py, "close"))?;
                sock
            }
        };
        let shown = stdlib::transport_socket(py)?.call1((sock,))?;
        self.shown.set(Ref::from_borrowed(&shown));
        Ok(shown)
    }

    /// The raw socket object, for programs that read `transport._sock`.
    pub fn raw_socket<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if !self.is_open() {
            return Ok(py.None().into_bound(py));
        }
        Ok(self.socket_object(py)?.unwrap_or_else(|| py.None().into_bound(py)))
    }

    /// The local address, or None.
    pub fn local_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if !self.local_known.replace(true) && self.is_open() {
            if let Ok(address) = socket::getsockname(self.fd.get()) {
                self.local.set(Ref::new(convert::address(py, &address)?));
            }
        }
        Ok(self.local.or_none(py))
    }

    /// The peer's address, or None.
    pub fn peer_name<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let address = self.peer_address.borrow_mut().take();
        if let Some(address) = address {
            self.peer.set(Ref::new(convert::address(py, &address)?));
        }
        Ok(self.peer.or_none(py))
    }

    /// Closes the descriptor, once. The driver has let go of it.
    pub fn release(&self, py: Python<'_>) -> PyResult<()> {
        if !self.is_open() {
            return Ok(());
        }
        // The name outlives the socket, as in asyncio.
        let named = self.local_name(py).map(drop);
        self.fd.set(-1);
        let native = self.native.borrow_mut().take();
        drop(native);
        if let Some(sock) = self.socket.take() {
            let sock = sock.bind(py);
            let let_go = unhold(sock);
            sock.call_method0(intern!(py, "close"))?;
            let_go?;
        }
        named
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.socket.traverse(visit)?;
        self.shown.traverse(visit)?;
        self.local.traverse(visit)?;
        self.peer.traverse(visit)
    }
}

/// Holds the socket open until `unhold`, whoever calls `close()` meanwhile.
pub fn hold(sock: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = intern!(sock.py(), "_io_refs");
    // What is no socket.socket has no such count, and its owner knows what it does.
    if let Some(count) = sock.getattr_opt(name)? {
        if let Ok(count) = count.extract::<usize>() {
            sock.setattr(name, count + 1)?;
        }
    }
    Ok(())
}

/// Gives back what `hold` took.
pub fn unhold(sock: &Bound<'_, PyAny>) -> PyResult<()> {
    if let Some(release) = sock.getattr_opt(intern!(sock.py(), "_decref_socketios"))? {
        release.call0()?;
    }
    Ok(())
}
