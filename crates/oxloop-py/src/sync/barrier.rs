//! `Barrier`: so many tasks wait for one another.
//!
//! Facts: a barrier fills; the last party opens it; then it drains, and nobody enters before the
//! last one left. A reset or an abort breaks it for those who wait. Whoever enters holds the lock of
//! a condition, so that all this happens between two tasks at a time.
//! Decision: as asyncio's, over [`Condition`]; each operation is one body that runs the condition's
//! own steps in turn.
//! Source of behaviour: CPython `Lib/asyncio/locks.py`.

use std::cell::Cell;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::condition::{Condition, Locking, Waiting};
use super::copying::{Parts, parts, refusal};
use super::number::Number;
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, error};
use crate::future::none;
use crate::stdlib;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Filling,
    Draining,
    Resetting,
    Broken,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Draining => "draining",
            Self::Resetting => "resetting",
            Self::Broken => "broken",
        }
    }
}

/// So many tasks wait for one another.
#[pyclass(frozen, subclass, dict, weakref, module = "oxloop", name = "Barrier")]
pub struct Barrier {
    condition: Slot,
    parties: Number,
    state: Cell<State>,
    count: Cell<i64>,
}

attached_only!(Barrier);

impl Barrier {
    fn condition(&self, py: Python<'_>) -> PyResult<Ref> {
        match self.condition.get() {
            Some(condition) => Ok(condition),
            None => {
                let condition = Ref::new(Condition::new_object(py)?);
                self.condition.set(condition.clone());
                Ok(condition)
            }
        }
    }

    /// The copy of a barrier in which nobody is: its condition, its parties, whether it is broken.
    pub fn restore(slf: &Bound<'_, Self>, given: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let Some(given) = given else { return Ok(()) };
        let (condition, parties, broken) =
            given.extract::<(Bound<'_, Condition>, Bound<'_, PyAny>, bool)>()?;
        let this = slf.get();
        this.condition.set(Ref::from_borrowed(&condition));
        this.parties.set(&parties);
        this.state.set(if broken { State::Broken } else { State::Filling });
        Ok(())
    }

    fn notify_all(&self, condition: &Bound<'_, Condition>) -> PyResult<()> {
        Condition::notify_waiters(condition, usize::MAX)
    }

