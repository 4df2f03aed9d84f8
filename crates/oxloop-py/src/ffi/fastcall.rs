//! Methods that receive their arguments as a C array: `METH_FASTCALL | METH_KEYWORDS`.
//!
//! PyO3 builds a tuple for `*args` and parses by generated code; for the dozen methods that a busy
//! loop calls millions of times a second that is half of their cost. These are written by hand
//! against [`Args`], attached to the type once at import, and indistinguishable from the others.
//! A panic inside is turned into an exception here: it never crosses into C.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyTypeError;
use pyo3::panic::PanicException;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple, PyType};
use pyo3::{PyTypeInfo, ffi};

use super::Ref;
use super::entry::EntryMethod;

/// The arguments of one call, borrowed from the caller's stack.
pub struct Args<'a, 'py> {
    py: Python<'py>,
    values: &'a [*mut ffi::PyObject],
    positional: usize,
    names: *mut ffi::PyObject,
}

impl<'a, 'py: 'a> Args<'a, 'py> {
    /// How many positional arguments were given.
    #[inline]
    pub fn len(&self) -> usize {
        self.positional
    }

    /// Whether any keyword argument was given.
    #[inline]
    pub fn has_keywords(&self) -> bool {
        !self.names.is_null()
    }

    #[inline]
    fn at(&self, index: usize) -> &'a Bound<'py, PyAny> {
        // SAFETY: `values` are live borrowed references for the time of the call, laid out as
        // `Bound` is (a pointer); `index` is bounds-checked by the slice.
        unsafe { &*(std::ptr::from_ref(&self.values[index]).cast::<Bound<'py, PyAny>>()) }
    }

    /// The positional argument `index`.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a Bound<'py, PyAny>> {
        (index < self.positional).then(|| self.at(index))
    }

    /// The positional arguments from `start` on.
    #[inline]
    pub fn rest(&self, start: usize) -> impl ExactSizeIterator<Item = &'a Bound<'py, PyAny>> + '_ {
        (start.min(self.positional)..self.positional).map(|index| self.at(index))
    }

    /// Calls `take(name, value)` for each keyword argument; it says whether it knows the name.
    pub fn keywords(
        &self,
        function: &str,
        mut take: impl FnMut(&str, &'a Bound<'py, PyAny>) -> bool,
    ) -> PyResult<()> {
        if self.names.is_null() {
            return Ok(());
        }
        // SAFETY: the interpreter passes a tuple of exact strings, alive for the call.
        let names = unsafe { Bound::from_borrowed_ptr(self.py, self.names) };
        let names = names.cast_into::<PyTuple>()?;
        for (offset, name) in names.iter().enumerate() {
            let name = name.cast_into::<PyString>()?;
            let name = name.to_str()?;
            if !take(name, self.at(self.positional + offset)) {
                return Err(PyTypeError::new_err(format!(
                    "{function}() got an unexpected keyword argument '{name}'"
                )));
            }
        }
        Ok(())
    }

    /// TypeError if any argument was given.
    #[inline(always)]
    pub fn expect_none(&self, function: &str) -> PyResult<()> {
        if self.positional == 0 && !self.has_keywords() {
            return Ok(());
        }
        self.refuse(function)
    }

    #[cold]
    fn refuse(&self, function: &str) -> PyResult<()> {
        self.keywords(function, |_, _| false)?;
        self.expect(function, 0, 0)
    }

    /// All arguments of `function`, called `names`, each by position or keyword.
    #[inline]
    pub fn all<const N: usize>(
        &self,
        function: &str,
        names: [&str; N],
    ) -> PyResult<[&'a Bound<'py, PyAny>; N]> {
        if self.positional == N && !self.has_keywords() {
            return Ok(std::array::from_fn(|index| self.at(index)));
        }
        self.all_by_name(function, names)
    }

    #[cold]
    fn all_by_name<const N: usize>(
        &self,
        function: &str,
        names: [&str; N],
    ) -> PyResult<[&'a Bound<'py, PyAny>; N]> {
        self.expect(function, 0, N)?;
        let mut values: [Option<&'a Bound<'py, PyAny>>; N] =
            std::array::from_fn(|index| self.get(index));
        self.keywords(function, |name, value| {
            let place = names.iter().position(|known| *known == name);
            let place = place.filter(|index| values[*index].is_none());
            place.is_some_and(|index| values[index].replace(value).is_none())
        })?;
        for (name, value) in names.iter().zip(&values) {
            if value.is_none() {
                return Err(missing(function, name));
            }
        }
        Ok(values.map(|value| value.unwrap_or_else(|| unreachable!("checked above"))))
    }

    /// The one argument of `function`, called `name`, by position or keyword.
    #[inline]
    pub fn one_or_none(
        &self,
        function: &str,
        name: &str,
    ) -> PyResult<Option<&'a Bound<'py, PyAny>>> {
        let mut value = self.get(0);
        if self.has_keywords() {
            self.keywords(function, |given, found| {
                let known = given == name && value.is_none();
                if known {
                    value = Some(found);
                }
                known
            })?;
        }
        if self.positional > 1 {
            self.expect(function, 0, 1)?;
        }
        Ok(value)
    }

    /// The one argument of `function`, called `name`; TypeError if it is missing.
    #[inline]
    pub fn one(&self, function: &str, name: &str) -> PyResult<&'a Bound<'py, PyAny>> {
        self.one_or_none(function, name)?.ok_or_else(|| missing(function, name))
    }

    /// TypeError unless between `min` and `max` positional arguments were given. Keywords are the
    /// caller's to look at.
    pub fn expect(&self, function: &str, min: usize, max: usize) -> PyResult<()> {
        if (min..=max).contains(&self.positional) {
            return Ok(());
        }
        let (bound, word) =
            if self.positional < min { (min, "at least") } else { (max, "at most") };
        let word = if min == max { "exactly" } else { word };
        Err(PyTypeError::new_err(format!(
            "{function}() takes {word} {bound} positional argument{} ({} given)",
            if bound == 1 { "" } else { "s" },
            self.positional
        )))
    }
}

