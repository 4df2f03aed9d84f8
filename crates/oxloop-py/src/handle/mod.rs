//! `Handle` and `TimerHandle`: a scheduled callback that can be cancelled.
//!
//! Facts: `call_soon` is the most called function of a loop. A handle keeps up to three arguments
//! in place, so that neither scheduling nor running it builds a tuple.
//! Decision: both are native classes of their own; `__class__` answers asyncio's, so `isinstance`
//! holds. A handle lets go of its callback and arguments when it is cancelled or has run, which
//! frees cycles without the collector.
//! Source of behaviour: CPython `Lib/asyncio/events.py`.

mod timer;

use std::cell::Cell;

use oxloop_core::TimerKey;
use pyo3::exceptions::{PyKeyboardInterrupt, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use crate::event_loop::EventLoop;
use crate::ffi::error;
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::{Entered, Ref, Slot, call, context};
use crate::future::none;
use crate::runner::Runner;
use crate::stdlib;
use timer::Timing;
pub use timer::{TimerHandle, cancel_timer};

/// Arguments of a callback: up to three in place, else a tuple.
pub enum Arguments {
    Inline([Option<Ref>; 3]),
    Tuple(Ref),
}

impl Arguments {
    pub const NONE: Self = Self::Inline([None, None, None]);

    /// Collects arguments, in place when there are at most three.
    #[inline]
    pub fn collect<'a, 'py: 'a>(
        py: Python<'py>,
        args: impl ExactSizeIterator<Item = &'a Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        if args.len() > 3 {
            return Ok(Self::Tuple(Ref::new(PyTuple::new(py, args.cloned())?)));
        }
        let mut inline = [None, None, None];
        for (place, arg) in inline.iter_mut().zip(args) {
            *place = Some(Ref::from_borrowed(arg));
        }
        Ok(Self::Inline(inline))
    }

    #[inline]
    fn call<'py>(&self, callback: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Inline(args) => call::vectorcall(callback, args),
            Self::Tuple(args) => {
                callback.call1(args.bind(callback.py()).cast::<PyTuple>()?.clone())
            }
        }
    }

    fn duplicate(&self) -> Self {
        match self {
            Self::Inline(args) => Self::Inline(args.clone()),
            Self::Tuple(args) => Self::Tuple(args.clone()),
        }
    }

    fn to_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::Inline(args) => PyTuple::new(
                py,
                args.iter().flatten().map(|arg| arg.bind(py).clone()).collect::<Vec<_>>(),
            ),
            Self::Tuple(args) => Ok(args.bind(py).cast::<PyTuple>()?.clone()),
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Inline(args) => args.iter().flatten().try_for_each(|arg| arg.traverse(visit)),
            Self::Tuple(args) => args.traverse(visit),
        }
    }
}

impl Default for Arguments {
    fn default() -> Self {
        Self::NONE
    }
}

/// What few handles have: kept out of line.
#[derive(Default)]
struct Rare {
    source_traceback: Option<Ref>,
    /// The repr of a handle that was cancelled in debug mode.
    repr: Option<Ref>,
}

/// A callback scheduled by `call_soon`. Made by the loop, never by hand.
#[pyclass(frozen, subclass, weakref, module = "oxloop", name = "Handle")]
pub struct Handle {
    /// Empty once the handle has run or was cancelled.
    function: Slot,
    args: Cell<Arguments>,
    context: Slot,
    /// An `EventLoop` of ours.
    home: Slot,
    rare: Cell<Option<Box<Rare>>>,
    cancelled: Cell<bool>,
    /// Set for timers: the deadline in seconds of the loop's clock.
    timer: Cell<Option<Timing>>,
    runner: Runner,
}

attached_only!(Handle, TimerHandle);
pooled!(Handle);
pooled!(TimerHandle: Handle);

impl Handle {
    /// A handle for `function(*args)` in `context`, on `home`.
    #[inline]
    pub fn build(
        home: &Bound<'_, EventLoop>,
        function: Ref,
        args: Arguments,
        context: Ref,
    ) -> PyResult<Self> {
        let handle = Self {
            function: Slot::holding(function),
            args: Cell::new(args),
            context: Slot::holding(context),
            home: Slot::holding(Ref::from_borrowed(home)),
            rare: Cell::new(None),
            cancelled: Cell::new(false),
            timer: Cell::new(None),
            runner: Runner::unshared(),
        };
        if home.get().debug() {
            handle.remember_source(home.py())?;
        }
        Ok(handle)
    }

