//! Calls into Python that must not build a tuple, and the exceptions that come back.
//!
//! `PyIter_Send` is the one call that drives a coroutine: it returns the value of a coroutine that
//! ended without raising `StopIteration`. An exception is fetched at once, before anything else
//! may run: calling into Python with an exception set corrupts both.

use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::Ref;
use super::error;

/// An exception object that was raised, normalised, with its traceback.
pub struct Raised(pub Ref);

impl Raised {
    /// Takes the pending exception.
    #[cold]
    pub fn fetch(py: Python<'_>) -> Self {
        Self::from_err(py, PyErr::fetch(py))
    }

    #[cold]
    pub fn from_err(py: Python<'_>, err: PyErr) -> Self {
        Self(Ref::new(error::instance(py, err)))
    }

    pub fn into_err(self, py: Python<'_>) -> PyErr {
        PyErr::from_value(self.0.into_bound(py))
    }
}

/// What a coroutine did with one `send`.
pub enum Sent {
    Yielded(Ref),
    Returned(Ref),
    Raised(Raised),
}

/// Resumes a coroutine or iterator with `value`.
#[inline(always)]
pub fn iter_send(coroutine: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> Sent {
    let py = coroutine.py();
    let mut result: *mut ffi::PyObject = std::ptr::null_mut();
    // SAFETY: a live object has a live type; its table of async methods lives as long.
    let am_send = unsafe {
        let methods = (*ffi::Py_TYPE(coroutine.as_ptr())).tp_as_async;
        if methods.is_null() { None } else { (*methods).am_send }
    };
    // SAFETY: both are live objects and `result` receives an owned reference or null.
    let status = unsafe {
        match am_send {
            // What PyIter_Send would call.
            Some(send) => send(coroutine.as_ptr(), value.as_ptr(), &mut result),
            None => ffi::PyIter_Send(coroutine.as_ptr(), value.as_ptr(), &mut result),
        }
    };
    // SAFETY: the reference in `result` is ours.
    match (status, unsafe { Ref::from_owned_ptr(result) }) {
        (ffi::PySendResult::PYGEN_NEXT, Some(value)) => Sent::Yielded(value),
        (ffi::PySendResult::PYGEN_RETURN, Some(value)) => Sent::Returned(value),
        _ => Sent::Raised(Raised::fetch(py)),
    }
}

#[inline]
fn owned<'py>(py: Python<'py>, pointer: *mut ffi::PyObject) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: every caller passes the new reference that the C API has just returned, or null with
    // an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, pointer) }
}

/// `callable(*args)` for at most three arguments, without a tuple.
///
/// `args` has a free place in front, as `PY_VECTORCALL_ARGUMENTS_OFFSET` asks.
#[inline]
pub fn vectorcall<'py>(
    callable: &Bound<'py, PyAny>,
    args: &[Option<Ref>],
) -> PyResult<Bound<'py, PyAny>> {
    let mut stack = [std::ptr::null_mut(); 5];
    debug_assert!(args.len() <= 4);
    for (place, arg) in stack[1..].iter_mut().zip(args) {
        *place = arg.as_ref().map_or(std::ptr::null_mut(), Ref::as_ptr);
    }
    let count = args.iter().take_while(|arg| arg.is_some()).count();
    // SAFETY: `count` live arguments start at `stack[1]`; `stack[0]` is scratch space.
    let result = unsafe {
        ffi::PyObject_Vectorcall(
            callable.as_ptr(),
            stack.as_ptr().add(1),
            count | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET,
            std::ptr::null_mut(),
        )
    };
    owned(callable.py(), result)
}

/// `callable(arg)`.
#[inline]
pub fn call_one<'py>(
    callable: &Bound<'py, PyAny>,
    arg: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both are live objects.
    let result = unsafe { ffi::PyObject_CallOneArg(callable.as_ptr(), arg.as_ptr()) };
    owned(callable.py(), result)
}

/// `object.name(arg)` without binding the method.
#[inline]
pub fn call_method_one<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, pyo3::types::PyString>,
    arg: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: all are live objects.
    let result =
        unsafe { ffi::PyObject_CallMethodOneArg(object.as_ptr(), name.as_ptr(), arg.as_ptr()) };
    owned(object.py(), result)
}

/// `threading.get_ident()`, without a call into Python.
#[inline]
pub fn thread_ident() -> u64 {
    unsafe extern "C" {
        fn PyThread_get_thread_ident() -> std::ffi::c_ulong;
    }
    // SAFETY: has no preconditions; part of the C API that `_thread.get_ident` itself returns.
    unsafe { PyThread_get_thread_ident() }
}

/// Runs the Python handlers of signals that have arrived.
#[inline]
pub fn check_signals(py: Python<'_>) -> PyResult<()> {
    py.check_signals()
}

