//! The data of a TLS connection, past the methods of Python's `ssl`: the same libssl, called directly.
//!
//! Facts. `_ssl` is linked with some libssl; whatever `_ssl` sees is found through its own handle.
//! Its objects are C structures: after the header (two words) a `MemoryBIO` has its `BIO*`, an
//! `SSLContext` its `SSL_CTX*`, and an `_SSLSocket` a weak reference, its `SSL*`, and its context.
//! OpenSSL leaves the reasons of a failure in a queue of the thread, and `_ssl` makes its exception
//! from that queue.
//! Decision. [`DirectSsl::attach`] reads these words and believes them only if they agree with each
//! other and with what libssl itself answers; anything unexpected leaves the object detached, and
//! the caller goes on with `ssl`'s own methods. Only reading, writing and the BIOs are used here;
//! handshake, shutdown and all questions stay with `ssl`. On a failure nothing is taken from the
//! queue: the caller repeats the call through `ssl`, which raises what it would have raised.
//! What can still go wrong: a build of Python that changed its structures so that every check still
//! holds; none such is known from 3.11 to 3.15.

use std::cell::Cell;
use std::ffi::{CString, c_int, c_void};

use oxloop_core::sys::library::Library;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::{PyTraverseError, PyVisit};

use super::received::Room;
use super::{Ref, Slot};

/// Words of the structures of `_ssl`, counted from the start of the object.
const BIO_WORD: usize = 2;
const CONTEXT_WORD: usize = 2;
const SSL_WORD: usize = 3;
const SSL_CONTEXT_WORD: usize = 4;

/// Results of SSL_get_error (openssl/ssl.h).
const SSL_ERROR_WANT_READ: c_int = 2;
const SSL_ERROR_WANT_WRITE: c_int = 3;
const SSL_ERROR_ZERO_RETURN: c_int = 6;

type Pointer = *mut c_void;

// The functions that are used, as OpenSSL 1.1.1 and 3 declare them.
type Transfer = unsafe extern "C" fn(Pointer, Pointer, c_int) -> c_int;
type TransferOut = unsafe extern "C" fn(Pointer, *const c_void, c_int) -> c_int;
type GetError = unsafe extern "C" fn(Pointer, c_int) -> c_int;
type GetNumber = unsafe extern "C" fn(Pointer) -> c_int;
type GetSize = unsafe extern "C" fn(Pointer) -> usize;
type GetPointer = unsafe extern "C" fn(Pointer) -> Pointer;
type Clear = unsafe extern "C" fn();

struct Functions {
    ssl_read: Transfer,
    ssl_write: TransferOut,
    ssl_get_error: GetError,
    ssl_pending: GetNumber,
    ssl_get_context: GetPointer,
    ssl_get_rbio: GetPointer,
    ssl_get_wbio: GetPointer,
    bio_read: Transfer,
    bio_write: TransferOut,
    bio_pending: GetSize,
    clear_errors: Clear,
}

impl Functions {
    fn find(library: &Library) -> Option<Self> {
        macro_rules! find {
            ($name:literal as $signature:ty) => {{
                let address = library.symbol($name)?.as_ptr();
                // SAFETY: the address of the function of this name, which has this signature.
                unsafe { std::mem::transmute::<Pointer, $signature>(address) }
            }};
        }
        Some(Self {
            ssl_read: find!(c"SSL_read" as Transfer),
            ssl_write: find!(c"SSL_write" as TransferOut),
            ssl_get_error: find!(c"SSL_get_error" as GetError),
            ssl_pending: find!(c"SSL_pending" as GetNumber),
            ssl_get_context: find!(c"SSL_get_SSL_CTX" as GetPointer),
            ssl_get_rbio: find!(c"SSL_get_rbio" as GetPointer),
            ssl_get_wbio: find!(c"SSL_get_wbio" as GetPointer),
            bio_read: find!(c"BIO_read" as Transfer),
            bio_write: find!(c"BIO_write" as TransferOut),
            bio_pending: find!(c"BIO_ctrl_pending" as GetSize),
            clear_errors: find!(c"ERR_clear_error" as Clear),
        })
    }

