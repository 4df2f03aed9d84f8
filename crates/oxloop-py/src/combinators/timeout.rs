//! `Timeout`, `timeout()` and `timeout_at()`.
//!
//! Facts: the deadline cancels the task; the block's end turns the CancelledError into TimeoutError
//! if nobody else has asked for the task's cancellation meanwhile, which the count of requests
//! tells. The count does not tell about a request made before the block that is not delivered yet
//! (python/cpython#134471): asyncio takes its CancelledError for the deadline's.
//! Decision: on a loop of ours the timer is the object itself; a subclass's methods are called. A
//! deadline that finds a cancellation on its way already leaves that one alone. From the running
//! version's rules the newest are used on all: an exception that hides the CancelledError in its
//! context gets a TimeoutError there.
//! Source of behaviour: CPython `Lib/asyncio/timeouts.py`.

use std::cell::Cell;

use oxloop_core::TimerKey;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::alarm::plain_seconds;
use super::any_future;
use crate::coroutine::{Body, Coroutine, Progress, running_loop};
use crate::current;
use crate::event_loop::{EventLoop, Job};
use crate::ffi::error;
use crate::ffi::fastcall::Args;
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::{Ref, Slot, call};
use crate::future::none;
use crate::stdlib;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Created,
    Entered,
    Expiring,
    Expired,
    Exited,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Entered => "active",
            Self::Expiring => "expiring",
            Self::Expired => "expired",
            Self::Exited => "finished",
        }
    }
}

/// Cancels the current task at a deadline, and raises TimeoutError at the end of the block.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Timeout")]
pub struct Timeout {
    state: Cell<State>,
    /// The deadline, in seconds of the loop's clock, as it was given; empty for none.
    when: Slot,
    /// The same, of a plain number.
    when_s: Cell<Option<f64>>,
    task: Slot,
    /// How often the task's cancellation was requested when the block was entered.
    cancelling: Cell<usize>,
    /// When the block was entered a cancellation had been requested and not been delivered.
    expected: Cell<bool>,
    /// The deadline found it still on its way: that one is not ours to swallow.
    overtaken: Cell<bool>,
    /// The `EventLoop` for `key` and `soon`, or the handle of another loop.
    timer: Slot,
    key: Cell<Option<TimerKey>>,
    /// The deadline had passed: `fire_soon` is in the ready queue.
    soon: Cell<bool>,
    /// Those in the queue that were taken back since.
    stale: Cell<u32>,
}

attached_only!(Timeout);
pooled!(Timeout);

impl Timeout {
    fn empty() -> Self {
        Self {
            state: Cell::new(State::Created),
            when: Slot::empty(),
            when_s: Cell::new(None),
            task: Slot::empty(),
            cancelling: Cell::new(0),
            expected: Cell::new(false),
            overtaken: Cell::new(false),
            timer: Slot::empty(),
            key: Cell::new(None),
            soon: Cell::new(false),
            stale: Cell::new(0),
        }
    }

    fn set_when(&self, when: Option<&Bound<'_, PyAny>>) {
        let when = when.filter(|when| !when.is_none());
        self.when_s.set(when.and_then(plain_seconds));
        drop(self.when.replace(when.map(Ref::from_borrowed)));
    }