fn missing(function: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!("{function}() missing 1 required positional argument: '{name}'"))
}

/// Runs `body` for a C caller: errors and panics become the pending exception.
///
/// # Safety
/// Called by the interpreter, attached, with `receiver` an instance of `T` (the method descriptor
/// checked it) and the fastcall arguments as it passes them.
#[inline]
pub unsafe fn enter<T: PyTypeInfo>(
    receiver: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: for<'a, 'py> fn(&'a Bound<'py, T>, Args<'a, 'py>) -> PyResult<Ref>,
) -> *mut ffi::PyObject {
    // SAFETY: attached, by the caller's promise.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: `receiver` is borrowed for the call.
    let receiver = unsafe { ffi_borrow(py, &receiver) };
    // SAFETY: the method descriptor checked the type of the receiver.
    let receiver = unsafe { receiver.cast_unchecked::<T>() };
    let named = if names.is_null() {
        0
    } else {
        // SAFETY: a tuple, by the fastcall protocol.
        unsafe { ffi::PyTuple_GET_SIZE(names) }
    };
    let values = if args.is_null() {
        &[][..]
    } else {
        // SAFETY: the protocol gives `count + named` borrowed references at `args`.
        unsafe { std::slice::from_raw_parts(args, (count + named) as usize) }
    };
    let args = Args { py, values, positional: count as usize, names };
    match catch_unwind(AssertUnwindSafe(|| body(receiver, args))) {
        Ok(Ok(value)) => value.into_ptr(),
        Ok(Err(err)) => {
            err.restore(py);
            std::ptr::null_mut()
        }
        Err(payload) => {
            restore_panic(py, payload);
            std::ptr::null_mut()
        }
    }
}

#[cold]
pub(super) fn restore_panic(py: Python<'_>, payload: Box<dyn std::any::Any + Send>) {
    let text = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "panic from Rust code".to_owned());
    PanicException::new_err((text,)).restore(py);
}

/// A borrowed pointer seen as a `Bound`, for as long as the place that holds it.
///
/// # Safety
/// `*place` is a live object for the lifetime of the borrow.
pub(super) unsafe fn ffi_borrow<'a, 'py>(
    _py: Python<'py>,
    place: &'a *mut ffi::PyObject,
) -> &'a Bound<'py, PyAny> {
    // SAFETY: `Bound` is a pointer plus a zero-sized token; the object is live by promise.
    unsafe { &*(std::ptr::from_ref(place).cast::<Bound<'py, PyAny>>()) }
}

pub type Trampoline = unsafe extern "C" fn(
    *mut ffi::PyObject,
    *const *mut ffi::PyObject,
    ffi::Py_ssize_t,
    *mut ffi::PyObject,
) -> *mut ffi::PyObject;

/// One method to attach to a class.
pub struct FastMethod {
    pub name: &'static CStr,
    pub trampoline: Trampoline,
    pub doc: &'static CStr,
}

/// `fast_method!(Class, c"name", function, c"doc")`: a [`FastMethod`] whose body is
/// `fn(&Bound<Class>, Args) -> PyResult<Ref>`.
macro_rules! fast_method {
    ($class:ty, $name:literal, $body:path, $doc:expr) => {{
        unsafe extern "C" fn trampoline(
            receiver: *mut pyo3::ffi::PyObject,
            args: *const *mut pyo3::ffi::PyObject,
            count: pyo3::ffi::Py_ssize_t,
            names: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: reached only through the method descriptor made by `attach`.
            unsafe { $crate::ffi::fastcall::enter::<$class>(receiver, args, count, names, $body) }
        }
        $crate::ffi::fastcall::FastMethod { name: $name, trampoline, doc: $doc }
    }};
}
pub(crate) use fast_method;

/// Attaches `methods` to the class `T`. Called once, at import.
pub fn attach<T: PyTypeInfo>(py: Python<'_>, methods: Vec<FastMethod>) -> PyResult<()> {
    attach_to(&T::type_object(py), methods)
}

/// Attaches `methods` to `class`, which derives from the class that they are made for.
pub fn attach_to(class: &Bound<'_, PyType>, methods: Vec<FastMethod>) -> PyResult<()> {
    let py = class.py();
    for method in methods {
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: method.name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: method.trampoline },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: method.doc.as_ptr(),
        }));
        // SAFETY: a live type and a definition that lives for ever.
        let descriptor = unsafe {
            Bound::from_owned_ptr_or_err(
                py,
                ffi::PyDescr_NewMethod(class.as_type_ptr(), definition),
            )
        }?;
        // What `async with` looks up, see `entry.rs`.
        let descriptor = match method.name.to_bytes() {
            b"__aenter__" | b"__aexit__" if !crate::stdlib::at_least(py, 14) => {
                EntryMethod::new_object(class, &descriptor, method.trampoline)?
            }
            _ => descriptor,
        };
        class.setattr(PyString::new(py, &method.name.to_string_lossy()), descriptor)?;
    }
    Ok(())
}
