//! The object of a native coroutine: its stages, and what each of send, throw and close does.
//!
//! Facts: the interpreter resumes an awaited object through `am_send` or `tp_iternext`, without
//! StopIteration where there is no value. A coroutine that is closed, or dies, while it waits gets
//! GeneratorExit at its `await`.
//! Decision: the machine runs the body in a loop until something suspends. While a method of the
//! body runs, the stage is `Running`, which refuses everything from outside; the body is dropped
//! only after the stage is `Done`.
//! Source of behaviour: CPython `Objects/genobject.c`.

use std::cell::Cell;

use pyo3::exceptions::{
    PyGeneratorExit, PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Body, Progress};
use crate::ffi::call::Recursion;
use crate::ffi::class::{Finalize, OwnAwait, Resume};
use crate::ffi::error;
use crate::ffi::inline::InlineCell;
use crate::ffi::object::attached_only;
use crate::ffi::pool::{self, pooled};
use crate::ffi::spare::Spare;
use crate::ffi::{Raised, Ref, Sent, Slot, call, stop};
use crate::future::{Future, none};
use crate::stdlib;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Nothing was done yet.
    Created,
    /// A method of the body, or of what it awaits, is on the stack.
    Running,
    /// `awaited` is a native future.
    Waiting,
    /// `awaited` is the iterator of another awaitable.
    Delegating,
    /// After a bare yield.
    Paused,
    Done,
}

/// Ends the text of a RecursionError.
const NESTED: &std::ffi::CStr = c" while awaiting a coroutine";

/// What the first step came to.
enum First {
    Return(Ref),
    Other(PyResult<Progress>),
}

/// A native coroutine.
#[pyclass(frozen, weakref, module = "oxloop._oxloop", name = "_Coroutine")]
pub struct Coroutine {
    pub(super) stage: Cell<Stage>,
    pub(super) awaited: Slot,
    /// Of the body, which is gone when the coroutine is done.
    pub(super) qualified_name: Cell<&'static str>,
    pub(super) body: InlineCell,
}

attached_only!(Coroutine);
pooled!(Coroutine);

/// One that ended in its first step, for the next one that is made.
static SPARE: Spare<Coroutine> = Spare::new();

/// Lets go of it: a loop has closed.
pub fn drop_spare(py: Python<'_>) {
    drop(SPARE.take(py));
}

impl Coroutine {
    /// A coroutine that has not started.
    #[inline(always)]
    pub fn make<B: Body>(py: Python<'_>, body: B) -> PyResult<Ref> {
        if let Some(spare) = SPARE.take(py) {
            let this = spare.get();
            this.stage.set(Stage::Created);
            this.qualified_name.set(body.qualified_name());
            this.body.refill(body);
            return Ok(Ref::new(spare));
        }
        let coroutine = pool::make_with(py, || Self {
            stage: Cell::new(Stage::Created),
            awaited: Slot::empty(),
            qualified_name: Cell::new(body.qualified_name()),
            body: InlineCell::holding(body),
        })?;
        Ok(Ref::new(coroutine))
    }

    #[inline]
    fn resume_body(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        self.body.with(|body| match body {
            Some(body) => body.resumed(py, outcome),
            None => Err(call::unexplained()),
        })
    }

    /// Goes on until something suspends the coroutine or it ends. The stage is `Running`.
    fn advance(&self, py: Python<'_>, mut progress: PyResult<Progress>) -> Sent {
        loop {
            progress = match progress {
                Ok(Progress::Return(value)) => {
                    self.finish();
                    return Sent::Returned(value);
                }
                Ok(Progress::Await(target)) => {
                    let outcome = match plain_future(target.bind(py)) {
                        Some(future) if !future.get().is_done() => {
                            future.get().set_blocking();
                            self.awaited.set(target.clone());
                            self.stage.set(Stage::Waiting);
                            return Sent::Yielded(target);
                        }
                        Some(future) => Future::outcome(future),
                        None => match self.delegate(py, &target) {
                            Ok(Sent::Yielded(value)) => {
                                self.stage.set(Stage::Delegating);
                                return Sent::Yielded(value);
                            }
                            Ok(sent) => self.delegated(py, sent),
                            Err(err) => Err(err),
                        },
                    };
                    self.resume_body(py, outcome)
                }
                Ok(Progress::Pause) => {
                    self.stage.set(Stage::Paused);
                    return Sent::Yielded(none(py));
                }
                Err(err) => {
                    self.finish();
                    return Sent::Raised(raised(py, err));
                }
            };
        }
    }

    /// Starts to await something that is no native future.
    fn delegate(&self, py: Python<'_>, target: &Ref) -> PyResult<Sent> {
        let iterator = call::awaitable_iterator(target.bind(py))?;
        let _depth = Recursion::enter(py, NESTED)?;
        self.awaited.set(Ref::from_borrowed(&iterator));
        Ok(call::iter_send(&iterator, &py.None().into_bound(py)))
    }

