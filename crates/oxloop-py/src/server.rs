//! `Server`: listening sockets whose connections get a transport and a protocol.
//!
//! Facts: when descriptors run out, `accept` fails at once and the listener stays readable: a loop
//! that goes on asking spins and floods the log. A protocol factory may raise; that ends one
//! connection, never the server.
//! Decision: when descriptors or memory run out the listener rests (the core says how long), with one
//! report.
//! Connections are accepted natively and get a socket object only when somebody asks for it. With
//! TLS a `TlsTransport` stands between the transport and the user's protocol.
//! The coroutines (`serve_forever`, `wait_closed`, …) are in the Python class that derives from this.
//! Source of behaviour: CPython `Lib/asyncio/base_events.py` (`Server`), `selector_events.py`
//! (`_accept_connection`).

use std::cell::{Cell, RefCell};
use std::os::fd::RawFd;

use oxloop_core::{Driver as _, Op, Outcome, Token, listener};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::convert;
use crate::event_loop::{Chunk, EventLoop, Source};
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::ffi::{Entered, Ref, Slot, context};
use crate::simulation::SimSocket;
use crate::stdlib;
use crate::transport::{Connection, StreamTransport, TlsOptions, TlsTransport, hold, unhold};

/// The native part of `oxloop.Server`.
#[pyclass(frozen, subclass, weakref, module = "oxloop._oxloop", name = "Server")]
pub struct Server {
    home: Slot,
    factory: Slot,
    ssl_context: Slot,
    ssl_handshake_timeout: Slot,
    ssl_shutdown_timeout: Slot,
    context: Slot,
    on_close: Slot,
    clients: Slot,
    backlog: i32,
    /// None once closed.
    sockets: RefCell<Option<Vec<Ref>>>,
    listening: RefCell<Vec<(RawFd, Token, Ref)>>,
    serving: Cell<bool>,
    active: Cell<usize>,
}

/// One listening socket, as the source of accepted connections.
#[pyclass(frozen, module = "oxloop._oxloop", name = "_Listener")]
pub struct Listener {
    server: Slot,
    sock: Slot,
}

attached_only!(Server, Listener);

#[pymethods]
impl Listener {
    /// The rest after a failed accept is over.
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Server::rearm(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.server.traverse(&visit)?;
        self.sock.traverse(&visit)
    }

    fn __clear__(&self) {
        drop((self.server.take(), self.sock.take()));
    }
}

/// A completion on a listening socket.
fn accepted(object: &Bound<'_, PyAny>, outcome: Outcome<Chunk>) -> PyResult<()> {
    let py = object.py();
    let listener = object.cast::<Listener>()?;
    let Some(server) = listener.get().server.bound(py) else { return Ok(()) };
    let server = server.cast_into::<Server>()?;
    match outcome {
        Outcome::Accepted(Ok((fd, peer))) => match fd.into_kernel() {
            Ok(fd) => server.get().welcome(&server, Connection::accepted(fd, peer)),
            Err(simulated) => {
                let home = server.get().home(py)?;
                let Some(kernel) = home.get().simulated() else {
                    return Err(PyRuntimeError::new_err(
                        "a simulated connection on a loop over Linux",
                    ));
                };
                let sock = Bound::new(py, SimSocket::over(kernel.clone(), simulated))?;
                server.get().welcome(&server, Connection::adopted(&sock)?)
            }
        },
        Outcome::Accepted(Err(err)) => Server::rest(&server, listener, err),
        _ => Ok(()),
    }
}

impl Server {
    fn home<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EventLoop>> {
        let home = self.home.get().ok_or_else(crate::ffi::call::unexplained)?;
        Ok(home.into_bound(py).cast_into::<EventLoop>()?)
    }

