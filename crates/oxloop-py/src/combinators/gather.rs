//! `gather(*coros_or_futures, return_exceptions=False)`.
//!
//! Decision: the future that it returns is itself the done callback of its children. Duplicates are
//! found by identity, as long as nothing among the arguments compares in its own way.
//! What can still go wrong: children that run on after a first failure are nobody's; their
//! exceptions count as retrieved, as in asyncio.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::any_future;
use super::listener::Listener;
use super::spawning::{current_loop, ensure};
use crate::coroutine::{is_plain_coroutine, plain_future};
use crate::ffi::class::Finalize;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::future::Future;
use crate::stdlib;

/// The future of `gather()`: done when its children are, or when the first of them fails.
#[pyclass(frozen, extends = Future, module = "oxloop._oxloop", name = "_GatheringFuture")]
pub struct Gathering {
    /// In the order of the arguments; a future that was given twice stands here twice.
    children: RefCell<Vec<Ref>>,
    /// Children that are not done; each counts once.
    unfinished: Cell<usize>,
    return_exceptions: bool,
    cancel_requested: Cell<bool>,
    /// The task that called, for call graphs.
    caller: Slot,
    /// `gather()` itself failed: nobody has this future.
    abandoned: Cell<bool>,
}

attached_only!(Gathering);