/// The bytes of an exact `bytes` object, without a copy.
#[inline]
pub fn bytes_of(object: &Ref) -> &[u8] {
    // SAFETY: callers keep exact bytes objects only (checked where they are stored); these are
    // immutable and live as long as the reference, to which the slice is tied.
    unsafe {
        let start = ffi::PyBytes_AsString(object.as_ptr());
        let length = ffi::PyBytes_Size(object.as_ptr());
        if start.is_null() || length < 0 {
            ffi::PyErr_Clear();
            return &[];
        }
        std::slice::from_raw_parts(start.cast(), length as usize)
    }
}

/// How much of CPython's limit one level of ours uses up. In 3.12 and 3.13 the limit is 10,000 calls
/// of C functions with small frames, and a coroutine that resumes another takes near 1 KiB of a stack
/// of 8 MiB; the versions before count Python's levels, those after look at the stack itself.
const LEVELS_PER_CALL: usize = if cfg!(all(Py_3_12, not(Py_3_14))) { 3 } else { 1 };

/// One more level of native recursion; RecursionError where CPython's own limit is reached.
#[must_use = "the level is left when this is dropped"]
pub struct Recursion(std::marker::PhantomData<*const ()>);

impl Recursion {
    /// `doing` ends the error's text: `" while ..."`.
    #[inline]
    pub fn enter(py: Python<'_>, doing: &'static std::ffi::CStr) -> PyResult<Self> {
        for entered in 0..LEVELS_PER_CALL {
            // SAFETY: attached; the text is a C string.
            if unsafe { ffi::Py_EnterRecursiveCall(doing.as_ptr()) } != 0 {
                for _ in 0..entered {
                    // SAFETY: entered just now.
                    unsafe { ffi::Py_LeaveRecursiveCall() };
                }
                return Err(PyErr::fetch(py));
            }
        }
        Ok(Self(std::marker::PhantomData))
    }
}

impl Drop for Recursion {
    fn drop(&mut self) {
        for _ in 0..LEVELS_PER_CALL {
            // SAFETY: entered by `enter`; not `Send`, so on the same, attached thread.
            unsafe { ffi::Py_LeaveRecursiveCall() }
        }
    }
}

/// Whether the class of `object` is, or derives from, `class`: by the type alone, without asking
/// `__class__` or `__instancecheck__`, which are the user's code.
#[inline]
pub fn has_type(object: &Bound<'_, PyAny>, class: &Bound<'_, PyAny>) -> bool {
    let Ok(class) = class.cast::<pyo3::types::PyType>() else { return false };
    // SAFETY: two live types.
    unsafe { ffi::PyType_IsSubtype(ffi::Py_TYPE(object.as_ptr()), class.as_type_ptr()) != 0 }
}

/// The traceback of an exception object, read from the object itself.
pub fn traceback_of(exception: &Bound<'_, PyAny>) -> Option<Ref> {
    if !exception.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        return None;
    }
    // SAFETY: an exception object; returns a new reference or null.
    unsafe { Ref::from_owned_ptr(ffi::PyException_GetTraceback(exception.as_ptr())) }
}

/// Puts `traceback` (or none) into an exception object, past any `__setattr__` of its class.
pub fn set_traceback(exception: &Bound<'_, PyAny>, traceback: Option<&Ref>) -> PyResult<()> {
    let none = exception.py().None();
    let traceback = traceback.map_or(none.as_ptr(), Ref::as_ptr);
    if !exception.is_instance_of::<pyo3::exceptions::PyBaseException>() {
        return Err(unexplained());
    }
    // SAFETY: an exception object, and a traceback or None (anything else is refused).
    match unsafe { ffi::PyException_SetTraceback(exception.as_ptr(), traceback) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(exception.py())),
    }
}

/// A buffer exported by a Python object, contiguous, released on drop.
///
/// While it lives, the exporter cannot be resized (a `bytearray` raises BufferError).
pub struct Exported(Box<ffi::Py_buffer>, std::marker::PhantomData<*const ()>);

impl Exported {
    /// Asks `object` for its bytes, C-contiguous.
    pub fn readable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::request(object, ffi::PyBUF_SIMPLE)
    }

    /// Asks `object` for its bytes, C-contiguous, to write into.
    pub fn writable(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::request(object, ffi::PyBUF_WRITABLE)
    }

    fn request(object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: `view` is a fresh buffer structure at a stable address.
        let status = unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &mut *view, flags) };
        if status == -1 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(view, std::marker::PhantomData))
    }

    pub fn len(&self) -> usize {
        self.0.len.max(0) as usize
    }

    pub fn bytes(&self) -> &[u8] {
        if self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: the exporter guarantees `len` bytes at `buf` until the buffer is released. It may
        // change them meanwhile only through Python code, which does not run while we read.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.len()) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        if self.0.buf.is_null() || self.0.readonly != 0 {
            return &mut [];
        }
        // SAFETY: as `bytes`; the export was asked for as writable and is not read-only.
        unsafe { std::slice::from_raw_parts_mut(self.0.buf.cast(), self.len()) }
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // SAFETY: filled by PyObject_GetBuffer and released once; not `Send`, so attached.
        unsafe { ffi::PyBuffer_Release(&mut *self.0) }
    }
}