    /// The functions of the libssl that `_ssl` uses; None if they cannot be found.
    fn of_python(py: Python<'_>) -> Option<&'static Self> {
        static FUNCTIONS: PyOnceLock<Option<Functions>> = PyOnceLock::new();
        let find = || -> Option<Self> {
            // A Python with libssl inside has no such file.
            let path =
                py.import("_ssl").ok()?.getattr("__file__").ok()?.extract::<String>().ok()?;
            Self::find(&Library::loaded(&CString::new(path).ok()?)?)
        };
        FUNCTIONS.get_or_init(py, find).as_ref()
    }
}

/// What a read gave.
pub enum Read {
    Bytes(usize),
    /// Nothing has come that could be decrypted.
    Again,
    /// The peer's close_notify.
    Closed,
    /// The reason is in libssl's queue.
    Failed,
}

/// What a write gave.
pub enum Written {
    Bytes(usize),
    /// Bytes of the peer are needed first.
    Again,
    /// The reason is in libssl's queue.
    Failed,
}

/// Where a connection's structures are.
#[derive(Clone, Copy)]
struct Place {
    functions: &'static Functions,
    ssl: Pointer,
    incoming: Pointer,
    outgoing: Pointer,
}

/// The SSL structure of an `_SSLSocket` over two memory BIOs; detached until `attach` succeeds.
///
/// Invariant: while `place` is filled, `owner` holds the `_SSLSocket`, which owns what `place`
/// points to. Each call holds the owner once more, for it may run code that detaches.
#[derive(Default)]
pub struct DirectSsl {
    owner: Slot,
    place: Cell<Option<Place>>,
}

/// The word `index` of the object, if its type is at least that large.
fn word(object: &Bound<'_, PyAny>, index: usize) -> Option<Pointer> {
    let size = object.get_type().getattr("__basicsize__").ok()?.extract::<usize>().ok()?;
    if size < (index + 1) * size_of::<Pointer>() {
        return None;
    }
    // SAFETY: inside of the object by its type's own size, and aligned as every object is.
    Some(unsafe { *object.as_ptr().cast::<Pointer>().add(index) })
}

/// Whether the object is an instance of this very class of `_ssl`.
fn is_of(object: &Bound<'_, PyAny>, class: &str) -> bool {
    let Ok(module) = object.py().import("_ssl") else { return false };
    module.getattr(class).is_ok_and(|class| object.get_type().is(&class))
}

impl DirectSsl {
    /// Takes hold of `socket`, an `_SSLSocket` over the memory BIOs `incoming` and `outgoing`.
    /// Whether everything is as expected; if not, nothing has changed.
    pub fn attach(
        &self,
        socket: &Bound<'_, PyAny>,
        incoming: &Bound<'_, PyAny>,
        outgoing: &Bound<'_, PyAny>,
    ) -> bool {
        let place = Self::look(socket, incoming, outgoing);
        if place.is_some() {
            self.owner.set(Ref::from_borrowed(socket));
            self.place.set(place);
        }
        place.is_some()
    }

    fn look(
        socket: &Bound<'_, PyAny>,
        incoming: &Bound<'_, PyAny>,
        outgoing: &Bound<'_, PyAny>,
    ) -> Option<Place> {
        let py = socket.py();
        let is_known = is_of(socket, "_SSLSocket")
            && is_of(incoming, "MemoryBIO")
            && is_of(outgoing, "MemoryBIO")
            && size_of::<ffi::PyObject>() == 2 * size_of::<Pointer>();
        let context = socket.getattr("context").ok()?;
        let base = py.import("_ssl").ok()?.getattr("_SSLContext").ok()?;
        if !is_known || !context.is_instance(&base).ok()? {
            return None;
        }
        let functions = Functions::of_python(py)?;
        let ssl = word(socket, SSL_WORD)?;
        let bios = (word(incoming, BIO_WORD)?, word(outgoing, BIO_WORD)?);
        let ssl_context = word(&context, CONTEXT_WORD)?;
        let has_context = word(socket, SSL_CONTEXT_WORD)? == context.as_ptr().cast();
        if !has_context || ssl.is_null() || bios.0.is_null() || bios.1.is_null() {
            return None;
        }
        // SAFETY: the word between a weak reference and the context of an `_SSLSocket` is its SSL,
        // and the context is where it must be; the functions only read the structure.
        let found = unsafe {
            (
                (functions.ssl_get_context)(ssl),
                (functions.ssl_get_rbio)(ssl),
                (functions.ssl_get_wbio)(ssl),
            )
        };
        (found == (ssl_context, bios.0, bios.1)).then_some(Place {
            functions,
            ssl,
            incoming: bios.0,
            outgoing: bios.1,
        })
    }

