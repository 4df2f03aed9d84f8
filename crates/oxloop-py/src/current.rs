//! The current task, as `asyncio.current_task()` and all that imported it see it.
//!
//! Facts: up to 3.13 it is the dict `_current_tasks {loop: task}` of asyncio's C module (of
//! `asyncio.tasks` on 3.11); from 3.14 on it is a field of the thread state, reached only through
//! `_swap_current_task`. Publishing and withdrawing it around each step costs 30 to 60 ns.
//! Decision: publish lazily. A step publishes its task only if another one stands there, and the
//! loop withdraws it before anything that is not a step: a callback, an I/O callback, the wait.
//! The published reference keeps the task alive, so comparing addresses is safe; a task that has
//! ended stays published until the next job, which is the next thing the loop does.
//! What can still go wrong: code that runs between two steps without being a step or a callback
//! (a destructor) may see the task that ran last.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use crate::ffi::dict::set_item_known_hash;
use crate::ffi::{Ref, Slot};

enum Registry {
    Dict(Py<PyDict>),
    Swap(Py<PyAny>),
}

fn registry(py: Python<'_>) -> PyResult<&Registry> {
    static REGISTRY: PyOnceLock<Registry> = PyOnceLock::new();
    REGISTRY.get_or_try_init(py, || {
        let native = py.import("_asyncio")?;
        if let Ok(dict) = native.getattr("_current_tasks") {
            return Ok(Registry::Dict(dict.cast_into::<PyDict>()?.unbind()));
        }
        if let Ok(swap) = native.getattr("_swap_current_task") {
            return Ok(Registry::Swap(swap.unbind()));
        }
        let dict = py.import("asyncio.tasks")?.getattr("_current_tasks")?;
        Ok::<_, PyErr>(Registry::Dict(dict.cast_into::<PyDict>()?.unbind()))
    })
}

/// What one loop has published.
#[derive(Default)]
pub struct CurrentTask {
    published: Slot,
    /// The hash of the loop, once it is a key of asyncio's dict.
    key_hash: Cell<Option<isize>>,
    /// Tasks step within tasks only by eager start; a loop that is not running publishes nothing.
    depth: Cell<u32>,
}

impl CurrentTask {
    /// Makes `task` the current task of `home`.
    #[inline]
    pub fn publish(&self, home: &Bound<'_, PyAny>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.published.holds(task) {
            return Ok(());
        }
        match registry(task.py())? {
            Registry::Dict(dict) => {
                let key_hash = match self.key_hash.get() {
                    Some(key_hash) => key_hash,
                    None => self.hash_key(home)?,
                };
                set_item_known_hash(dict.bind(task.py()), home, task, key_hash)?;
            }
            Registry::Swap(swap) => drop(swap.bind(task.py()).call1((home, task))?),
        }
        self.published.set(Ref::from_borrowed(task));
        Ok(())
    }

    #[cold]
    fn hash_key(&self, home: &Bound<'_, PyAny>) -> PyResult<isize> {
        let key_hash = home.hash()?;
        self.key_hash.set(Some(key_hash));
        Ok(key_hash)
    }

    /// No task is current any more.
    #[inline]
    pub fn withdraw(&self, home: &Bound<'_, PyAny>) -> PyResult<()> {
        if !self.published.is_some() {
            return Ok(());
        }
        self.withdraw_now(home)
    }

    fn withdraw_now(&self, home: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = home.py();
        match registry(py)? {
            Registry::Dict(dict) => {
                // Somebody may have left the task by hand (`_leave_task`).
                if dict.bind(py).contains(home)? {
                    dict.bind(py).del_item(home)?;
                }
            }
            Registry::Swap(swap) => drop(swap.bind(py).call1((home, py.None()))?),
        }
        self.published.clear();
        Ok(())
    }

    /// Runs a step that did not come from the ready queue; what was current before is again after.
    ///
    /// Nothing would withdraw the task otherwise: the loop may not run, and never run again.
    pub fn within<R>(
        &self,
        home: &Bound<'_, PyAny>,
        step: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let before = self.published.get();
        let stepped = step();
        let restored = match before {
            Some(before) => self.publish(home, before.bind(home.py())),
            None => self.withdraw(home),
        };
        stepped.and_then(|value| restored.map(|()| value))
    }

    /// Runs an eager first step: `task` is current within, what was current before is again after.
    pub fn nested<R>(
        &self,
        home: &Bound<'_, PyAny>,
        task: &Bound<'_, PyAny>,
        step: impl FnOnce() -> R,
    ) -> PyResult<R> {
        let py = task.py();
        let outer = swap(home, Some(task))?;
        let published = self.published.take();
        self.depth.set(self.depth.get() + 1);
        let result = step();
        self.depth.set(self.depth.get() - 1);
        // Steps of the inner task publish nothing themselves; forget what they might have.
        self.published.clear();
        swap(home, outer.as_ref().map(|task| task.bind(py)))?;
        drop(self.published.replace(published));
        Ok(result)
    }

    pub fn slot(&self) -> &Slot {
        &self.published
    }
}

/// `asyncio.current_task(home)`
pub fn of<'py>(home: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = home.py();
    match registry(py)? {
        Registry::Dict(dict) => dict.bind(py).get_item(home),
        Registry::Swap(_) => {
            let task = crate::stdlib::current_task(py)?.call1((home,))?;
            Ok((!task.is_none()).then_some(task))
        }
    }
}

/// Makes `task` (or none) current for `home` and returns what was; for any loop.
pub fn swap(home: &Bound<'_, PyAny>, task: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Ref>> {
    let py = home.py();
    match registry(py)? {
        Registry::Dict(dict) => {
            let dict = dict.bind(py);
            let before = dict.get_item(home)?.map(Ref::new);
            match task {
                Some(task) => dict.set_item(home, task)?,
                None if before.is_some() => dict.del_item(home)?,
                None => {}
            }
            Ok(before)
        }
        Registry::Swap(swap) => {
            let task = task.cloned().unwrap_or_else(|| py.None().into_bound(py));
            let before = swap.bind(py).call1((home, task))?;
            Ok((!before.is_none()).then(|| Ref::new(before)))
        }
    }
}