/// The error for a C call that failed without saying why.
pub fn unexplained() -> PyErr {
    PySystemError::new_err("error return without exception set")
}

/// `object.__setattr__(name, value)` of the base `object`; None deletes.
pub fn generic_setattr(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, pyo3::types::PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: live objects, or null to delete.
    match unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(object.py())),
    }
}

/// Whether nothing can be derived from the class of `object`; so is no class written in Python.
#[inline]
pub fn is_final_class(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object has a live type.
    unsafe { ffi::PyType_HasFeature(ffi::Py_TYPE(object.as_ptr()), ffi::Py_TPFLAGS_BASETYPE) == 0 }
}

/// Whether the class of `object` is exactly `T`.
#[inline]
pub fn is_exactly<T: pyo3::PyTypeInfo>(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object has a live type.
    unsafe { ffi::Py_TYPE(object.as_ptr()) == T::type_object_raw(object.py()) }
}

/// What `await object` iterates: the result of `__await__`, or a coroutine itself.
///
/// # Errors
/// TypeError, with the interpreter's text, if the object cannot be awaited.
pub fn awaitable_iterator<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    const CO_ITERABLE_COROUTINE: u32 = 0x100;
    let py = object.py();
    // SAFETY: a live object has a live type; its table of async methods lives as long.
    let (coroutine, generator, am_await) = unsafe {
        let methods = (*ffi::Py_TYPE(object.as_ptr())).tp_as_async;
        let am_await = if methods.is_null() { None } else { (*methods).am_await };
        (
            ffi::PyCoro_CheckExact(object.as_ptr()) != 0,
            ffi::PyGen_CheckExact(object.as_ptr()) != 0,
            am_await,
        )
    };
    if coroutine {
        if !object.getattr(pyo3::intern!(py, "cr_await"))?.is_none() {
            return Err(awaited_already());
        }
        return Ok(object.clone());
    }
    if generator {
        let flags = object.getattr("gi_code")?.getattr("co_flags")?.extract::<u32>()?;
        if flags & CO_ITERABLE_COROUTINE != 0 {
            return Ok(object.clone());
        }
    }
    let class = || object.get_type().name().map_or_else(|_| "?".into(), |name| name.to_string());
    let Some(am_await) = am_await else {
        let text = match crate::stdlib::at_least(py, 14) {
            true => format!("'{}' object can't be awaited", class()),
            false => format!("object {} can't be used in 'await' expression", class()),
        };
        return Err(pyo3::exceptions::PyTypeError::new_err(text));
    };
    // SAFETY: the slot of the object's own type; it returns a new reference or null.
    let iterator = owned(py, unsafe { am_await(object.as_ptr()) })?;
    // SAFETY: a live object.
    if unsafe { ffi::PyIter_Check(iterator.as_ptr()) } == 0 {
        let text =
            format!("__await__() returned non-iterator of type '{}'", iterator.get_type().name()?);
        return Err(pyo3::exceptions::PyTypeError::new_err(text));
    }
    Ok(iterator)
}

/// What `await` says of a coroutine that somebody else awaits.
#[cold]
pub fn awaited_already() -> PyErr {
    pyo3::exceptions::PyRuntimeError::new_err("coroutine is being awaited already")
}

/// `raise error` here: it gets the exception that is being handled as its context.
pub fn raised(error: &Bound<'_, PyAny>) -> PyErr {
    // SAFETY: an exception instance and its class, both live; sets the pending exception.
    unsafe {
        ffi::PyErr_SetObject(ffi::Py_TYPE(error.as_ptr()).cast(), error.as_ptr());
    }
    PyErr::fetch(error.py())
}

/// `raise error from cause`, where `cause` is being handled.
pub fn raised_from(error: &Bound<'_, PyAny>, cause: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let py = error.py();
    error.setattr(pyo3::intern!(py, "__context__"), cause)?;
    error.setattr(pyo3::intern!(py, "__cause__"), cause)?;
    Ok(PyErr::from_value(error.clone()))
}

/// Whether `object` is a coroutine of an `async def` function.
#[inline]
pub fn is_python_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}