    #[cold]
    fn remember_source(&self, py: Python<'_>) -> PyResult<()> {
        let source_traceback = stdlib::capture_source(py)?.map(Ref::new);
        let rare = self.rare.replace(Some(Box::new(Rare { source_traceback, repr: None })));
        drop(rare);
        Ok(())
    }

    /// Reads one of the rare fields.
    fn rare(&self, read: impl FnOnce(&Rare) -> Option<Ref>) -> Option<Ref> {
        let rare = self.rare.take();
        let value = rare.as_deref().and_then(read);
        self.rare.set(rare);
        value
    }

    /// Where it was made, in debug mode.
    pub fn source_traceback(&self) -> Option<Ref> {
        self.rare(|rare| rare.source_traceback.clone())
    }

    /// A copy of the function and its arguments, if they are still here.
    fn callback(&self) -> Option<(Ref, Arguments)> {
        let function = self.function.get()?;
        let args = self.args.take();
        let copy = args.duplicate();
        self.args.set(args);
        Some((function, copy))
    }

    /// From now on `cancel` and `cancelled` may be called from any thread (3.14).
    pub fn share(&self) {
        self.runner.share();
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.get()
    }

    /// Runs the callback in its context, unless cancelled. An error is reported to the loop's
    /// exception handler; only SystemExit and KeyboardInterrupt come out.
    #[inline]
    pub fn run(slf: &Bound<'_, PyAny>, this: &Self) -> PyResult<()> {
        if this.cancelled.get() {
            return Ok(());
        }
        let _running = this.runner.running();
        // Take out: the callback may cancel this handle, or look at it. In debug mode it keeps a
        // copy, for the report of a slow callback.
        let Some(function) = this.function.take() else { return Ok(()) };
        let args = this.args.take();
        if this.debug(slf.py()) {
            this.function.set(function.clone());
            drop(this.args.replace(args.duplicate()));
        }
        let Some(context) = this.context.get() else { return Ok(()) };
        let py = slf.py();
        let outcome = match Entered::enter(context.bind(py)) {
            Err(err) => Err(err),
            Ok(entered) => {
                let outcome = args.call(function.bind(py)).map(drop);
                entered.exit().and(outcome)
            }
        };
        match outcome {
            Ok(()) => Ok(()),
            Err(err) => Self::failed(slf, this, err, (function, args)),
        }
    }

    #[cold]
    fn failed(
        slf: &Bound<'_, PyAny>,
        this: &Self,
        err: PyErr,
        (function, args): (Ref, Arguments),
    ) -> PyResult<()> {
        if is_fatal(slf.py(), &err) {
            return Err(err);
        }
        // The report names the callback: put it back while the handler looks.
        this.function.set(function);
        drop(this.args.replace(args));
        let reported = this.report(slf, err);
        this.function.clear();
        drop(this.args.take());
        reported
    }

    /// Reports a done callback that ran without a handle and failed, as if it had had one.
    #[cold]
    pub fn report_callback(
        home: &Bound<'_, EventLoop>,
        (function, future, context): (Ref, Ref, Ref),
        err: PyErr,
    ) -> PyResult<()> {
        let py = home.py();
        if is_fatal(py, &err) {
            return Err(err);
        }
        let args = Arguments::Inline([Some(future), None, None]);
        let handle = Self::build(home, function.clone(), args.duplicate(), context)?;
        drop(handle.rare.take());
        let handle = handle.into_object(py)?;
        let contents = handle.bind_as::<Self>(py).get();
        Self::failed(handle.bind(py), contents, err, (function, args))
    }

    #[cold]
    fn report(&self, slf: &Bound<'_, PyAny>, err: PyErr) -> PyResult<()> {
        let py = slf.py();
        let text = format!("Exception in callback {}", self.source(py)?);
        let report = PyDict::new(py);
        report.set_item("message", text)?;
        let exception = error::instance(py, err).into_any();
        report.set_item("exception", &exception)?;
        report.set_item("handle", slf)?;
        if let Some(stack) = self.source_traceback() {
            report.set_item("source_traceback", stack.into_bound(py))?;
        }
        let Some(home) = self.home.bound(py) else { return Ok(()) };
        error::while_handling(&exception, || {
            home.call_method1(intern!(py, "call_exception_handler"), (report,)).map(drop)
        })
    }

