//! `StopIteration` for results: how a native awaitable returns through `tp_iternext`.
//!
//! Facts: 3.12 and 3.13 resume what a coroutine awaits by `tp_iternext`, not by `am_send`, so each
//! result but None has to arrive as a StopIteration, which the interpreter drops as soon as it has
//! read the value. Making one by a call costs 80 to 100 ns: a tuple, `tp_new`, `tp_init`, an object
//! of the collector.
//! Decision: a subclass whose instances go to a pool when they die. Their `args` are empty; the
//! value is where the interpreter looks for it. Whoever calls `next()` on a native awaitable by hand
//! and catches the exception sees a StopIteration with its `value`.
//! One instance does not die at all: the interpreter gives it back within the same instruction, and
//! it is raised again and again. The result in it is let go by [`settle`], which the awaited object
//! calls when it dies, the next moment; a small one that nobody can watch may stay until the next
//! result. If somebody holds the awaited object, so that it does not die,
//! or the instance itself, or has left a traceback in it, the instance is given away or not used, and
//! one from the pool is raised.
//! Layout: the place of the fields is tried on a real StopIteration first. Where it is not as
//! expected, exceptions are made by a call.
//! What can still go wrong: as with all pools, a build without the GIL must leave this out.

use std::cell::UnsafeCell;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyNone, PyTuple};

/// Dead instances kept. They die as soon as they are read, so few are ever alive at once.
const POOLED_STOPS_MAX: usize = 16;

/// The most bytes of a result that is let go of when the next one comes, not at once.
const STAYING_BYTES_MAX: usize = 4096;

struct Stops {
    inner: UnsafeCell<Inner>,
}

struct Inner {
    state: State,
    free: Vec<*mut ffi::PyObject>,
    /// The instance that is raised again and again: null, or ours, untracked and never freed.
    lasting: *mut ffi::PyObject,
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

static STOPS: Stops = Stops {
    inner: UnsafeCell::new(Inner {
        state: State::Unknown,
        free: Vec::new(),
        lasting: std::ptr::null_mut(),
    }),
};

impl Stops {
    #[inline]
    fn with<R>(&self, _py: Python<'_>, body: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: attached (the token), hence alone; no `body` in this file runs Python code.
        body(unsafe { &mut *self.inner.get() })
    }
}

/// The lasting instance, if nobody else holds it and it is empty.
#[inline]
fn lasting(py: Python<'_>) -> Option<*mut ffi::PyObject> {
    let stop = STOPS.with(py, |stops| stops.lasting);
    if stop.is_null() {
        return None;
    }
    // SAFETY: a live object of ours, whose layout `prepare` has checked.
    let (holders, value) =
        unsafe { (ffi::Py_REFCNT(stop), (*stop.cast::<ffi::PyStopIterationObject>()).value) };
    (holders == 1 && value.is_null() && is_plain(stop)).then_some(stop)
}

/// Lets go of the result that was raised last, if it has been read.
///
/// The object that was awaited calls this when it dies. Whoever has the instance then, or has left a
/// traceback or the like in it, keeps it: it is an object like any other from there on.
#[inline]
pub fn settle() {
    // SAFETY: native awaitables are dropped by attached threads only.
    let py = unsafe { Python::assume_attached() };
    let stop = STOPS.with(py, |stops| stops.lasting);
    if stop.is_null() {
        return;
    }
    // SAFETY: a live object of ours, whose layout `prepare` has checked.
    let (holders, value) =
        unsafe { (ffi::Py_REFCNT(stop), (*stop.cast::<ffi::PyStopIterationObject>()).value) };
    if value.is_null() {
        return;
    }
    if holders == 1 && is_plain(stop) {
        // SAFETY: a live instance that nobody else holds; the reference is taken out, then dropped.
        unsafe {
            let fields = stop.cast::<ffi::PyStopIterationObject>();
            ffi::Py_XDECREF(std::mem::replace(&mut (*fields).value, std::ptr::null_mut()));
        }
    } else {
        give_away(py);
    }
}

/// Whether nothing but a value is in the instance.
#[inline]
fn is_plain(stop: *mut ffi::PyObject) -> bool {
    let fields = stop.cast::<ffi::PyStopIterationObject>();
    // SAFETY: a live instance, whose layout `prepare` has checked.
    unsafe {
        (*fields).traceback.is_null()
            && (*fields).context.is_null()
            && (*fields).cause.is_null()
            && (*fields).dict.is_null()
            && (&raw const (*fields).suppress_context).cast::<u8>().read() == 0
    }
}

/// The lasting instance is lasting no more.
#[cold]
fn give_away(py: Python<'_>) {
    let kept = STOPS.with(py, |stops| std::mem::replace(&mut stops.lasting, std::ptr::null_mut()));
    if !kept.is_null() {
        // SAFETY: whole, and ours until now; from here on an object like any other.
        unsafe {
            ffi::PyObject_GC_Track(kept.cast());
            ffi::Py_DECREF(kept);
        }
    }
}

/// Whether nobody can tell how long `value` lives: a constant, or bytes that are not many.
#[inline]
pub fn may_stay(value: &Bound<'_, PyAny>) -> bool {
    let py = value.py();
    match value.cast_exact::<PyBytes>() {
        Ok(bytes) => bytes.as_bytes().len() <= STAYING_BYTES_MAX,
        Err(_) => {
            value.is_none() || value.is(PyBool::new(py, true)) || value.is(PyBool::new(py, false))
        }
    }
}

/// Makes `StopIteration(value)` the pending exception. `may_last`: what returns it dies once it is
/// read, and will call [`settle`] then, or the value [`may_stay`] until the next one.
#[inline]
pub fn raise(value: &Bound<'_, PyAny>, may_last: bool) {
    let py = value.py();
    settle();
    match lasting(py).filter(|_| may_last) {
        // SAFETY: a live instance, and a new reference to it for the pending exception.
        Some(stop) => unsafe {
            (*stop.cast::<ffi::PyStopIterationObject>()).value = ffi::Py_NewRef(value.as_ptr());
            restore(ffi::Py_NewRef(stop));
        },
        None => raise_new(value),
    }
}

/// The same by an instance from the pool, or a new one.
#[cold]
fn raise_new(value: &Bound<'_, PyAny>) {
    let py = value.py();
    renew(py);
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
            let (state, lasting) = prepare(py);
            STOPS.with(py, |stops| (stops.state, stops.lasting) = (state, lasting));
            raise_new(value);
        }
        (State::Refused, _) => super::class::stop_iteration(value).restore(py),
    }
}

