//! `copy` and `pickle` of locks and queues for which nobody waits.
//!
//! Facts: asyncio's are plain objects, copied by their attributes. One for which tasks wait, or that
//! is bound to a loop, cannot be pickled there either, for a future and a loop cannot.
//! Decision: [`parts`] gives [`restored`], which makes the bare object, and a state in the form that
//! `copy` and `pickle` set attribute by attribute: ours by their setters, a subclass's as they are.
//! So an item of a queue may refer to its queue. What is bound is refused, by `copy.copy` too.
//! What can still go wrong: a subclass with a `__setstate__` of its own that does nothing but update
//! its `__dict__` loses what is native.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use super::barrier::Barrier;
use super::condition::Condition;
use super::home::Home;
use super::queue::Queue;
use super::waiters::WaitList;

/// What `__reduce__` returns.
pub type Parts<'py> = Bound<'py, PyTuple>;

/// Fails unless `owner` is bound to no loop and nobody waits in `lists`.
///
/// # Errors
/// TypeError, as for all that cannot be pickled.
pub fn check_idle(owner: &Bound<'_, PyAny>, home: &Home, lists: &[&WaitList]) -> PyResult<()> {
    let py = owner.py();
    if !home.object(py).is_none() {
        return Err(refusal(owner, "it is bound to an event loop"));
    }
    for list in lists {
        if list.len(py)? != 0 {
            return Err(refusal(owner, "a task waits for it"));
        }
    }
    Ok(())
}

pub fn refusal(owner: &Bound<'_, PyAny>, why: &str) -> PyErr {
    match owner.get_type().name() {
        Ok(class) => PyTypeError::new_err(format!("cannot pickle '{class}' object: {why}")),
        Err(err) => err,
    }
}

/// The parts of `owner`: `given` is for [`restored`], `attributes` are set on the copy, and those of
/// the instance named in `omitted` are left out.
pub fn parts<'py>(
    owner: &Bound<'py, PyAny>,
    given: Option<Bound<'py, PyAny>>,
    attributes: &[&str],
    omitted: &[&str],
) -> PyResult<Parts<'py>> {
    let py = owner.py();
    let native = PyDict::new(py);
    for name in attributes {
        native.set_item(name, owner.getattr(*name)?)?;
    }
    let class = owner.get_type();
    let make = py.import("oxloop._oxloop")?.getattr(intern!(py, "_restored"))?;
    let args = (&class, given).into_pyobject(py)?;
    let state = owner.call_method0(intern!(py, "__getstate__"))?;
    let Some((of_dict, of_slots)) = by_attribute(&state)? else {
        return (make, args, state).into_pyobject(py);
    };
    for name in omitted {
        if of_dict.contains(name)? {
            of_dict.del_item(name)?;
        }
    }
    if class.hasattr(intern!(py, "__setstate__"))? {
        // In asyncio it gets everything in one dictionary, unless the class says otherwise.
        of_dict.update(native.as_mapping())?;
        if of_slots.is_empty() {
            return (make, args, of_dict).into_pyobject(py);
        }
        return (make, args, (of_dict, of_slots)).into_pyobject(py);
    }
    of_slots.update(native.as_mapping())?;
    (make, args, (of_dict, of_slots)).into_pyobject(py)
}

/// The instance's dictionary and its slots, copied, in a state of the usual form.
fn by_attribute<'py>(
    state: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyDict>, Bound<'py, PyDict>)>> {
    let py = state.py();
    let copied = |part: &Bound<'py, PyAny>| {
        if part.is_none() {
            return Ok(Some(PyDict::new(py)));
        }
        part.cast::<PyDict>().ok().map(|dict| dict.copy()).transpose()
    };
    let (of_dict, of_slots) = match state.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
        _ => (state.clone(), py.None().into_bound(py)),
    };
    Ok(copied(&of_dict)?.zip(copied(&of_slots)?))
}

/// An object of `class`, not initialised: what `pickle` and `copy` set the attributes of.
#[pyfunction]
#[pyo3(name = "_restored", signature = (class, given = None, /))]
pub fn restored<'py>(
    class: &Bound<'py, PyType>,
    given: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let object = class.call_method1(intern!(class.py(), "__new__"), (class,))?;
    if let Ok(condition) = object.cast::<Condition>() {
        Condition::start(condition, given)?;
    } else if let Ok(barrier) = object.cast::<Barrier>() {
        Barrier::restore(barrier, given)?;
    } else if let Ok(queue) = object.cast::<Queue>() {
        Queue::restore(queue, given)?;
    }
    Ok(object)
}
