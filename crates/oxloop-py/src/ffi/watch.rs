//! Whether a class still has the methods that it was made with.
//!
//! Facts: programs replace methods of classes (mocks, tracers), and a native caller that skips the
//! look-up must not skip theirs. The interpreter gives each class a version tag that changes with
//! any attribute of the class or of its bases; 0 means that the class has no tag at present.
//! Decision: the tag is compared on each use, one load; only if it differs are the methods looked up
//! and compared. A class without a tag is looked at each time.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTypeInfo, ffi};

/// A class derived from the native `T`, and the methods that native code calls directly.
pub struct ClassWatch<T> {
    class: Py<PyType>,
    methods: Vec<(String, Py<PyAny>)>,
    /// The version that was found untouched; 0 if none.
    version: AtomicU32,
    base: PhantomData<fn() -> T>,
}

impl<T: PyTypeInfo> ClassWatch<T> {
    /// Watches the methods `names` of `class`, as they are now.
    ///
    /// # Errors
    /// TypeError unless `class` derives from `T`.
    pub fn new(class: &Bound<'_, PyType>, names: &[&str]) -> PyResult<Self> {
        if !class.is_subclass_of::<T>()? {
            return Err(PyTypeError::new_err("not a subclass of the native class"));
        }
        let methods = names
            .iter()
            .map(|name| Ok(((*name).to_owned(), class.getattr(*name)?.unbind())))
            .collect::<PyResult<_>>()?;
        Ok(Self {
            class: class.clone().unbind(),
            methods,
            version: AtomicU32::new(0),
            base: PhantomData,
        })
    }

    /// `object`, if it is an exact instance of the class, and the class is untouched.
    #[inline]
    pub fn plain<'a, 'py>(&self, object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
        // SAFETY: a live object has a live type.
        let class = unsafe { ffi::Py_TYPE(object.as_ptr()) };
        if class.cast() != self.class.as_ptr() {
            return None;
        }
        // SAFETY: as above; attached, so nobody writes the tag meanwhile.
        let version = unsafe { (*class).tp_version_tag };
        if (version == 0 || version != self.version.load(Ordering::Relaxed))
            && !self.look_again(object.py())
        {
            return None;
        }
        // SAFETY: an instance of the class, which derives from `T`, as `new` has checked.
        Some(unsafe { object.cast_unchecked::<T>() })
    }

    #[cold]
    fn look_again(&self, py: Python<'_>) -> bool {
        let class = self.class.bind(py);
        let untouched = self.methods.iter().all(|(name, method)| {
            class.getattr(name.as_str()).is_ok_and(|found| found.is(method.bind(py)))
        });
        if untouched {
            // SAFETY: a live type; the look-ups gave it a tag, if it can have one.
            let version = unsafe { (*class.as_type_ptr()).tp_version_tag };
            self.version.store(version, Ordering::Relaxed);
        }
        untouched
    }
}