/// Addresses are their own hash, but for the bits that alignment makes equal.
#[derive(Default)]
pub struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_usize(&mut self, address: usize) {
        self.0 = (address as u64 >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

pub type AddressMap<V> = HashMap<usize, V, BuildHasherDefault<AddressHasher>>;

/// Finds arguments that were given before.
enum Seen<'py> {
    Addresses(AddressMap<Ref>),
    Compared(Bound<'py, PyDict>),
}

impl<'py> Seen<'py> {
    fn for_arguments(arguments: &Bound<'py, PyTuple>) -> Self {
        let by_identity = arguments.iter_borrowed().all(|argument| {
            let argument: &Bound<'py, PyAny> = &argument;
            is_plain_coroutine(argument) || plain_future(argument).is_some()
        });
        if by_identity {
            let room = arguments.len();
            Self::Addresses(HashMap::with_capacity_and_hasher(room, BuildHasherDefault::default()))
        } else {
            Self::Compared(PyDict::new(arguments.py()))
        }
    }

    fn get(&self, argument: &Bound<'py, PyAny>) -> PyResult<Option<Ref>> {
        match self {
            Self::Addresses(map) => Ok(map.get(&(argument.as_ptr() as usize)).cloned()),
            Self::Compared(dict) => Ok(dict.get_item(argument)?.map(Ref::new)),
        }
    }

    fn insert(&mut self, argument: &Bound<'py, PyAny>, future: &Bound<'py, PyAny>) -> PyResult<()> {
        match self {
            Self::Addresses(map) => {
                map.insert(argument.as_ptr() as usize, Ref::from_borrowed(future));
                Ok(())
            }
            Self::Compared(dict) => dict.set_item(argument, future),
        }
    }
}

/// Run awaitables at the same time; the future that is returned gets the list of their results.
///
/// With `return_exceptions` an exception is a result like any other; without, the first one is
/// raised at once, and the others run on.
#[pyfunction]
#[pyo3(signature = (*coros_or_futures, return_exceptions = false))]
pub fn gather<'py>(
    coros_or_futures: &Bound<'py, PyTuple>,
    return_exceptions: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let py = coros_or_futures.py();
    if coros_or_futures.is_empty() {
        let outer = Bound::new(py, any_future::future_on(&current_loop(py)?)?)?;
        Future::resolve(&outer, Ref::new(PyList::empty(py)))?;
        return Ok(outer.into_any());
    }
    let mut outer = None;
    match Gathering::start(coros_or_futures, return_exceptions, &mut outer) {
        Ok(()) => {}
        Err(err) => {
            if let Some(outer) = outer {
                outer.get().abandoned.set(true);
            }
            return Err(err);
        }
    }
    outer.map(Bound::into_any).ok_or_else(call::unexplained)
}

impl Gathering {
    fn make<'py>(
        home: &Bound<'py, PyAny>,
        room: usize,
        return_exceptions: bool,
    ) -> PyResult<Bound<'py, Self>> {
        let py = home.py();
        let future = any_future::future_on(home)?;
        let own = Self {
            children: RefCell::new(Vec::with_capacity(room)),
            unfinished: Cell::new(0),
            return_exceptions,
            cancel_requested: Cell::new(false),
            caller: any_future::calling_task(home),
            abandoned: Cell::new(false),
        };
        Bound::new(py, PyClassInitializer::from(future).add_subclass(own))
    }

    fn start<'py>(
        arguments: &Bound<'py, PyTuple>,
        return_exceptions: bool,
        made: &mut Option<Bound<'py, Self>>,
    ) -> PyResult<()> {
        let py = arguments.py();
        let mut seen = Seen::for_arguments(arguments);
        // Since 3.14 the running loop decides, else the first future does.
        let mut home: Option<Bound<'py, PyAny>> = match stdlib::at_least(py, 14) {
            true => Some(stdlib::get_running_loop_or_none(py)?.call0()?).filter(|l| !l.is_none()),
            false => None,
        };
        let mut done_already = Vec::new();
        for argument in arguments.iter() {
            if let Some(known) = seen.get(&argument)? {
                if let Some(outer) = made {
                    outer.get().children.borrow_mut().push(known);
                }
                continue;
            }
            let future = ensure(&argument, home.as_ref())?;
            if made.is_none() {
                let found = any_future::loop_of(&future)?;
                *made = Some(Self::make(&found, arguments.len(), return_exceptions)?);
                home = Some(found);
            }
            let Some(outer) = made else { return Err(call::unexplained()) };
            if !future.is(&argument) {
                any_future::forget(&future)?;
            }
            let this = outer.get();
            this.unfinished.set(this.unfinished.get() + 1);
            seen.insert(&argument, &future)?;
            this.children.borrow_mut().push(Ref::from_borrowed(&future));
            if any_future::is_done(&future)? {
                done_already.push(Ref::new(future));
            } else {
                Listener::listen(outer, &future)?;
            }
        }
        if let Some(outer) = made {
            for future in done_already {
                Self::told(outer, future.bind(py))?;
            }
        }
        Ok(())
    }

    /// Who awaits the children: the caller, until this future is done.
    pub fn awaiter(slf: &Bound<'_, Self>) -> Option<Ref> {
        if slf.as_super().get().is_done() { None } else { slf.get().caller.get() }
    }

    /// A child is done.
    pub fn told(slf: &Bound<'_, Self>, child: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        let outer = slf.as_super();
        this.unfinished.set(this.unfinished.get().saturating_sub(1));
        if outer.get().is_done() || this.abandoned.get() {
            if !any_future::is_cancelled(child)? {
                any_future::exception(child)?;
            }
            return Ok(());
        }
        if !this.return_exceptions {
            if any_future::is_cancelled(child)? {
                return Future::fail(outer, &any_future::cancelled_error(child)?);
            }
            if let Some(exception) = any_future::exception(child)? {
                return Future::fail(outer, &exception);
            }
        }
        if this.unfinished.get() > 0 {
            return Ok(());
        }
        this.complete(slf)
    }

    /// All children are done, and `outer` is not.
    fn complete(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        // A copy, because looking at children that are not ours runs Python code.
        let children = self.children.borrow().clone();
        let results = PyList::empty(py);
        for child in &children {
            results.append(Self::result_of(child.bind(py))?)?;
        }
        if self.cancel_requested.get() {
            let Some(last) = children.last() else { return Ok(()) };
            return Future::fail(slf.as_super(), &any_future::cancelled_error(last.bind(py))?);
        }
        Future::resolve(slf.as_super(), Ref::new(results))
    }

    /// A child's place in the list of results.
    fn result_of<'py>(child: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = child.py();
        if any_future::is_cancelled(child)? {
            let message = child.getattr(intern!(py, "_cancel_message"))?;
            let class = stdlib::cancelled_error(py)?;
            return if message.is_none() { class.call1(("",)) } else { class.call1((message,)) };
        }
        match any_future::exception(child)? {
            Some(exception) => Ok(exception),
            None => Ok(any_future::result(child)?.into_bound(py)),
        }
    }
}

impl Finalize for Gathering {
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        object.as_super().get().needs_report()
    }

    fn finalize(object: &Bound<'_, Self>) {
        Future::finalize_future(object.as_any(), object.as_super().get());
    }
}

#[pymethods]
impl Gathering {
    /// Cancel all children; False if there was none to cancel.
    #[pyo3(signature = (msg = None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let this = slf.get();
        if slf.as_super().get().is_done() {
            return Ok(false);
        }
        let children = this.children.borrow().clone();
        let mut any = false;
        for child in &children {
            any |= any_future::cancel_with(child.bind(slf.py()), msg)?;
        }
        if any {
            this.cancel_requested.set(true);
        }
        Ok(any)
    }

    #[getter]
    fn _children<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let children = self.children.borrow().clone();
        PyList::new(py, children.iter().map(|child| child.bind(py)))
    }

    #[getter]
    fn _cancel_requested(&self) -> bool {
        self.cancel_requested.get()
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Ok(stdlib::gathering_future(slf.py())?.clone())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.caller.traverse(&visit)?;
        match self.children.try_borrow() {
            Ok(children) => children.iter().try_for_each(|child| child.traverse(&visit)),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let parts = (self.children.take(), self.caller.take());
        drop(parts);
    }
}