    /// `name(args) at file:line` of the callback, as asyncio writes it.
    pub fn source<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Some((function, args)) = self.callback() else { return Ok(py.None().into_bound(py)) };
        let args = args.to_tuple(py)?;
        let function = function.bind(py);
        let format = stdlib::format_callback_source(py)?;
        // 3.13.? added the keyword: debug mode shows arguments, production hides them.
        let kwargs = PyDict::new(py);
        kwargs.set_item("debug", self.debug(py))?;
        match format.call((function, &args), Some(&kwargs)) {
            Err(err) if err.is_instance_of::<pyo3::exceptions::PyTypeError>(py) => {
                format.call1((function, args))
            }
            other => other,
        }
    }

    fn debug(&self, py: Python<'_>) -> bool {
        self.home.get().is_some_and(|home| home.bind_as::<EventLoop>(py).get().debug())
    }

    /// `<Handle …>` as `asyncio.Handle.__repr__` writes it.
    fn describe(&self, slf: &Bound<'_, PyAny>) -> PyResult<String> {
        let py = slf.py();
        if let Some(kept) = self.rare(|rare| rare.repr.clone()) {
            return kept.bind(py).extract();
        }
        let class = if self.runner.is_shared() {
            stdlib::asyncio_threadsafe_handle(py)?.cast::<PyType>()?.name()?
        } else {
            slf.get_type().name()?
        };
        let mut parts = vec![class.to_string()];
        if self.cancelled.get() {
            parts.push("cancelled".into());
        }
        if let Some(timing) = self.timer.get() {
            parts.push(format!("when={}", timing.shown(py).repr()?));
        }
        let source = self.source(py)?;
        if !source.is_none() {
            parts.push(source.to_string());
        }
        if let Some(stack) = self.source_traceback() {
            if let Ok(frame) = stack.bind(py).get_item(-1) {
                parts.push(format!("created at {}:{}", frame.get_item(0)?, frame.get_item(1)?));
            }
        }
        Ok(format!("<{}>", parts.join(" ")))
    }

    /// Marks the handle cancelled and lets go of what it holds.
    pub fn cancel_now(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.cancelled.replace(true) {
            return Ok(());
        }
        let py = slf.py();
        if self.debug(py) {
            // Keep a description that names the callback, for a slow or surprising cancel.
            self.cancelled.set(false);
            let text = self.describe(slf);
            self.cancelled.set(true);
            let text = text?.replacen(' ', " cancelled ", 1);
            let mut rare = self.rare.take().unwrap_or_default();
            rare.repr = Some(Ref::new(PyString::new(py, &text)));
            self.rare.set(Some(rare));
        }
        if let Some(timing @ Timing { key: Some(key), .. }) = self.timer.get() {
            self.timer.set(Some(Timing { key: None, ..timing }));
            if let Some(home) = self.home.get() {
                drop(home.bind_as::<EventLoop>(py).get().core().remove_timer(key));
            }
        }
        self.function.clear();
        drop(self.args.take());
        Ok(())
    }

    /// A handle that runs the same callback once more; this one stays as it is.
    pub fn duplicate(&self, py: Python<'_>) -> PyResult<Self> {
        let context = match self.context.get() {
            Some(context) => context,
            None => context::copy_current(py)?,
        };
        let slot = |value: Option<Ref>| value.map_or_else(Slot::empty, Slot::holding);
        let (function, args) = match self.callback() {
            Some((function, args)) => (Slot::holding(function), args),
            None => (Slot::empty(), Arguments::NONE),
        };
        let source_traceback = self.source_traceback();
        let rare = source_traceback
            .map(|stack| Box::new(Rare { source_traceback: Some(stack), repr: None }));
        Ok(Self {
            function,
            args: Cell::new(args),
            context: Slot::holding(context),
            home: slot(self.home.get()),
            rare: Cell::new(rare),
            cancelled: Cell::new(self.cancelled.get()),
            timer: Cell::new(None),
            runner: Runner::unshared(),
        })
    }

    /// The handle as a Python object.
    #[inline]
    pub fn into_object(self, py: Python<'_>) -> PyResult<Ref> {
        Ok(Ref::new(pool::make(py, self)?))
    }

    /// The handle of a timer as a Python object.
    #[inline]
    pub fn into_timer(self, py: Python<'_>) -> PyResult<Bound<'_, TimerHandle>> {
        pool::make_derived(py, self, TimerHandle, |handle, own| {
            PyClassInitializer::from(handle).add_subclass(own)
        })
    }

    pub fn set_timer(&self, when: f64, key: TimerKey) {
        self.timer.set(Some(Timing { when, whole: false, key: Some(key) }));
    }

    /// The deadline was given as an int, exact in a float too.
    pub fn show_deadline_as_int(&self) {
        if let Some(timing) = self.timer.get() {
            self.timer.set(Some(Timing { whole: true, ..timing }));
        }
    }

    /// The timer has left the heap.
    pub fn timer_fired(&self) {
        if let Some(timing) = self.timer.get() {
            self.timer.set(Some(Timing { key: None, ..timing }));
        }
    }
}

