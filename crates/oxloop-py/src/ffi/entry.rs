//! `__aenter__` and `__aexit__`, bound without a new object of the collector each time.
//!
//! Facts: before 3.14 `async with` binds both methods on every entry, calls each once and drops it.
//! A bound method of C is made and freed anew, 40 ns each, as much as taking a free lock. From 3.14
//! on nothing is bound.
//! Decision: there the two names hold a descriptor whose bound methods go to a pool when they die. To
//! whoever looks at one it answers what the ordinary bound method would; through the class the
//! ordinary method descriptor is found.
//! What can still go wrong: `type(lock.__aenter__)` is not that of other native methods.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyTypeInfo, PyVisit, ffi};

use super::Ref;
use super::fastcall::{Trampoline, ffi_borrow};
use super::object::attached_only;
use super::pool::{self, pooled};

attached_only!(EntryMethod);
attached_only!(BoundEntry);
pooled!(BoundEntry);

/// A method in a class, as `async with` finds it.
#[pyclass(frozen, module = "oxloop._oxloop", name = "_EntryMethod")]
pub struct EntryMethod {
    /// The ordinary descriptor of the method.
    plain: Ref,
    /// Whose instances `trampoline` takes.
    class: Ref,
    trampoline: Trampoline,
}

/// A method with its object.
#[pyclass(frozen, weakref, module = "oxloop._oxloop", name = "_BoundEntry")]
pub struct BoundEntry {
    /// What the interpreter calls; its place is told to the class by `install`.
    vectorcall: ffi::vectorcallfunc,
    trampoline: Trampoline,
    receiver: Ref,
    /// The `EntryMethod`.
    method: Ref,
}

impl EntryMethod {
    /// The descriptor for `plain`, a method descriptor of `class` that calls `trampoline`.
    pub(super) fn new_object<'py>(
        class: &Bound<'py, PyType>,
        plain: &Bound<'py, PyAny>,
        trampoline: Trampoline,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (plain, class_ref) = (Ref::from_borrowed(plain), Ref::from_borrowed(class));
        let method = Bound::new(class.py(), Self { plain, class: class_ref, trampoline })?;
        Ok(method.into_any())
    }
}

impl BoundEntry {
    /// The bound method that CPython would have made.
    fn ordinary<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let plain = self.method.bind_as::<EntryMethod>(py).get().plain.bind(py);
        let receiver = self.receiver.bind(py);
        plain.call_method1(intern!(py, "__get__"), (receiver, receiver.get_type()))
    }
}

#[pymethods]
impl EntryMethod {
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        object: Option<&Bound<'py, PyAny>>,
        _class: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let Some(object) = object else { return Ok(this.plain.bind(py).clone()) };
        let class = this.class.bind(py).cast::<PyType>()?;
        // By the type alone: the trampoline reads the object's memory.
        if !super::call::has_type(object, class.as_any()) {
            return Err(PyTypeError::new_err(format!(
                "descriptor for '{}' objects doesn't apply to a '{}' object",
                class.name()?,
                object.get_type().name()?
            )));
        }
        let bound = BoundEntry {
            vectorcall: call,
            trampoline: this.trampoline,
            receiver: Ref::from_borrowed(object),
            method: Ref::from_borrowed(slf),
        };
        Ok(pool::make(py, bound)?.into_any())
    }

    fn __getattr__<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.get().plain.bind(slf.py()).getattr(name)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(slf.get().plain.bind(slf.py()).repr()?.to_string())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.plain.traverse(&visit)?;
        self.class.traverse(&visit)
    }
}

#[pymethods]
impl BoundEntry {
    /// What programs see as `__call__`; the interpreter calls `call`.
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ordinary(py)?.call(args, kwargs)
    }

    #[getter]
    fn __self__<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.receiver.bind(py).clone()
    }

    #[getter]
    fn __doc__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.ordinary(py)?.getattr(intern!(py, "__doc__"))
    }

    /// `__name__` and all else that a bound method shows.
    fn __getattr__<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.ordinary(py)?.getattr(name)
    }

    /// What `inspect.signature` asks callables of other classes for.
    #[getter]
    fn __signature__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let inspect = py.import(intern!(py, "inspect"))?;
        inspect.call_method1(intern!(py, "signature"), (self.ordinary(py)?,))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(self.ordinary(py)?.repr()?.to_string())
    }

    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        match other.cast::<Self>() {
            Ok(other) => Ok(self.receiver.is(other.get().receiver.bind(py))
                && self.method.is(other.get().method.bind(py))),
            Err(_) => self.ordinary(py)?.eq(other),
        }
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.ordinary(py)?.hash()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.receiver.traverse(&visit)?;
        self.method.traverse(&visit)
    }
}

/// # Safety
/// Called by the interpreter by the vectorcall protocol, attached, on a live `BoundEntry`.
unsafe extern "C" fn call(
    callable: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: attached, by the protocol.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the caller holds `callable`; only instances of the class have this function.
    let this = unsafe { ffi_borrow(py, &callable).cast_unchecked::<BoundEntry>() }.get();
    // SAFETY: a count of the protocol.
    let count = unsafe { ffi::PyVectorcall_NARGS(count) };
    // SAFETY: `__get__` checked the receiver's type; the arguments are the interpreter's, and
    // `callable` holds the receiver for the time of the call.
    unsafe { (this.trampoline)(this.receiver.as_ptr(), args, count, names) }
}

/// Makes instances of [`BoundEntry`] callable. Called once, at import, before any exists.
pub fn install(py: Python<'_>) -> PyResult<()> {
    pool::install_pool!(py, BoundEntry);
    let class = BoundEntry::type_object_raw(py);
    // The place of the contents is PyO3's; an instance that is never called tells it.
    let nothing = py.None().into_bound(py);
    let probe = BoundEntry {
        vectorcall: call,
        trampoline: refuse,
        receiver: Ref::from_borrowed(&nothing),
        method: Ref::from_borrowed(&nothing),
    };
    let probe = Bound::new(py, probe)?;
    let offset = std::ptr::from_ref(&probe.get().vectorcall) as usize - probe.as_ptr() as usize;
    // SAFETY: import time, the type is ours and nobody else has an instance; the place holds a
    // function of the protocol in every instance, from its creation to its end.
    unsafe {
        (*class).tp_vectorcall_offset = offset as ffi::Py_ssize_t;
        (*class).tp_call = Some(ffi::PyVectorcall_Call);
        (*class).tp_flags |= ffi::Py_TPFLAGS_HAVE_VECTORCALL;
        ffi::PyType_Modified(class);
    }
    Ok(())
}

/// # Safety
/// As every [`Trampoline`].
unsafe extern "C" fn refuse(
    _receiver: *mut ffi::PyObject,
    _args: *const *mut ffi::PyObject,
    _count: ffi::Py_ssize_t,
    _names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: attached, by the protocol.
    super::call::unexplained().restore(unsafe { Python::assume_attached() });
    std::ptr::null_mut()
}