    /// Makes the protocol and the transport of one connection.
    fn welcome(&self, slf: &Bound<'_, Self>, connection: Connection) -> PyResult<()> {
        let py = slf.py();
        let home = self.home(py)?;
        if home.get().is_closed_now() || self.sockets.borrow().is_none() {
            return Ok(());
        }
        // Each connection has a copy of the context in which the server was started.
        let connection_context = match self.context.get() {
            Some(own) => Ref::new(own.bind(py).call_method0(intern!(py, "copy"))?),
            None => context::copy_current(py)?,
        };
        let (mut user_protocol, mut transport) = (None, None);
        let outcome = {
            let scope = connection_context.clone().into_bound(py);
            let entered = Entered::enter(&scope)?;
            let made = self.connect(
                slf,
                &home,
                connection,
                connection_context,
                &mut user_protocol,
                &mut transport,
            );
            entered.exit()?;
            made
        };
        let Err(err) = outcome else { return Ok(()) };
        if crate::handle::is_fatal(py, &err) {
            return Err(err);
        }
        if home.get().debug() {
            let report = PyDict::new(py);
            report.set_item("message", "Error on transport creation for incoming connection")?;
            let exception = error::instance(py, err).into_any();
            report.set_item("exception", &exception)?;
            if let Some(user_protocol) = user_protocol {
                report.set_item("protocol", user_protocol)?;
            }
            if let Some(transport) = transport {
                report.set_item("transport", transport)?;
            }
            error::while_handling(&exception, || {
                home.call_method1(intern!(py, "call_exception_handler"), (report,))
            })?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn connect<'py>(
        &self,
        slf: &Bound<'py, Self>,
        home: &Bound<'py, EventLoop>,
        connection: Connection,
        connection_context: Ref,
        user_protocol: &mut Option<Bound<'py, PyAny>>,
        transport: &mut Option<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let Some(factory) = self.factory.bound(py) else { return Ok(()) };
        // If the factory raises, the connection is closed on the way out.
        let made = factory.call0()?;
        *user_protocol = Some(made.clone());
        let spoken = match self.ssl_context.bound(py) {
            None => {
                // Looked up here, as in asyncio: what is no protocol makes no connection.
                made.getattr(intern!(py, "connection_made"))?;
                made
            }
            Some(ssl_context) => {
                // A failed handshake is told to the waiter; nobody waits for this one.
                let waiter = home.call_method0(intern!(py, "create_future"))?;
                waiter.call_method1(
                    intern!(py, "add_done_callback"),
                    (pyo3::wrap_pyfunction!(handshake_over, py)?,),
                )?;
                let (handshake_timeout, shutdown_timeout) =
                    (self.ssl_handshake_timeout.bound(py), self.ssl_shutdown_timeout.bound(py));
                let options = TlsOptions {
                    server_side: true,
                    server_hostname: None,
                    handshake_timeout: handshake_timeout.as_ref(),
                    shutdown_timeout: shutdown_timeout.as_ref(),
                    tell_protocol: true,
                };
                TlsTransport::new(
                    home,
                    &made,
                    Some(&ssl_context),
                    Some(Ref::new(waiter)),
                    &options,
                )?
                .into_any()
            }
        };
        let made = StreamTransport::open(
            home,
            connection,
            &spoken,
            connection_context,
            None,
            None,
            Some(Ref::from_borrowed(slf)),
        )?;
        *transport = Some(made.into_any());
        Ok(())
    }

    /// `accept` failed: rest if resources ran out, else the loop reports it.
    fn rest(
        slf: &Bound<'_, Self>,
        accepting: &Bound<'_, Listener>,
        err: std::io::Error,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let home = this.home(py)?;
        let place = this
            .listening
            .borrow()
            .iter()
            .find(|(_, _, object)| object.is(accepting.as_any()))
            .map(|(_, token, _)| *token);
        let Some(token) = place else { return Ok(()) };
        let rest = listener::rest_after(&mut *home.get().core().driver.borrow_mut(), token, &err);
        let err = convert::os_error(py, err);
        let Some(rest) = rest else { return Err(err) };
        let report = PyDict::new(py);
        report.set_item("message", "socket.accept() out of system resource")?;
        let exception = error::instance(py, err).into_any();
        report.set_item("exception", &exception)?;
        if let Some(sock) = accepting.get().sock.bound(py) {
            report.set_item("socket", stdlib::transport_socket(py)?.call1((sock,))?)?;
        }
        error::while_handling(&exception, || {
            home.call_method1(intern!(py, "call_exception_handler"), (report,))
        })?;
        home.call_method1(intern!(py, "call_later"), (rest.as_secs_f64(), accepting))?;
        Ok(())
    }

    /// Accepts again on one listener.
    fn rearm(listener: &Bound<'_, Listener>) -> PyResult<()> {
        let py = listener.py();
        let Some(server) = listener.get().server.bound(py) else { return Ok(()) };
        let server = server.cast_into::<Server>()?;
        let this = server.get();
        let place = this
            .listening
            .borrow()
            .iter()
            .find(|(_, _, object)| object.is(listener.as_any()))
            .map(|(_, token, _)| *token);
        let Some(token) = place else { return Ok(()) };
        let home = this.home(py)?;
        if home.get().is_closed_now() {
            return Ok(());
        }
        let armed = home.get().core().driver.borrow_mut().submit(token, Op::Accept);
        armed.map(drop).map_err(|err| convert::os_error(py, err))
    }

    /// Stops listening and closes the listening sockets.
    fn stop_listening(&self, py: Python<'_>) -> PyResult<()> {
        let listening = self.listening.take();
        let home = self.home(py)?;
        let usable = !home.get().is_closed_now() && !home.get().is_foreign_process();
        for (fd, token, listener) in listening {
            if usable {
                home.get().disclaim(fd, token);
                drop(home.get().core().remove_source(token));
            }
            let listener = listener.bind(py).cast::<Listener>()?.get();
            listener.server.clear();
            if let Some(sock) = listener.sock.take() {
                unhold(sock.bind(py))?;
            }
        }
        Ok(())
    }

    /// The set of transports of this server that are alive.
    fn client_set<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(clients) = self.clients.bound(py) {
            return Ok(clients);
        }
        let clients = stdlib::weak_set(py)?.call0()?;
        self.clients.set(Ref::from_borrowed(&clients));
        Ok(clients)
    }