    /// A party leaves; the last one lets the next round begin.
    fn leave(&self, condition: &Bound<'_, Condition>) -> PyResult<()> {
        self.count.set(self.count.get() - 1);
        if self.count.get() == 0 {
            if matches!(self.state.get(), State::Resetting | State::Draining) {
                self.state.set(State::Filling);
            }
            self.notify_all(condition)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Taking the condition's lock.
    Entering,
    /// The lock is held, until the former round has drained.
    Blocked,
    /// Counted, until the barrier opens.
    Counted,
}

/// `Barrier.wait()`, and `async with barrier`.
struct Wait {
    barrier: Ref,
    condition: Ref,
    stage: Cell<Stage>,
    locking: Locking,
    waiting: Waiting,
    index: Cell<i64>,
    entering: bool,
}

impl Wait {
    fn parts<'a, 'py: 'a>(&'a self, py: Python<'py>) -> (&'a Barrier, &'a Bound<'py, Condition>) {
        (self.barrier.bind_as::<Barrier>(py).get(), self.condition.bind_as(py))
    }

    /// The lock is held: goes on as far as it can, and releases it at the end.
    fn go_on(&self, py: Python<'_>) -> PyResult<Progress> {
        let (_, condition) = self.parts(py);
        let went_on = self.advance(py);
        match &went_on {
            Ok(Progress::Await(_)) => {}
            _ => Condition::free(condition)?,
        }
        went_on
    }

    fn advance(&self, py: Python<'_>) -> PyResult<Progress> {
        let (barrier, condition) = self.parts(py);
        if self.stage.get() == Stage::Blocked {
            match barrier.state.get() {
                State::Draining | State::Resetting => {
                    return self.waiting.begin(condition).map(Progress::Await);
                }
                State::Broken => return Err(broken(py, "Barrier aborted")),
                State::Filling => {}
            }
            let index = barrier.count.get();
            barrier.count.set(index + 1);
            self.index.set(index);
            self.stage.set(Stage::Counted);
            if barrier.parties.object(py)?.eq(index + 1)? {
                barrier.state.set(State::Draining);
                let opened = barrier.notify_all(condition);
                return self.left(py, opened);
            }
        }
        match barrier.state.get() {
            State::Filling => match self.waiting.begin(condition) {
                Ok(waiter) => Ok(Progress::Await(waiter)),
                Err(err) => self.left(py, Err(err)),
            },
            State::Draining => self.left(py, Ok(())),
            State::Broken | State::Resetting => {
                self.left(py, Err(broken(py, "Abort or reset of barrier")))
            }
        }
    }

    fn left(&self, py: Python<'_>, outcome: PyResult<()>) -> PyResult<Progress> {
        let (barrier, condition) = self.parts(py);
        barrier.leave(condition)?;
        outcome?;
        Ok(Progress::Return(Ref::new(self.index.get().into_pyobject(py)?)))
    }
}

impl Body for Wait {
    fn qualified_name(&self) -> &'static str {
        if self.entering { "Barrier.__aenter__" } else { "Barrier.wait" }
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let (_, condition) = self.parts(py);
        match self.locking.begin(condition)? {
            Some(awaited) => Ok(Progress::Await(awaited)),
            None => {
                self.stage.set(Stage::Blocked);
                self.go_on(py)
            }
        }
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let (_, condition) = self.parts(py);
        if self.stage.get() == Stage::Entering {
            self.locking.resumed(condition, outcome)?;
            self.stage.set(Stage::Blocked);
            return self.go_on(py);
        }
        match self.waiting.resumed(condition, outcome) {
            Ok(Some(awaited)) => Ok(Progress::Await(awaited)),
            Ok(None) => self.go_on(py),
            Err(err) => {
                // The condition has taken its lock back.
                let left = match self.stage.get() {
                    Stage::Counted => self.left(py, Err(err)).map(drop),
                    _ => Err(err),
                };
                Condition::free(condition)?;
                left.map(|()| Progress::Return(none(py)))
            }
        }
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.barrier.traverse(visit)?;
        self.condition.traverse(visit)?;
        self.locking.traverse(visit)?;
        self.waiting.traverse(visit)
    }
}

/// `Barrier.reset()` and `Barrier.abort()`: a change of state under the lock.
struct Change {
    barrier: Ref,
    condition: Ref,
    locking: Locking,
    abort: bool,
}

impl Change {
    fn apply(&self, py: Python<'_>) -> PyResult<Progress> {
        let barrier = self.barrier.bind_as::<Barrier>(py).get();
        let condition = self.condition.bind_as::<Condition>(py);
        barrier.state.set(if self.abort {
            State::Broken
        } else if barrier.count.get() > 0 {
            State::Resetting
        } else {
            State::Filling
        });
        let notified = barrier.notify_all(condition);
        Condition::free(condition)?;
        notified?;
        Ok(Progress::Return(none(py)))
    }
}

impl Body for Change {
    fn qualified_name(&self) -> &'static str {
        if self.abort { "Barrier.abort" } else { "Barrier.reset" }
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        match self.locking.begin(self.condition.bind_as(py))? {
            Some(awaited) => Ok(Progress::Await(awaited)),
            None => self.apply(py),
        }
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        self.locking.resumed(self.condition.bind_as(py), outcome)?;
        self.apply(py)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.barrier.traverse(visit)?;
        self.condition.traverse(visit)?;
        self.locking.traverse(visit)
    }
}

/// `async with barrier` ends: nothing to do.
struct Leave;

impl Body for Leave {
    fn qualified_name(&self) -> &'static str {
        "Barrier.__aexit__"
    }

    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        Ok(Progress::Return(none(py)))
    }

    fn resumed(&self, _py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome.map(Progress::Return)
    }

    fn traverse(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}

fn broken(py: Python<'_>, text: &str) -> PyErr {
    match stdlib::broken_barrier_error(py).and_then(|class| class.call1((text,))) {
        Ok(error) => error::raised(&error),
        Err(err) => err,
    }
}

