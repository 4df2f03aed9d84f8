//! TLS as a transport: the core's session between a transport below and a protocol above.
//!
//! | file            | subject                                                            |
//! |-----------------|--------------------------------------------------------------------|
//! | `mod.rs`        | the `TlsTransport` class: opening, losing, letting go               |
//! | `engine.rs`     | the TLS library: `ssl.SSLObject` between two memory BIOs            |
//! | `ends.rs`       | what the core's session asks for: engine, protocol, transport, time |
//! | `deliver.rs`    | plaintext to the protocol, whatever kind it is                      |
//! | `buffer.rs`     | the buffer that the connections of a loop share                     |
//! | `below.rs`      | what is asked of the transport below                                |
//! | `events.rs`     | what the transport below reports                                    |
//! | `write.rs`      | writing                                                            |
//! | `methods.rs`    | its other methods and attributes as Python sees them                |
//!
//! Facts. asyncio puts a Python protocol (`asyncio.sslproto`) between its transport and the user's
//! protocol, so every message goes through a dozen Python calls. A user's `SSLContext` has
//! properties that only the standard library's `ssl` knows (callbacks, certificates, sessions).
//! Decision. The same session is run natively; the engine is what `SSLContext.wrap_bio` returns, past
//! whose methods the data goes directly to its libssl where that is possible. To
//! the transport below, a `TlsTransport` stands in the place of the protocol, and is called without
//! Python. TLS inside TLS is one `TlsTransport` above another.
//! What can still go wrong: below and above refer to each other until the connection is lost; what
//! is never closed is found by the collector only.
//! Source of behaviour: CPython `Lib/asyncio/sslproto.py`.

mod below;
mod buffer;
mod deliver;
mod ends;
mod engine;
pub(super) mod events;
mod methods;
mod write;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use oxloop_core::tls::{Phase, Session, Told};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::reports;
use crate::event_loop::EventLoop;
use crate::ffi::class::Finalize;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};

pub use buffer::TlsBuffer;
use deliver::Kind;
use engine::Engine;
pub use write::write;

/// The transport that a protocol sees of a TLS connection. Made by the loop.
#[pyclass(frozen, weakref, module = "oxloop", name = "TlsTransport")]
pub struct TlsTransport {
    home: Slot,
    /// The transport that carries the ciphertext; empty before the beginning and after the loss.
    below: Slot,
    protocol: Slot,
    kind: Cell<Kind>,
    /// The context of the connection, from below.
    context: Slot,
    /// A future for the end of the handshake.
    waiter: Slot,
    /// What `get_extra_info` tells, a dict.
    extra: Slot,
    lost_error: Slot,
    handshake_timeout: Slot,
    shutdown_timeout: Slot,
    handshake_timer: Slot,
    shutdown_timer: Slot,
    engine: Engine,
    session: Session,
    /// Plaintext that the engine was not given: bytes objects, each from an offset on.
    backlog: RefCell<VecDeque<(Ref, usize)>>,
    backlog_bytes: Cell<usize>,
    closed: Cell<bool>,
    /// `close()` was called on a closed transport: nobody asks it for anything any more.
    forgotten: Cell<bool>,
    writes_after_loss: Cell<u32>,
    /// The loop's time at the start of the handshake; debug mode only.
    handshake_started_s: Cell<f64>,
}

attached_only!(TlsTransport);

/// What a TLS connection is made with.
pub struct Options<'a, 'py> {
    pub server_side: bool,
    pub server_hostname: Option<&'a Bound<'py, PyAny>>,
    pub handshake_timeout: Option<&'a Bound<'py, PyAny>>,
    pub shutdown_timeout: Option<&'a Bound<'py, PyAny>>,
    /// False: the protocol knows its connection already (STARTTLS).
    pub tell_protocol: bool,
}

