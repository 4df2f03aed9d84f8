//! The TLS library: what `SSLContext.wrap_bio` returns, between two memory BIOs.
//!
//! Facts. `ssl.SSLObject` passes each call on to an object of the C module, `_sslobj`, by a Python
//! frame. A read that finds nothing raises SSLWantReadError, which costs more than a small record.
//! A record carries at most 16 KiB of plaintext, and one read returns at most one record. The engine
//! runs the program's callbacks (server name, messages) in the middle of a call, and is not made to
//! be entered again from there.
//! Decision. Once the handshake is done, data goes directly through the libssl below, if it is found
//! where it is expected ([`DirectSsl`]) and nobody listens to messages. Else the C object is called,
//! if the object is exactly an `ssl.SSLObject`; a class of the user's keeps its methods. What fails
//! directly is repeated by the method, for its exception. Nothing is read once both the BIO and the engine are empty. While a
//! call is under way, another one is answered as if the engine had to wait for the peer; whoever
//! made the first looks again when it returns.
//! What can still go wrong: a record of which only a part has come stands inside the engine, where
//! nobody can count it.

use std::cell::Cell;

use oxloop_core::tls::{ReadEnd, Step};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyMemoryView, PySlice};
use pyo3::{PyTraverseError, PyVisit};

use crate::ffi::call::{bytes_of, call_method_one, unexplained};
use crate::ffi::libssl::{DirectSsl, Read, Written};
use crate::ffi::received::Room;
use crate::ffi::{Ref, Slot};
use crate::stdlib;

/// The plaintext of one record (RFC 8446, 5.1), and so of one read.
const RECORD_BYTES_MAX: usize = 16 * 1024;
/// The least that is asked for: the plaintext of small records needs no second look at its size.
const READ_BYTES_MIN: usize = 1024;

/// One side of a TLS connection.
pub struct Engine {
    /// What `get_extra_info('ssl_object')` shows.
    object: Slot,
    /// What is called for data: `object`, or the C object inside.
    data: Slot,
    incoming: Slot,
    outgoing: Slot,
    direct: DirectSsl,
    busy: Cell<bool>,
}

/// Plaintext of one look, and how it ended.
pub struct Plaintext<'py> {
    pub data: Option<Bound<'py, PyAny>>,
    pub end: PyResult<ReadEnd>,
}

/// The engine is in a call until this is dropped.
struct Call<'a>(&'a Cell<bool>);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl Engine {
    /// Asks `context` for a connection.
    ///
    /// # Errors
    /// Those of `SSLContext.wrap_bio`: for one, a name that is missing or malformed.
    pub fn new(
        context: &Bound<'_, PyAny>,
        server_side: bool,
        server_hostname: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = context.py();
        let incoming = stdlib::memory_bio(py)?.call0()?;
        let outgoing = stdlib::memory_bio(py)?.call0()?;
        let kwargs = PyDict::new(py);
        kwargs.set_item("server_side", server_side)?;
        kwargs.set_item("server_hostname", server_hostname)?;
        let object =
            context.call_method(intern!(py, "wrap_bio"), (&incoming, &outgoing), Some(&kwargs))?;
        let data = match object.get_type().is(stdlib::ssl_object(py)?) {
            true => object.getattr(intern!(py, "_sslobj"))?,
            false => object.clone(),
        };
        Ok(Self {
            object: Slot::holding(Ref::new(object)),
            data: Slot::holding(Ref::new(data)),
            incoming: Slot::holding(Ref::new(incoming)),
            outgoing: Slot::holding(Ref::new(outgoing)),
            direct: DirectSsl::default(),
            busy: Cell::new(false),
        })
    }