    /// A deadline in `delay` seconds from now; none if it is None.
    pub fn after<'py>(delay: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let py = delay.py();
        let home = running_loop(py)?;
        let this = Self::empty();
        if !delay.is_none() {
            match (plain_seconds(delay), home.cast::<EventLoop>()) {
                (Some(seconds), Ok(native)) => {
                    this.when_s.set(Some(EventLoop::now_s(native)? + seconds));
                }
                _ => {
                    let when = home.call_method0(intern!(py, "time"))?.add(delay)?;
                    this.set_when(Some(&when));
                }
            }
        }
        pool::make(py, this)
    }

    fn when_object<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self.when.bound(py) {
            Some(when) => Some(when),
            None => self.when_s.get().map(|when| PyFloat::new(py, when).into_any()),
        }
    }

    /// `__aenter__`
    pub fn enter(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.state.get() != State::Created {
            return Err(PyRuntimeError::new_err("Timeout has already been entered"));
        }
        let home = running_loop(py)?;
        let Some(task) = current::of(&home)? else {
            return Err(PyRuntimeError::new_err("Timeout should be used inside a task"));
        };
        this.state.set(State::Entered);
        this.cancelling.set(any_future::cancelling(&task)?);
        this.expected.set(any_future::is_being_cancelled(&task)?);
        this.task.set(Ref::new(task));
        if !call::is_exactly::<Self>(slf.as_any()) {
            let when = this.when_object(py);
            return slf.call_method1(intern!(py, "reschedule"), (when,)).map(drop);
        }
        Self::schedule(slf, &home)
    }

    /// Starts the timer for the deadline, if there is one.
    fn schedule(slf: &Bound<'_, Self>, home: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let (Ok(native), Some(when)) = (home.cast::<EventLoop>(), this.when_s.get()) {
            let plain = native.get().makes_plain_timers() && native.get().is_plain();
            if plain && call::is_exactly::<Self>(slf.as_any()) {
                this.timer.set(Ref::from_borrowed(home));
                if when <= EventLoop::now_s(native)? {
                    this.soon.set(true);
                    native.get().push(Job::Method(Ref::from_borrowed(slf), Self::fire_soon));
                } else {
                    this.key.set(Some(EventLoop::add_object(native, when, slf)));
                }
                return Ok(());
            }
        }
        let Some(when) = this.when_object(py) else { return Ok(()) };
        let on_timeout = slf.getattr(intern!(py, "_on_timeout"))?;
        let handle = if when.le(home.call_method0(intern!(py, "time"))?)? {
            home.call_method1(intern!(py, "call_soon"), (on_timeout,))?
        } else {
            home.call_method1(intern!(py, "call_at"), (when, on_timeout))?
        };
        this.timer.set(Ref::new(handle));
        Ok(())
    }

    /// Takes the timer back.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        let Some(timer) = self.timer.take() else { return Ok(()) };
        if self.soon.replace(false) {
            self.stale.set(self.stale.get() + 1);
            return Ok(());
        }
        match self.key.take() {
            Some(key) => {
                drop(timer.bind_as::<EventLoop>(py).get().core().remove_timer(key));
                Ok(())
            }
            None => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
        }
    }

    fn fire_soon(object: &Bound<'_, PyAny>) -> PyResult<()> {
        let slf = object.cast::<Self>()?;
        let this = slf.get();
        // Those taken back come first, in the order in which they were queued.
        if let Some(left) = this.stale.get().checked_sub(1) {
            this.stale.set(left);
            return Ok(());
        }
        if this.soon.replace(false) { Self::fire(slf) } else { Ok(()) }
    }

    /// The deadline has come.
    pub fn fire(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.state.get() != State::Entered {
            return Ok(());
        }
        let Some(task) = this.task.bound(py) else { return Ok(()) };
        this.key.set(None);
        this.overtaken.set(this.expected.get() && any_future::is_being_cancelled(&task)?);
        any_future::cancel(&task)?;
        this.state.set(State::Expiring);
        this.timer.clear();
        Ok(())
    }

    /// `__aexit__`: the end of the block, with the exception that ends it.
    ///
    /// # Errors
    /// TimeoutError in place of the CancelledError of the deadline.
    pub fn exit(slf: &Bound<'_, Self>, exception: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let state = this.state.get();
        if !matches!(state, State::Entered | State::Expiring) {
            return Err(PyAssertionError::new_err(()));
        }
        this.stop(py)?;
        if state == State::Entered {
            this.state.set(State::Exited);
            this.task.clear();
            return Ok(());
        }
        this.state.set(State::Expired);
        let Some(task) = this.task.take() else { return Ok(()) };
        let task = task.bind(py);
        let left = any_future::uncancel(task)?;
        let Some(exception) = exception else { return Ok(()) };
        if left > this.cancelling.get() {
            return Ok(());
        }
        if call::has_type(exception, stdlib::cancelled_error(py)?) {
            if this.overtaken.get() {
                return Ok(());
            }
            return Err(call::raised_from(&timeout_error(py), exception)?);
        }
        insert_timeout_error(exception)?;
        if exception.is_instance(stdlib::exception_group(py)?)? {
            for member in exception.getattr(intern!(py, "exceptions"))?.try_iter()? {
                insert_timeout_error(&member?)?;
            }
        }
        Ok(())
    }
}

fn timeout_error(py: Python<'_>) -> Bound<'_, PyAny> {
    error::instance(py, PyTimeoutError::new_err(())).into_any()
}

/// Puts a TimeoutError in front of the first CancelledError in the chain of contexts.
fn insert_timeout_error(exception: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = exception.py();
    let name = intern!(py, "__context__");
    let mut exception = exception.clone();
    loop {
        let context = exception.getattr(name)?;
        if context.is_none() {
            return Ok(());
        }
        if call::has_type(&context, stdlib::cancelled_error(py)?) {
            let error = timeout_error(py);
            error.setattr(intern!(py, "__cause__"), &context)?;
            error.setattr(name, &context)?;
            return exception.setattr(name, error);
        }
        exception = context;
    }
}

/// The body of `__aenter__`.
struct Enter(Ref);

impl Body for Enter {
    fn qualified_name(&self) -> &'static str {
        "Timeout.__aenter__"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        Timeout::enter(self.0.bind_as::<Timeout>(py))?;
        Ok(Progress::Return(self.0.clone()))
    }

    fn resumed(&self, _py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome.map(Progress::Return)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit)
    }
}