    /// How the other awaitable ended.
    fn delegated(&self, py: Python<'_>, sent: Sent) -> PyResult<Ref> {
        self.awaited.clear();
        match sent {
            Sent::Yielded(value) | Sent::Returned(value) => Ok(value),
            Sent::Raised(raised) => Err(raised.into_err(py)),
        }
    }

    /// After the other awaitable was resumed: it suspends again, or the body goes on.
    fn after_delegate(&self, py: Python<'_>, sent: Sent) -> Sent {
        if let Sent::Yielded(value) = sent {
            self.stage.set(Stage::Delegating);
            return Sent::Yielded(value);
        }
        let outcome = self.delegated(py, sent);
        let progress = self.resume_body(py, outcome);
        self.advance(py, progress)
    }

    /// The end: lets go of everything.
    fn finish(&self) {
        self.stage.set(Stage::Done);
        self.awaited.clear();
        self.body.drop_body();
    }

    /// `send(value)`.
    #[inline]
    pub(super) fn send_value<'py>(slf: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Sent {
        let py = slf.py();
        let this = slf.get();
        let outcome = match this.stage.replace(Stage::Running) {
            Stage::Created if !value.is_none() => {
                this.stage.set(Stage::Created);
                let text = "can't send non-None value to a just-started coroutine";
                return Sent::Raised(Raised::from_err(py, PyTypeError::new_err(text)));
            }
            Stage::Created => {
                // Most operations end here: no more than the result is moved about.
                let first = this.body.with(|body| match body.map(|body| body.begin(py)) {
                    Some(Ok(Progress::Return(value))) => First::Return(value),
                    Some(progress) => First::Other(progress),
                    None => First::Other(Err(call::unexplained())),
                });
                return match first {
                    First::Return(value) => {
                        this.finish();
                        if stop::may_stay(value.bind(py)) {
                            SPARE.offer(slf);
                        }
                        Sent::Returned(value)
                    }
                    First::Other(progress) => this.advance(py, progress),
                };
            }
            Stage::Waiting => match this.awaited.take() {
                Some(awaited) => {
                    let future = awaited.bind_as::<Future>(py);
                    if future.get().is_done() {
                        Future::outcome(future)
                    } else {
                        Err(PyRuntimeError::new_err("await wasn't used with future"))
                    }
                }
                None => Err(call::unexplained()),
            },
            Stage::Paused => Ok(none(py)),
            Stage::Delegating => {
                let Some(iterator) = this.awaited.get() else {
                    return this.advance(py, Err(call::unexplained()));
                };
                let sent = match Recursion::enter(py, NESTED) {
                    Ok(_depth) => call::iter_send(iterator.bind(py), value),
                    Err(err) => Sent::Raised(Raised::from_err(py, err)),
                };
                return this.after_delegate(py, sent);
            }
            stage @ (Stage::Running | Stage::Done) => {
                return Sent::Raised(Raised::from_err(py, this.refuse(stage)));
            }
        };
        let progress = this.resume_body(py, outcome);
        this.advance(py, progress)
    }

    /// Undoes the change of stage for a coroutine that cannot be resumed.
    #[cold]
    fn refuse(&self, stage: Stage) -> PyErr {
        self.stage.set(stage);
        match stage {
            Stage::Running => PyValueError::new_err("coroutine already executing"),
            _ => PyRuntimeError::new_err("cannot reuse already awaited coroutine"),
        }
    }

    /// `throw(error)`, an exception instance.
    pub(super) fn throw_error(slf: &Bound<'_, Self>, error: &Bound<'_, PyAny>) -> Sent {
        let py = slf.py();
        let this = slf.get();
        let thrown = Err(PyErr::from_value(error.clone()));
        match this.stage.replace(Stage::Running) {
            // Nothing was begun, so there is nothing to clean up. The error comes out as it is, even
            // StopIteration, since 3.12: before the first step no handler is around the body.
            Stage::Created if stdlib::at_least(py, 12) => {
                this.finish();
                Sent::Raised(Raised(Ref::from_borrowed(error)))
            }
            Stage::Created => this.advance(py, thrown),
            Stage::Waiting | Stage::Paused => {
                this.awaited.clear();
                let progress = this.resume_body(py, thrown.map(|_: Progress| none(py)));
                this.advance(py, progress)
            }
            Stage::Delegating => {
                let Some(iterator) = this.awaited.get() else {
                    return this.advance(py, Err(call::unexplained()));
                };
                let thrown = Recursion::enter(py, NESTED)
                    .and_then(|_depth| throw_into(iterator.bind(py), error));
                match thrown {
                    Ok(sent) => this.after_delegate(py, sent),
                    Err(err) => this.after_delegate(py, Sent::Raised(Raised::from_err(py, err))),
                }
            }
            stage @ (Stage::Running | Stage::Done) => {
                Sent::Raised(Raised::from_err(py, this.refuse(stage)))
            }
        }
    }

    /// `close()`: ends the coroutine by GeneratorExit where it waits.
    pub(super) fn give_up(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match this.stage.get() {
            Stage::Running => return Err(PyValueError::new_err("coroutine already executing")),
            Stage::Done => return Ok(()),
            Stage::Created => {
                this.finish();
                return Ok(());
            }
            Stage::Waiting | Stage::Delegating | Stage::Paused => {}
        }
        let error = error::instance(py, PyGeneratorExit::new_err(())).into_any();
        match Self::throw_error(slf, &error) {
            Sent::Yielded(_) => Err(PyRuntimeError::new_err("coroutine ignored GeneratorExit")),
            Sent::Returned(_) => Ok(()),
            Sent::Raised(raised) => {
                let err = raised.into_err(py);
                if err.is_instance_of::<PyGeneratorExit>(py)
                    || err.is_instance_of::<PyStopIteration>(py)
                {
                    Ok(())
                } else {
                    Err(err)
                }
            }
        }
    }

    #[cold]
    fn warn_never_awaited(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let text = format!("coroutine '{}' was never awaited", slf.get().qualified_name.get());
        let kwargs = PyDict::new(py);
        kwargs.set_item("source", slf)?;
        stdlib::warn(py)?.call((text, py.get_type::<PyRuntimeWarning>()), Some(&kwargs))?;
        Ok(())
    }
}

