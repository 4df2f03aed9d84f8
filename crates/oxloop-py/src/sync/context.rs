//! `async with` of locks, semaphores and conditions: acquire, then release.
//!
//! The native classes enter by their own `acquire` without a second coroutine. Subclasses may have
//! replaced `acquire` and `release`: then these are called.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::Ref;
use crate::future::none;

/// `__aenter__` of a class whose `acquire` may be the user's.
pub struct Enter {
    owner: Ref,
}

impl Enter {
    pub const QUALIFIED_NAME: &str = "_ContextManagerMixin.__aenter__";

    pub fn make(owner: &Bound<'_, PyAny>) -> PyResult<Ref> {
        Coroutine::make(owner.py(), Self { owner: Ref::from_borrowed(owner) })
    }
}

impl Body for Enter {
    fn qualified_name(&self) -> &'static str {
        Self::QUALIFIED_NAME
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let acquiring = self.owner.bind(py).call_method0(intern!(py, "acquire"))?;
        Ok(Progress::Await(Ref::new(acquiring)))
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome?;
        Ok(Progress::Return(none(py)))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.owner.traverse(visit)
    }
}

/// `__aexit__`: releases, and waits for nothing.
pub struct Exit {
    owner: Ref,
    release: fn(&Bound<'_, PyAny>) -> PyResult<()>,
}

impl Exit {
    pub fn make(
        owner: &Bound<'_, PyAny>,
        release: fn(&Bound<'_, PyAny>) -> PyResult<()>,
    ) -> PyResult<Ref> {
        Coroutine::make(owner.py(), Self { owner: Ref::from_borrowed(owner), release })
    }
}

impl Body for Exit {
    fn qualified_name(&self) -> &'static str {
        "_ContextManagerMixin.__aexit__"
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        (self.release)(self.owner.bind(py))?;
        Ok(Progress::Return(none(py)))
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome?;
        Ok(Progress::Return(none(py)))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.owner.traverse(visit)
    }
}

/// `owner.release()`
pub fn call_release(owner: &Bound<'_, PyAny>) -> PyResult<()> {
    owner.call_method0(intern!(owner.py(), "release")).map(drop)
}
