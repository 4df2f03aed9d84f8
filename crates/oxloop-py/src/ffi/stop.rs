//! `StopIteration` for results: how a native awaitable returns through `tp_iternext`.
//!
//! Facts: 3.12 and 3.13 resume what a coroutine awaits by `tp_iternext`, not by `am_send`, so each
//! result but None has to arrive as a StopIteration, which the interpreter drops as soon as it has
//! read the value. Making one by a call costs 80 to 100 ns: a tuple, `tp_new`, `tp_init`, an object
//! of the collector.
//! Decision: a subclass whose instances go to a pool when they die. Their `args` are empty; the
//! value is where the interpreter looks for it. Whoever calls `next()` on a native awaitable by hand
//! and catches the exception sees a StopIteration with its `value`.
//! Layout: the place of the fields is tried on a real StopIteration first. Where it is not as
//! expected, exceptions are made by a call.
//! What can still go wrong: as with all pools, a build without the GIL must leave this out.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyNone, PyTuple};

/// Dead instances kept. They die as soon as they are read, so few are ever alive at once.
const POOLED_STOPS_MAX: usize = 16;

struct Stops {
    inner: UnsafeCell<Inner>,
}

struct Inner {
    state: State,
    free: Vec<*mut ffi::PyObject>,
}

#[derive(Clone, Copy)]
enum State {
    Unknown,
    /// The class; it is never freed.
    Ready(*mut ffi::PyTypeObject),
    /// The layout is not the one known: exceptions are made by a call.
    Refused,
}

// SAFETY: only reached by attached threads, one at a time (GIL).
unsafe impl Sync for Stops {}

static STOPS: Stops =
    Stops { inner: UnsafeCell::new(Inner { state: State::Unknown, free: Vec::new() }) };

impl Stops {
    #[inline]
    fn with<R>(&self, _py: Python<'_>, body: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: attached (the token), hence alone; no `body` in this file runs Python code.
        body(unsafe { &mut *self.inner.get() })
    }
}

/// Makes `StopIteration(value)` the pending exception.
#[inline]
pub fn raise(value: &Bound<'_, PyAny>) {
    let py = value.py();
    let (state, dead) = STOPS.with(py, |stops| (stops.state, stops.free.pop()));
    match (state, dead) {
        (State::Ready(class), Some(dead)) => {
            // SAFETY: memory of an instance of the class, given up by `dealloc`.
            let stop = unsafe { ffi::PyObject_Init(dead, class) };
            // SAFETY: whole but for what `fill` sets; untracked since `dealloc`.
            unsafe { ffi::PyObject_GC_Track(stop.cast()) };
            fill_and_raise(stop, value);
        }
        (State::Ready(class), None) => {
            // SAFETY: a ready class; the memory comes zeroed and tracked.
            let stop = unsafe { ffi::PyType_GenericAlloc(class, 0) };
            if !stop.is_null() {
                fill_and_raise(stop, value);
            }
        }
        (State::Unknown, _) => {
            let state = prepare(py);
            STOPS.with(py, |stops| stops.state = state);
            raise(value);
        }
        (State::Refused, _) => super::class::stop_iteration(value).restore(py),
    }
}

/// Gives `stop`, a new instance without contents, its value and raises it.
#[inline]
fn fill_and_raise(stop: *mut ffi::PyObject, value: &Bound<'_, PyAny>) {
    let fields = stop.cast::<ffi::PyStopIterationObject>();
    // SAFETY: an instance of a subclass of StopIteration with all fields null; the layout was
    // checked by `prepare`. The empty tuple is shared, so making it cannot fail.
    unsafe {
        (*fields).args = ffi::PyTuple_New(0);
        (*fields).value = ffi::Py_NewRef(value.as_ptr());
    }
    #[allow(deprecated, reason = "its successor is new in 3.12")]
    // SAFETY: gives away a new reference to the class and the one to the instance.
    unsafe {
        ffi::PyErr_Restore(ffi::Py_NewRef(ffi::Py_TYPE(stop).cast()), stop, std::ptr::null_mut());
    }
}

/// Makes the class, if StopIteration looks as expected.
#[cold]
fn prepare(py: Python<'_>) -> State {
    let base = py.get_type::<pyo3::exceptions::PyStopIteration>();
    let probe = PyTuple::new(py, [PyNone::get(py)]).and_then(|value| base.call1((value,)));
    let Ok(probe) = probe else { return State::Refused };
    // SAFETY: a live StopIteration; its size is asked before its last field is read.
    let expected = unsafe {
        let fields = probe.as_ptr().cast::<ffi::PyStopIterationObject>();
        (*base.as_type_ptr()).tp_basicsize as usize == size_of::<ffi::PyStopIterationObject>()
            && probe.getattr("value").is_ok_and(|value| value.as_ptr() == (*fields).value)
            && probe.getattr("args").is_ok_and(|args| args.as_ptr() == (*fields).args)
    };
    if !expected {
        return State::Refused;
    }
    let mut slots = [
        ffi::PyType_Slot {
            slot: ffi::Py_tp_dealloc,
            pfunc: dealloc as unsafe extern "C" fn(*mut ffi::PyObject) as *mut _,
        },
        ffi::PyType_Slot { slot: 0, pfunc: std::ptr::null_mut() },
    ];
    let mut spec = ffi::PyType_Spec {
        name: c"oxloop._oxloop.StopIteration".as_ptr(),
        basicsize: 0,
        itemsize: 0,
        flags: ffi::Py_TPFLAGS_DEFAULT as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: a complete spec with one base class; size and collector support are inherited.
    let class = unsafe { ffi::PyType_FromSpecWithBases(&mut spec, base.as_ptr()) };
    if class.is_null() {
        drop(PyErr::take(py));
        return State::Refused;
    }
    State::Ready(class.cast())
}

/// # Safety
/// Called by the interpreter on a dying instance of the class, attached.
unsafe extern "C" fn dealloc(stop: *mut ffi::PyObject) {
    // SAFETY: attached while deallocating.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: a live object's type, and its base, which is StopIteration.
    let (class, clear) = unsafe {
        let class = ffi::Py_TYPE(stop);
        (class, (*(*class).tp_base).tp_clear)
    };
    // SAFETY: dying and tracked.
    unsafe { ffi::PyObject_GC_UnTrack(stop.cast()) };
    if let Some(clear) = clear {
        // SAFETY: drops every reference that a StopIteration holds, each set to null first.
        unsafe { clear(stop) };
    }
    // SAFETY: a plain flag of a StopIteration, at the place that `prepare` checked.
    unsafe {
        let fields = stop.cast::<ffi::PyStopIterationObject>();
        (&raw mut (*fields).suppress_context).cast::<u8>().write(0);
    }
    let kept = STOPS.with(py, |stops| {
        let room = stops.free.len() < POOLED_STOPS_MAX;
        if room {
            stops.free.push(stop);
        }
        room
    });
    if !kept {
        // SAFETY: the class inherits the `tp_free` that fits its allocator.
        unsafe {
            if let Some(free) = (*class).tp_free {
                free(stop.cast());
            }
        }
    }
    // SAFETY: instances of heap types hold a reference to their type.
    unsafe { ffi::Py_DECREF(class.cast()) };
}