/// Makes sure that there is a lasting instance that can be used.
fn renew(py: Python<'_>) {
    let State::Ready(class) = STOPS.with(py, |stops| stops.state) else { return };
    if lasting(py).is_some() {
        return;
    }
    give_away(py);
    let new = make_lasting(py, class);
    let old = STOPS.with(py, |stops| std::mem::replace(&mut stops.lasting, new));
    if !old.is_null() {
        // A destructor has made one meanwhile.
        // SAFETY: whole, ours, untracked until now.
        unsafe {
            ffi::PyObject_GC_Track(old.cast());
            ffi::Py_DECREF(old);
        }
    }
}

/// A new lasting instance, or null.
fn make_lasting(py: Python<'_>, class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    // SAFETY: a ready class; the memory comes zeroed and tracked.
    let stop = unsafe { ffi::PyType_GenericAlloc(class, 0) };
    if stop.is_null() {
        drop(PyErr::take(py));
        return stop;
    }
    // SAFETY: a new instance; untracked, as the collector must not count our reference as nobody's.
    unsafe {
        ffi::PyObject_GC_UnTrack(stop.cast());
        (*stop.cast::<ffi::PyStopIterationObject>()).args = ffi::PyTuple_New(0);
    }
    stop
}

/// Makes `stop` the pending exception.
///
/// # Safety
/// `stop` is a complete instance of the class, and the reference is given away.
#[inline]
unsafe fn restore(stop: *mut ffi::PyObject) {
    #[cfg(Py_3_12)]
    // SAFETY: gives away the reference to the instance.
    unsafe {
        ffi::PyErr_SetRaisedException(stop);
    }
    #[cfg(not(Py_3_12))]
    // SAFETY: gives away a new reference to the class and the one to the instance.
    unsafe {
        ffi::PyErr_Restore(ffi::Py_NewRef(ffi::Py_TYPE(stop).cast()), stop, std::ptr::null_mut());
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
    // SAFETY: complete now, and the only reference.
    unsafe { restore(stop) };
}

/// Makes the class, if StopIteration looks as expected.
#[cold]
fn prepare(py: Python<'_>) -> (State, *mut ffi::PyObject) {
    let base = py.get_type::<pyo3::exceptions::PyStopIteration>();
    let probe = PyTuple::new(py, [PyNone::get(py)]).and_then(|value| base.call1((value,)));
    const REFUSED: (State, *mut ffi::PyObject) = (State::Refused, std::ptr::null_mut());
    let Ok(probe) = probe else { return REFUSED };
    // SAFETY: a live StopIteration; its size is asked before its last field is read.
    let expected = unsafe {
        let fields = probe.as_ptr().cast::<ffi::PyStopIterationObject>();
        (*base.as_type_ptr()).tp_basicsize as usize == size_of::<ffi::PyStopIterationObject>()
            && probe.getattr("value").is_ok_and(|value| value.as_ptr() == (*fields).value)
            && probe.getattr("args").is_ok_and(|args| args.as_ptr() == (*fields).args)
    };
    if !expected {
        return REFUSED;
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
        return REFUSED;
    }
    (State::Ready(class.cast()), make_lasting(py, class.cast()))
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