    fn wake_if_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        if this.active.get() == 0 && this.sockets.borrow().is_none() {
            slf.call_method0(intern!(slf.py(), "_wakeup"))?;
        }
        Ok(())
    }
}

/// The handshake of an accepted connection failed or was given up: it was reported, if anything.
#[pyfunction]
fn handshake_over(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    if !future.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
        let exception = future.call_method0(intern!(py, "exception"))?;
        if exception.is_none() {
            return Ok(());
        }
        let home = future.call_method0(intern!(py, "get_loop"))?;
        if home.call_method0(intern!(py, "get_debug"))?.is_truthy()? {
            let report = PyDict::new(py);
            report.set_item("message", "Error on transport creation for incoming connection")?;
            report.set_item("exception", exception)?;
            home.call_method1(intern!(py, "call_exception_handler"), (report,))?;
        }
    }
    Ok(())
}

#[pymethods]
impl Server {
    #[new]
    #[pyo3(signature = (
        r#loop, sockets, protocol_factory, ssl_context, backlog,
        ssl_handshake_timeout = None, ssl_shutdown_timeout = None
    ))]
    fn new(
        r#loop: &Bound<'_, EventLoop>,
        sockets: &Bound<'_, PyAny>,
        protocol_factory: &Bound<'_, PyAny>,
        ssl_context: &Bound<'_, PyAny>,
        backlog: i32,
        ssl_handshake_timeout: Option<&Bound<'_, PyAny>>,
        ssl_shutdown_timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let slot = |value: Option<&Bound<'_, PyAny>>| {
            value
                .filter(|value| !value.is_none())
                .map_or_else(Slot::empty, |value| Slot::holding(Ref::from_borrowed(value)))
        };
        let mut kept = Vec::new();
        for sock in sockets.try_iter()? {
            kept.push(Ref::new(sock?));
        }
        Ok(Self {
            home: Slot::holding(Ref::from_borrowed(r#loop)),
            factory: slot(Some(protocol_factory)),
            ssl_context: slot(Some(ssl_context)),
            ssl_handshake_timeout: slot(ssl_handshake_timeout),
            ssl_shutdown_timeout: slot(ssl_shutdown_timeout),
            context: Slot::empty(),
            on_close: Slot::empty(),
            clients: Slot::empty(),
            backlog,
            sockets: RefCell::new(Some(kept)),
            listening: RefCell::new(Vec::new()),
            serving: Cell::new(false),
            active: Cell::new(0),
        })
    }

    /// Listen and accept. Idempotent; TypeError after `close()`, RuntimeError on a closed loop.
    fn _start_serving(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.serving.get() {
            return Ok(());
        }
        if this.sockets.borrow().is_none() {
            // asyncio's TypeError says that None cannot be iterated.
            return Err(PyTypeError::new_err("cannot start serving: the server is closed"));
        }
        let home = this.home(py)?;
        home.get().check_open()?;
        this.serving.set(true);
        this.context.set(context::copy_current(py)?);
        let sockets: Vec<Ref> = this.sockets.borrow().iter().flatten().cloned().collect();
        for sock in sockets {
            let sock = sock.bind(py);
            sock.call_method1(intern!(py, "listen"), (this.backlog,))?;
            let fd = sock.call_method0(intern!(py, "fileno"))?.extract::<RawFd>()?;
            home.get().ensure_no_transport(py, fd)?;
            let listener = Bound::new(
                py,
                Listener {
                    server: Slot::holding(Ref::from_borrowed(slf)),
                    sock: Slot::holding(Ref::from_borrowed(sock)),
                },
            )?;
            let source = Source { object: Ref::from_borrowed(&listener), completed: accepted };
            let token = home
                .get()
                .core()
                .add_source(fd, source)
                .map_err(|err| convert::os_error(py, err))?;
            home.get().claim(py, fd, token);
            hold(sock)?;
            this.listening.borrow_mut().push((fd, token, Ref::new(listener)));
            let armed = home.get().core().driver.borrow_mut().submit(token, Op::Accept);
            armed.map_err(|err| convert::os_error(py, err))?;
        }
        Ok(())
    }

    /// Stop accepting. Connections that are open stay open. Idempotent.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(sockets) = this.sockets.take() else { return Ok(()) };
        this.stop_listening(py)?;
        for sock in sockets {
            sock.bind(py).call_method0(intern!(py, "close"))?;
        }
        this.serving.set(false);
        slf.call_method0(intern!(py, "_serving_ended"))?;
        if let Some(on_close) = this.on_close.take() {
            on_close.bind(py).call0()?;
        }
        Self::wake_if_done(slf)
    }

    /// True while connections are accepted.
    fn is_serving(&self) -> bool {
        self.serving.get()
    }

    fn get_loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.or_none(py)
    }

    /// The listening sockets, to look at; empty once closed.
    #[getter]
    fn sockets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let sockets: Vec<Ref> = self.sockets.borrow().iter().flatten().cloned().collect();
        let shown = stdlib::transport_socket(py)?;
        let sockets = sockets
            .into_iter()
            .map(|sock| shown.call1((sock.into_bound(py),)))
            .collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, sockets)
    }

    /// The raw socket objects, or None once closed.
    #[getter]
    fn _sockets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let sockets: Option<Vec<Ref>> = self.sockets.borrow().clone();
        match sockets {
            None => Ok(py.None().into_bound(py)),
            Some(sockets) => {
                let sockets: Vec<_> = sockets.into_iter().map(|sock| sock.into_bound(py)).collect();
                Ok(PyList::new(py, sockets)?.into_any())
            }
        }
    }

    fn _attach(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        self.active.set(self.active.get() + 1);
        self.client_set(py)?.call_method1(intern!(py, "add"), (transport,))?;
        Ok(())
    }

    fn _detach(slf: &Bound<'_, Self>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.active.set(this.active.get().saturating_sub(1));
        this.client_set(py)?.call_method1(intern!(py, "discard"), (transport,))?;
        Self::wake_if_done(slf)
    }

    #[getter]
    fn _ssl_context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.ssl_context.or_none(py)
    }

    #[getter]
    fn _active_count(&self) -> usize {
        self.active.get()
    }

    #[getter]
    fn _clients<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.client_set(py)
    }

    #[getter]
    fn _on_close<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.on_close.or_none(py)
    }

    #[setter(_on_close)]
    fn set_on_close(&self, callback: &Bound<'_, PyAny>) {
        self.on_close.set(Ref::from_borrowed(callback));
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.home,
            &self.factory,
            &self.ssl_context,
            &self.ssl_handshake_timeout,
            &self.ssl_shutdown_timeout,
            &self.context,
            &self.on_close,
            &self.clients,
        ] {
            slot.traverse(&visit)?;
        }
        if let Ok(sockets) = self.sockets.try_borrow() {
            sockets.iter().flatten().try_for_each(|sock| sock.traverse(&visit))?;
        }
        if let Ok(listening) = self.listening.try_borrow() {
            listening.iter().try_for_each(|(_, _, listener)| listener.traverse(&visit))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let parts = (
            self.factory.take(),
            self.ssl_context.take(),
            self.context.take(),
            self.on_close.take(),
            self.clients.take(),
        );
        drop(parts);
    }
}