impl TlsTransport {
    /// A connection that has not begun; given to a transport as its protocol, it begins.
    pub fn new<'py>(
        home: &Bound<'py, EventLoop>,
        protocol: &Bound<'py, PyAny>,
        ssl_context: Option<&Bound<'py, PyAny>>,
        waiter: Option<Ref>,
        options: &Options<'_, 'py>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = home.py();
        let handshake_timeout = timeout(
            py,
            "ssl_handshake_timeout",
            options.handshake_timeout,
            "SSL_HANDSHAKE_TIMEOUT",
        )?;
        let shutdown_timeout =
            timeout(py, "ssl_shutdown_timeout", options.shutdown_timeout, "SSL_SHUTDOWN_TIMEOUT")?;
        let hostname = match options.server_hostname {
            Some(name) if !options.server_side && name.is_truthy()? => Some(name),
            _ => None,
        };
        let ssl_context = match ssl_context {
            Some(given) if given.is_truthy()? => given.clone(),
            _ => default_context(py, options)?,
        };
        let engine = Engine::new(&ssl_context, options.server_side, hostname)?;
        let extra = PyDict::new(py);
        extra.set_item("sslcontext", ssl_context)?;
        let told = if options.tell_protocol { Told::Nothing } else { Told::Made };
        let transport = Bound::new(
            py,
            Self {
                home: Slot::holding(Ref::from_borrowed(home)),
                below: Slot::empty(),
                protocol: Slot::empty(),
                kind: Cell::new(Kind::Protocol),
                context: Slot::empty(),
                waiter: waiter.map_or_else(Slot::empty, Slot::holding),
                extra: Slot::holding(Ref::new(extra)),
                lost_error: Slot::empty(),
                handshake_timeout: Slot::holding(handshake_timeout),
                shutdown_timeout: Slot::holding(shutdown_timeout),
                handshake_timer: Slot::empty(),
                shutdown_timer: Slot::empty(),
                engine,
                session: Session::new(told),
                backlog: RefCell::new(VecDeque::new()),
                backlog_bytes: Cell::new(0),
                closed: Cell::new(false),
                forgotten: Cell::new(false),
                writes_after_loss: Cell::new(0),
                handshake_started_s: Cell::new(0.0),
            },
        )?;
        transport.get().adopt_protocol(protocol)?;
        Ok(transport)
    }

    fn home<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EventLoop>> {
        match self.home.get() {
            // Only `new` fills the slot, with an `EventLoop`.
            Some(home) => Ok(home.bind_as::<EventLoop>(py).clone()),
            None => Err(crate::ffi::call::unexplained()),
        }
    }

    fn adopt_protocol(&self, protocol: &Bound<'_, PyAny>) -> PyResult<()> {
        self.kind.set(Kind::of(protocol)?);
        self.protocol.set(Ref::from_borrowed(protocol));
        Ok(())
    }

    /// Drops what was written and not encrypted.
    fn drop_backlog(&self) {
        self.backlog_bytes.set(0);
        let backlog = self.backlog.take();
        drop(backlog);
    }

    /// Lets go of the TLS library's objects once the connection is lost and nobody asks for them.
    ///
    /// A protocol that keeps its transport would otherwise keep the context until it is collected.
    fn forget(&self) {
        if self.forgotten.get() && self.session.phase() == Phase::Unwrapped && !self.below.is_some()
        {
            self.engine.release();
            self.extra.clear();
        }
    }
}

/// The timeout that was given, which must be positive, or asyncio's constant: seconds.
fn timeout(
    py: Python<'_>,
    name: &str,
    given: Option<&Bound<'_, PyAny>>,
    constant: &str,
) -> PyResult<Ref> {
    match given.filter(|given| !given.is_none()) {
        // Looked up each time: programs set it.
        None => Ok(Ref::new(py.import("asyncio.constants")?.getattr(constant)?)),
        Some(given) if given.le(0)? => Err(PyValueError::new_err(format!(
            "{name} should be a positive number, got {}",
            given.str()?
        ))),
        Some(given) => Ok(Ref::from_borrowed(given)),
    }
}

/// The context of a client that gave none: certificates are verified, and the name if there is one.
fn default_context<'py>(
    py: Python<'py>,
    options: &Options<'_, 'py>,
) -> PyResult<Bound<'py, PyAny>> {
    if options.server_side {
        return Err(PyValueError::new_err("Server side SSL needs a valid SSLContext"));
    }
    // Looked up each time: programs replace it, to trust other authorities.
    let context = py.import("ssl")?.call_method0("create_default_context")?;
    let has_name = match options.server_hostname {
        Some(name) => name.is_truthy()?,
        None => false,
    };
    if !has_name {
        context.setattr("check_hostname", false)?;
    }
    Ok(context)
}

impl Finalize for TlsTransport {
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        !object.get().closed.get()
    }

    /// Nobody closed it; the transport below closes its descriptor by itself.
    fn finalize(slf: &Bound<'_, Self>) {
        if !slf.get().closed.replace(true) {
            reports::warn_unclosed(slf.as_any());
        }
    }
}