/// The body of `__aexit__`.
struct Exit {
    timeout: Ref,
    exception: Slot,
}

impl Body for Exit {
    fn qualified_name(&self) -> &'static str {
        "Timeout.__aexit__"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let exception = self.exception.take();
        let exception = exception.as_ref().map(|exception| exception.bind(py));
        Timeout::exit(self.timeout.bind_as::<Timeout>(py), exception)?;
        Ok(Progress::Return(none(py)))
    }

    fn resumed(&self, _py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome.map(Progress::Return)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.timeout.traverse(visit)?;
        self.exception.traverse(visit)
    }
}

/// `__aenter__()`
pub fn aenter<'py>(slf: &Bound<'py, Timeout>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("__aenter__")?;
    Coroutine::make(slf.py(), Enter(Ref::from_borrowed(slf)))
}

/// `__aexit__(exc_type, exc_val, exc_tb)`
pub fn aexit<'py>(slf: &Bound<'py, Timeout>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let given = args.all("Timeout.__aexit__", ["exc_type", "exc_val", "exc_tb"])?;
    let exception = handled_exception(given)?;
    Coroutine::make(slf.py(), Exit { timeout: Ref::from_borrowed(slf), exception })
}

/// The exception among the arguments of `__aexit__`; empty if the block ended without.
pub fn handled_exception([class, exception, _]: [&Bound<'_, PyAny>; 3]) -> PyResult<Slot> {
    if !exception.is_none() {
        return Ok(Slot::holding(Ref::from_borrowed(exception)));
    }
    // Called by hand, with a class alone.
    if class.cast::<PyType>().is_ok() {
        return Ok(Slot::holding(Ref::new(class.call0()?)));
    }
    Ok(Slot::empty())
}

/// A context manager that cancels the block and raises TimeoutError after `delay` seconds.
#[pyfunction]
pub fn timeout<'py>(delay: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Timeout>> {
    Timeout::after(delay)
}

/// Like `timeout()`, at an absolute time of the loop's clock.
#[pyfunction]
pub fn timeout_at<'py>(when: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Timeout>> {
    let this = Timeout::empty();
    this.set_when(Some(when));
    pool::make(when.py(), this)
}

#[pymethods]
impl Timeout {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(when)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::empty()
    }

    fn __init__(&self, when: Option<&Bound<'_, PyAny>>) {
        self.set_when(when);
    }

    /// The deadline in seconds of the loop's clock, or None.
    fn when<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.when_object(py)
    }

    /// Move the deadline; None removes it.
    fn reschedule(slf: &Bound<'_, Self>, when: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match this.state.get() {
            State::Entered => {}
            State::Created => return Err(PyRuntimeError::new_err("Timeout has not been entered")),
            state => {
                let text = format!("Cannot change state of {} Timeout", state.text());
                return Err(PyRuntimeError::new_err(text));
            }
        }
        this.set_when(when);
        this.stop(py)?;
        if when.is_none() {
            return Ok(());
        }
        Self::schedule(slf, &running_loop(py)?)
    }

    /// Whether the deadline has come while the block ran.
    fn expired(&self) -> bool {
        matches!(self.state.get(), State::Expiring | State::Expired)
    }

    fn _on_timeout(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::fire(slf)
    }

    #[getter]
    fn _task<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.task.or_none(py)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let state = self.state.get();
        let mut text = format!("<Timeout [{}]", state.text());
        if state == State::Entered {
            text += " when=";
            match self.when_object(py) {
                Some(when) => {
                    text += &stdlib::round(py)?.call1((when, 3))?.str()?.to_string();
                }
                None => text += "None",
            }
        }
        Ok(text + ">")
    }

    #[getter(__class__)]
    fn asyncio_class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if call::is_exactly::<Self>(slf.as_any()) {
            return Ok(stdlib::asyncio_timeout(slf.py())?.clone());
        }
        Ok(slf.get_type().into_any())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.when.traverse(&visit)?;
        self.task.traverse(&visit)?;
        self.timer.traverse(&visit)
    }

    fn __clear__(&self) {
        let parts = (self.when.take(), self.task.take(), self.timer.take());
        drop(parts);
    }
}