/// What the coroutine raises when its body ends with an error. StopIteration would be taken for a
/// result by whoever resumes it, so it is wrapped (PEP 479).
#[cold]
fn raised(py: Python<'_>, err: PyErr) -> Raised {
    let exception = error::instance(py, err).into_any();
    if !exception.is_instance_of::<PyStopIteration>() {
        return Raised(Ref::new(exception));
    }
    let wrapping =
        error::instance(py, PyRuntimeError::new_err("coroutine raised StopIteration")).into_any();
    for name in [intern!(py, "__cause__"), intern!(py, "__context__")] {
        if let Err(err) = wrapping.setattr(name, &exception) {
            return Raised::from_err(py, err);
        }
    }
    Raised(Ref::new(wrapping))
}

/// `iterator.throw(error)` as the interpreter passes an exception on to what is awaited.
fn throw_into(iterator: &Bound<'_, PyAny>, error: &Bound<'_, PyAny>) -> PyResult<Sent> {
    let py = iterator.py();
    if error.is_instance_of::<PyGeneratorExit>() {
        if let Some(close) = iterator.getattr_opt(intern!(py, "close"))? {
            close.call0()?;
        }
        return Err(PyErr::from_value(error.clone()));
    }
    let Some(throw) = iterator.getattr_opt(intern!(py, "throw"))? else {
        return Err(PyErr::from_value(error.clone()));
    };
    match call::call_one(&throw, error) {
        Ok(value) => Ok(Sent::Yielded(Ref::new(value))),
        Err(err) if err.is_instance_of::<PyStopIteration>(py) => {
            Ok(Sent::Returned(Ref::new(err.value(py).getattr(intern!(py, "value"))?)))
        }
        Err(err) => Err(err),
    }
}

/// A coroutine of an `async def` function, or a native one.
#[inline]
pub fn is_plain_coroutine(object: &Bound<'_, PyAny>) -> bool {
    call::is_python_coroutine(object) || call::is_exactly::<Coroutine>(object)
}

/// A future of ours whose methods nobody can have replaced.
#[inline]
pub fn plain_future<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, Future>> {
    if call::is_exactly::<Future>(object) {
        return object.cast::<Future>().ok();
    }
    let future = object.cast::<Future>().ok()?;
    (call::is_exactly::<crate::task::Task>(object) || call::is_final_class(object))
        .then_some(future)
}

impl Drop for Coroutine {
    #[inline]
    fn drop(&mut self) {
        stop::settle();
    }
}

impl OwnAwait for Coroutine {
    #[inline]
    fn check(object: &Bound<'_, Self>) -> PyResult<()> {
        match object.get().stage.get() {
            Stage::Waiting | Stage::Delegating | Stage::Paused => Err(call::awaited_already()),
            Stage::Created | Stage::Running | Stage::Done => Ok(()),
        }
    }
}

impl Resume for Coroutine {
    #[inline]
    fn resume<'py>(object: &Bound<'py, Self>, value: &Bound<'py, PyAny>) -> Sent {
        Self::send_value(object, value)
    }

    #[inline]
    fn is_kept(object: &Bound<'_, Self>) -> bool {
        SPARE.holds(object.as_ptr())
    }
}

impl Finalize for Coroutine {
    #[inline]
    fn needs_finalize(object: &Bound<'_, Self>) -> bool {
        object.get().stage.get() != Stage::Done
    }

    fn finalize(object: &Bound<'_, Self>) {
        let ended = match object.get().stage.get() {
            // Nothing was begun. The body is dropped with the object, which may be one of a long chain.
            Stage::Created => Self::warn_never_awaited(object),
            _ => Self::give_up(object),
        };
        if let Err(err) = ended {
            err.write_unraisable(object.py(), Some(object.as_any()));
        }
    }
}