    /// The `ssl.SSLObject`.
    pub fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.object.or_none(py)
    }

    fn enter(&self) -> Option<Call<'_>> {
        (!self.busy.replace(true)).then(|| Call(&self.busy))
    }

    fn step(&self, py: Python<'_>, method: &str) -> PyResult<Step<PyErr>> {
        let Some(_call) = self.enter() else { return Ok(Step::Again) };
        match self.object(py).call_method0(method) {
            Ok(_) => Ok(Step::Done),
            Err(err) if is_again(py, &err)? => Ok(Step::Again),
            Err(err) if err.is_instance(py, stdlib::ssl_error(py)?) => Ok(Step::Failed(err)),
            Err(err) => Err(err),
        }
    }

    /// One step of the handshake; `Failed` for an `ssl.SSLError`.
    pub fn handshake(&self, py: Python<'_>) -> PyResult<Step<PyErr>> {
        self.step(py, "do_handshake")
    }

    /// One step of the shutdown; `Failed` for an `ssl.SSLError`.
    pub fn shut_down(&self, py: Python<'_>) -> PyResult<Step<PyErr>> {
        self.step(py, "unwrap")
    }

    /// From now on data goes directly through libssl, if that can be done.
    pub fn go_direct(&self, py: Python<'_>) -> PyResult<()> {
        let data = self.data.or_none(py);
        if data.is(self.object(py)) {
            return Ok(());
        }
        let context = data.getattr(intern!(py, "context"))?;
        // Its exceptions wait for the next call of a method.
        let listener = context.getattr_opt(intern!(py, "_msg_callback"))?;
        if listener.is_none_or(|listener| listener.is_none()) {
            self.direct.attach(&data, &self.incoming.or_none(py), &self.outgoing.or_none(py));
        }
        Ok(())
    }

    /// Whether data goes directly through libssl.
    #[inline]
    pub fn is_direct(&self) -> bool {
        self.direct.is_attached()
    }

    /// Takes ciphertext of the peer directly; false if that cannot be done. Runs no Python.
    #[inline]
    pub fn feed_directly(&self, data: &[u8]) -> bool {
        self.direct.is_attached() && self.direct.feed(data)
    }

    /// Takes ciphertext of the peer.
    pub fn feed(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = data.py();
        let incoming = self.incoming.or_none(py);
        call_method_one(&incoming, intern!(py, "write"), data).map(drop)
    }

    /// Ciphertext that came and was not looked at, in bytes.
    pub fn incoming_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        if self.direct.is_attached() {
            return Ok(self.direct.incoming_bytes());
        }
        pending(py, &self.incoming)
    }

    /// Ciphertext for the peer that was not fetched, in bytes.
    pub fn outgoing_bytes(&self, py: Python<'_>) -> PyResult<usize> {
        if self.direct.is_attached() {
            return Ok(self.direct.outgoing_bytes());
        }
        pending(py, &self.outgoing)
    }

    /// Fetches the ciphertext for the peer; None if there is none.
    pub fn fetch<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let data = self.outgoing.or_none(py).call_method0(intern!(py, "read"))?;
        Ok((data.len()? > 0).then_some(data))
    }

    /// Fetches ciphertext for the peer directly into `buffer`: how many bytes. Runs no Python.
    #[inline]
    pub fn fetch_into(&self, buffer: &mut [u8]) -> usize {
        self.direct.fetch(buffer)
    }

    /// Encrypts `data`, a bytes object, from `start` on; how many bytes were taken, or None if the
    /// engine needs bytes of the peer first.
    pub fn write(&self, py: Python<'_>, data: &Ref, start: usize) -> PyResult<Option<usize>> {
        let Some(_call) = self.enter() else { return Ok(None) };
        if self.direct.is_attached() {
            match self.direct.write(&bytes_of(data)[start..]) {
                Written::Bytes(count) => return Ok(Some(count)),
                Written::Again => return Ok(None),
                Written::Failed => {}
            }
        }
        let part = match start {
            0 => data.bind(py).clone(),
            _ => PyBytes::new(py, &bytes_of(data)[start..]).into_any(),
        };
        match call_method_one(&self.data.or_none(py), intern!(py, "write"), &part) {
            Ok(count) => count.extract().map(Some),
            Err(err) if is_again(py, &err)? => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// An upper bound for the plaintext that can be read directly.
    #[inline]
    pub fn readable_directly_bytes(&self) -> usize {
        self.direct.incoming_bytes() + self.direct.decrypted_bytes()
    }

    /// Decrypts directly into `room` until it is full or nothing is left: how many bytes, and how
    /// it ended.
    #[inline]
    pub fn read_directly(&self, py: Python<'_>, mut room: Room<'_>) -> (usize, PyResult<ReadEnd>) {
        let Some(_call) = self.enter() else { return (0, Ok(ReadEnd::Drained)) };
        let mut filled = 0;
        loop {
            if self.direct.incoming_bytes() == 0 && self.direct.decrypted_bytes() == 0 {
                return (filled, Ok(ReadEnd::Drained));
            }
            if filled == room.len() {
                return (filled, Ok(ReadEnd::More));
            }
            let end = match self.direct.read(room.after(filled)) {
                Read::Bytes(count) => {
                    filled += count;
                    continue;
                }
                Read::Again => Ok(ReadEnd::Drained),
                Read::Closed => Ok(ReadEnd::Closed),
                Read::Failed => self.failure(py),
            };
            return (filled, end);
        }
    }

    /// Reads by the method, for the exception of what has just failed directly.
    #[cold]
    fn failure(&self, py: Python<'_>) -> PyResult<ReadEnd> {
        match self.data.or_none(py).call_method1(intern!(py, "read"), (1,)) {
            Ok(data) if data.len()? == 0 => Ok(ReadEnd::Closed),
            // libssl has changed its mind, which it never does after a failure.
            Ok(_) => Err(unexplained()),
            Err(err) if is_again(py, &err)? => Ok(ReadEnd::Drained),
            Err(err) => Err(err),
        }
    }

    /// An upper bound for the plaintext that one read finds, 0 if it would find nothing.
    fn readable_bytes(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<usize> {
        let decrypted: usize = data.call_method0(intern!(py, "pending"))?.extract()?;
        let encrypted = if decrypted > 0 { 0 } else { self.incoming_bytes(py)? };
        Ok(match decrypted + encrypted {
            0 => 0,
            size => size.clamp(READ_BYTES_MIN, RECORD_BYTES_MAX),
        })
    }

    /// Decrypts everything that has come.
    ///
    /// An error does not take back what was decrypted before it.
    pub fn read<'py>(&self, py: Python<'py>) -> Plaintext<'py> {
        let mut first: Option<Bound<'py, PyAny>> = None;
        let mut all: Option<Bound<'py, PyList>> = None;
        let end = self.read_records(py, &mut first, &mut all);
        let data = match all {
            None => Ok(first),
            Some(all) => PyBytes::new(py, b"").call_method1(intern!(py, "join"), (all,)).map(Some),
        };
        match data {
            Ok(data) => Plaintext { data, end },
            Err(err) => Plaintext { data: None, end: Err(err) },
        }
    }

    fn read_records<'py>(
        &self,
        py: Python<'py>,
        first: &mut Option<Bound<'py, PyAny>>,
        all: &mut Option<Bound<'py, PyList>>,
    ) -> PyResult<ReadEnd> {
        let Some(_call) = self.enter() else { return Ok(ReadEnd::Drained) };
        let data = self.data.or_none(py);
        loop {
            let size = self.readable_bytes(py, &data)?;
            if size == 0 {
                return Ok(ReadEnd::Drained);
            }
            let size = size.into_pyobject(py)?;
            let record = match call_method_one(&data, intern!(py, "read"), size.as_any()) {
                Ok(record) => record,
                Err(err) if is_again(py, &err)? => return Ok(ReadEnd::Drained),
                Err(err) => return Err(err),
            };
            if record.len()? == 0 {
                return Ok(ReadEnd::Closed);
            }
            match (&*first, &*all) {
                (None, _) => *first = Some(record),
                (Some(_), Some(all)) => all.append(record)?,
                (Some(first), None) => *all = Some(PyList::new(py, [first.clone(), record])?),
            }
        }
    }

    /// Whether a read would find anything.
    pub fn is_readable(&self, py: Python<'_>) -> PyResult<bool> {
        if self.busy.get() {
            return Ok(false);
        }
        if self.direct.is_attached() {
            return Ok(self.direct.incoming_bytes() > 0 || self.direct.decrypted_bytes() > 0);
        }
        Ok(self.readable_bytes(py, &self.data.or_none(py))? > 0)
    }

    /// Decrypts into `buffer`, a writable memoryview of `size` bytes: how many, and how it ended.
    pub fn read_into(
        &self,
        buffer: &Bound<'_, PyMemoryView>,
        size: usize,
    ) -> (usize, PyResult<ReadEnd>) {
        let py = buffer.py();
        let mut filled = 0;
        let mut fill = || -> PyResult<ReadEnd> {
            let Some(_call) = self.enter() else { return Ok(ReadEnd::Drained) };
            let data = self.data.or_none(py);
            while filled < size {
                if self.readable_bytes(py, &data)? == 0 {
                    return Ok(ReadEnd::Drained);
                }
                let rest = match filled {
                    0 => buffer.as_any().clone(),
                    _ => buffer.get_item(PySlice::new(py, filled as isize, size as isize, 1))?,
                };
                match data.call_method1(intern!(py, "read"), (size - filled, rest)) {
                    Ok(count) => match count.extract::<usize>()? {
                        0 => return Ok(ReadEnd::Closed),
                        count => filled += count,
                    },
                    Err(err) if is_again(py, &err)? => return Ok(ReadEnd::Drained),
                    Err(err) => return Err(err),
                }
            }
            Ok(ReadEnd::More)
        };
        let end = fill();
        (filled, end)
    }

    /// Gives the objects up. The engine must not be used any more.
    pub fn release(&self) {
        self.direct.detach();
        let parts =
            (self.object.take(), self.data.take(), self.incoming.take(), self.outgoing.take());
        drop(parts);
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [&self.object, &self.data, &self.incoming, &self.outgoing] {
            slot.traverse(visit)?;
        }
        self.direct.traverse(visit)
    }
}

/// The bytes in a memory BIO; none if it was given up.
fn pending(py: Python<'_>, bio: &Slot) -> PyResult<usize> {
    match bio.bound(py) {
        Some(bio) => bio.getattr(intern!(py, "pending"))?.extract(),
        None => Ok(0),
    }
}

/// Whether the engine only has to wait for the peer.
fn is_again(py: Python<'_>, err: &PyErr) -> PyResult<bool> {
    Ok(err.is_instance(py, stdlib::ssl_want_read(py)?)
        || err.is_instance(py, stdlib::ssl_syscall_error(py)?))
}