fn waiting(slf: &Bound<'_, Barrier>, entering: bool) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    let body = Wait {
        barrier: Ref::from_borrowed(slf),
        condition: slf.get().condition(py)?,
        stage: Cell::new(Stage::Entering),
        locking: Locking::default(),
        waiting: Waiting::default(),
        index: Cell::new(0),
        entering,
    };
    Ok(Coroutine::make(py, body)?.into_py(py))
}

fn changing(slf: &Bound<'_, Barrier>, abort: bool) -> PyResult<Py<PyAny>> {
    let py = slf.py();
    let body = Change {
        barrier: Ref::from_borrowed(slf),
        condition: slf.get().condition(py)?,
        locking: Locking::default(),
        abort,
    };
    Ok(Coroutine::make(py, body)?.into_py(py))
}

#[pymethods]
impl Barrier {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs), text_signature = "(parties)")]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            condition: Slot::empty(),
            parties: Number::of(1),
            state: Cell::new(State::Filling),
            count: Cell::new(0),
        }
    }

    fn __init__(&self, py: Python<'_>, parties: &Bound<'_, PyAny>) -> PyResult<()> {
        if parties.lt(1)? {
            return Err(PyValueError::new_err("parties must be > 0"));
        }
        self.condition.set(Ref::new(Condition::new_object(py)?));
        self.parties.set(parties);
        self.state.set(State::Filling);
        self.count.set(0);
        Ok(())
    }

    /// Wait until all parties do; returns the number of the caller, from 0 on.
    fn wait(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        waiting(slf, false)
    }

    fn __aenter__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        if slf.get_type().is(slf.py().get_type::<Self>()) {
            return waiting(slf, true);
        }
        Ok(slf.call_method0("wait")?.unbind())
    }

    #[pyo3(signature = (*_args))]
    fn __aexit__(&self, py: Python<'_>, _args: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        Ok(Coroutine::make(py, Leave)?.into_py(py))
    }

    /// Empty the barrier; who waits gets BrokenBarrierError.
    fn reset(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        changing(slf, false)
    }

    /// Break the barrier; who waits, now or later, gets BrokenBarrierError.
    fn abort(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        changing(slf, true)
    }

    /// How many tasks open the barrier.
    #[getter]
    fn parties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.parties.object(py)
    }

    /// How many tasks wait.
    #[getter]
    fn n_waiting(&self) -> i64 {
        if self.state.get() == State::Filling { self.count.get() } else { 0 }
    }

    /// True after `abort()`.
    #[getter]
    fn broken(&self) -> bool {
        self.state.get() == State::Broken
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let mut text = slf.get().state.get().name().to_owned();
        if !slf.getattr("broken")?.is_truthy()? {
            let waiting = slf.getattr("n_waiting")?.str()?;
            text = format!("{text}, waiters:{waiting}/{}", slf.getattr("parties")?.str()?);
        }
        super::plain_repr(slf.as_any(), &text, 0)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Parts<'py>> {
        let py = slf.py();
        let this = slf.get();
        if this.count.get() != 0 {
            return Err(refusal(slf.as_any(), "a task waits for it"));
        }
        let condition = this.condition(py)?;
        let given = (condition.bind(py), this.parties.object(py)?, this.broken());
        parts(slf.as_any(), Some(given.into_pyobject(py)?.into_any()), &[], &[])
    }

    #[getter(__class__)]
    fn class<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        super::asyncio_class(slf.as_any())
    }

    #[getter]
    fn _cond<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.condition(py)?.into_bound(py))
    }

    #[getter]
    fn _parties<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.parties.object(py)
    }

    #[getter]
    fn _count(&self) -> i64 {
        self.count.get()
    }

    /// A member of asyncio's own enumeration of the states.
    #[getter]
    fn _state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        stdlib::barrier_state(py)?.call1((self.state.get().name(),))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.condition.traverse(&visit)?;
        self.parties.traverse(&visit)
    }

    fn __clear__(&self) {
        self.condition.clear();
        self.parties.clear();
    }
}