    /// Lets go.
    pub fn detach(&self) {
        self.place.set(None);
        self.owner.clear();
    }

    #[inline]
    pub fn is_attached(&self) -> bool {
        self.place.get().is_some()
    }

    /// Where it is, and the owner, to be held during a call.
    #[inline]
    fn hold(&self) -> Option<(Place, Option<Ref>)> {
        self.place.get().map(|place| (place, self.owner.get()))
    }

    /// Takes ciphertext of the peer. False if there is no memory for it.
    pub fn feed(&self, data: &[u8]) -> bool {
        let Some((place, _owner)) = self.hold() else { return false };
        data.chunks(c_int::MAX as usize).all(|part| {
            // SAFETY: the BIO is alive with its owner; `part` is readable for its length.
            let taken = unsafe {
                (place.functions.bio_write)(
                    place.incoming,
                    part.as_ptr().cast(),
                    part.len() as c_int,
                )
            };
            taken == part.len() as c_int
        })
    }

    /// Ciphertext that was not looked at, in bytes.
    #[inline]
    pub fn incoming_bytes(&self) -> usize {
        let Some((place, _owner)) = self.hold() else { return 0 };
        // SAFETY: the BIO is alive with its owner.
        unsafe { (place.functions.bio_pending)(place.incoming) }
    }

    /// Ciphertext for the peer that was not fetched, in bytes.
    #[inline]
    pub fn outgoing_bytes(&self) -> usize {
        let Some((place, _owner)) = self.hold() else { return 0 };
        // SAFETY: the BIO is alive with its owner.
        unsafe { (place.functions.bio_pending)(place.outgoing) }
    }

    /// Plaintext that is decrypted and was not read, in bytes.
    #[inline]
    pub fn decrypted_bytes(&self) -> usize {
        let Some((place, _owner)) = self.hold() else { return 0 };
        // SAFETY: the SSL is alive with its owner.
        unsafe { (place.functions.ssl_pending)(place.ssl) }.max(0) as usize
    }

    /// Decrypts into `room`, which is not empty.
    #[inline]
    pub fn read(&self, mut room: Room<'_>) -> Read {
        let Some((place, _owner)) = self.hold() else { return Read::Again };
        let size = room.len().min(c_int::MAX as usize) as c_int;
        // SAFETY: the SSL is alive with its owner; `room` is writable for `size` bytes.
        let count = unsafe {
            (place.functions.clear_errors)();
            (place.functions.ssl_read)(place.ssl, room.start().cast(), size)
        };
        if count > 0 {
            return Read::Bytes(count as usize);
        }
        // SAFETY: the SSL of the call just made, on the same thread.
        match unsafe { (place.functions.ssl_get_error)(place.ssl, count) } {
            SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => Read::Again,
            SSL_ERROR_ZERO_RETURN => Read::Closed,
            _ => Read::Failed,
        }
    }

    /// Encrypts `data`, which is not empty.
    #[inline]
    pub fn write(&self, data: &[u8]) -> Written {
        let Some((place, _owner)) = self.hold() else { return Written::Again };
        let size = data.len().min(c_int::MAX as usize) as c_int;
        // SAFETY: the SSL is alive with its owner; `data` is readable for `size` bytes.
        let count = unsafe {
            (place.functions.clear_errors)();
            (place.functions.ssl_write)(place.ssl, data.as_ptr().cast(), size)
        };
        if count > 0 {
            return Written::Bytes(count as usize);
        }
        // SAFETY: the SSL of the call just made, on the same thread.
        match unsafe { (place.functions.ssl_get_error)(place.ssl, count) } {
            SSL_ERROR_WANT_READ | SSL_ERROR_WANT_WRITE => Written::Again,
            _ => Written::Failed,
        }
    }

    /// Fetches ciphertext for the peer into `buffer`: how many bytes.
    #[inline]
    pub fn fetch(&self, buffer: &mut [u8]) -> usize {
        let Some((place, _owner)) = self.hold() else { return 0 };
        let size = buffer.len().min(c_int::MAX as usize) as c_int;
        // SAFETY: the BIO is alive with its owner; `buffer` is writable for `size` bytes.
        let count =
            unsafe { (place.functions.bio_read)(place.outgoing, buffer.as_mut_ptr().cast(), size) };
        count.max(0) as usize
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.owner.traverse(visit)
    }
}