/// Errors that no exception handler may swallow.
pub fn is_fatal(py: Python<'_>, err: &PyErr) -> bool {
    err.is_instance_of::<PySystemExit>(py) || err.is_instance_of::<PyKeyboardInterrupt>(py)
}

#[pymethods]
impl Handle {
    /// True if the callback was cancelled.
    fn cancelled(&self, py: Python<'_>) -> PyResult<bool> {
        self.runner.wait(py)?;
        Ok(self.cancelled.get())
    }

    /// The `contextvars.Context` in which the callback runs.
    fn get_context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.context.or_none(py)
    }

    fn _run(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::run(slf.as_any(), slf.get())
    }

    #[getter]
    fn _callback<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.function.or_none(py)
    }

    #[getter]
    fn _args<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.callback() {
            Some((_, args)) => Ok(args.to_tuple(py)?.into_any()),
            None => Ok(py.None().into_bound(py)),
        }
    }

    #[getter]
    fn _cancelled(&self) -> bool {
        self.cancelled.get()
    }

    #[getter]
    fn _context<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.context.or_none(py)
    }

    #[getter]
    fn _loop<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.home.or_none(py)
    }

    #[getter]
    fn _source_traceback<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let stack = self.source_traceback().map(|stack| stack.into_bound(py));
        stack.unwrap_or_else(|| py.None().into_bound(py))
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let own = slf.get_type();
        if slf.get().runner.is_shared() {
            return Ok(stdlib::asyncio_threadsafe_handle(py)?.clone());
        }
        if own.is(py.get_type::<Handle>()) {
            return Ok(stdlib::asyncio_handle(py)?.clone());
        }
        if own.is(py.get_type::<TimerHandle>()) {
            return Ok(stdlib::asyncio_timer_handle(py)?.clone());
        }
        Ok(own.into_any())
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        slf.get().describe(slf.as_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.function.traverse(&visit)?;
        let args = self.args.take();
        let visited = args.traverse(&visit);
        self.args.set(args);
        visited?;
        let rare = self.rare.take();
        let visited = rare.iter().try_for_each(|rare| {
            rare.source_traceback.iter().try_for_each(|stack| stack.traverse(&visit))
        });
        self.rare.set(rare);
        visited?;
        self.context.traverse(&visit)?;
        self.home.traverse(&visit)
    }

    fn __clear__(&self) {
        let parts = (
            self.function.take(),
            self.args.take(),
            self.rare.take(),
            self.context.take(),
            self.home.take(),
        );
        drop(parts);
    }
}

/// `Handle.cancel()`
pub fn cancel<'py>(slf: &Bound<'py, Handle>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("cancel")?;
    slf.get().runner.wait(slf.py())?;
    slf.get().cancel_now(slf.as_any())?;
    Ok(none(slf.py()))
}

/// The current context, or the one given.
#[inline]
pub fn context_or_copy(py: Python<'_>, given: Option<&Bound<'_, PyAny>>) -> PyResult<Ref> {
    match given {
        Some(context) if !context.is_none() => Ok(Ref::from_borrowed(context)),
        _ => context::copy_current(py),
    }
}
