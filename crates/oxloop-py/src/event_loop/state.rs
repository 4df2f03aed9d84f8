//! Debug mode, the clock, and the private attributes of asyncio's loop that programs read.
//!
//! Programs replace methods on the instance: `loop.time` (virtual clocks, Home Assistant),
//! `loop.call_soon` (tests). Setting one of these is noticed here, and from then on timers follow
//! the user's clock, and futures call the user's `call_soon`.

use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};

use super::EventLoop;
use crate::ffi::Ref;
use crate::stdlib;

impl EventLoop {
    /// What `__init__` does: debug mode from the environment, overridden methods from the class.
    pub(super) fn prepare(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // Looked up each time: tests replace it.
        let is_debug_mode = py.import("asyncio.coroutines")?.getattr("_is_debug_mode")?;
        this.debug.set(is_debug_mode.call0()?.is_truthy()?);
        // Wanted when the loop is collected at exit, when nothing can be imported any more.
        stdlib::warn(py)?;
        stdlib::main_thread(py)?;
        stdlib::set_wakeup_fd(py)?;
        stdlib::set_signal(py)?;
        stdlib::sigint(py)?;
        stdlib::sig_dfl(py)?;
        stdlib::default_int_handler(py)?;
        super::thread_ident(py)?;
        Self::look_for_overrides(slf)
    }

    /// Which methods the class of the loop replaces.
    fn look_for_overrides(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let native = py.get_type::<EventLoop>();
        let class = slf.get_type();
        let replaced = |name: &Bound<'_, PyString>| -> PyResult<bool> {
            Ok(!class.getattr(name)?.is(&native.getattr(name)?))
        };
        this.overridden.set(replaced(intern!(py, "call_soon"))?);
        this.own_clock.set(replaced(intern!(py, "time"))?);
        this.own_futures.set(replaced(intern!(py, "create_future"))?);
        this.own_tasks.set(replaced(intern!(py, "create_task"))?);
        this.own_timers
            .set(replaced(intern!(py, "call_later"))? || replaced(intern!(py, "call_at"))?);
        Ok(())
    }
}

#[pymethods]
impl EventLoop {
    /// True in debug mode.
    fn get_debug(&self) -> bool {
        self.debug.get()
    }

    /// Switch debug mode; it starts as `PYTHONASYNCIODEBUG` or `-X dev` say.
    fn set_debug(slf: &Bound<'_, Self>, enabled: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let enabled = enabled.is_truthy()?;
        this.debug.set(enabled);
        if this.thread.get().is_some() {
            // The depth is a property of the running thread.
            let switch = slf.getattr(intern!(py, "_set_coroutine_origin_tracking"))?;
            slf.call_method1(intern!(py, "call_soon_threadsafe"), (switch, enabled))?;
        }
        Ok(())
    }

    fn _set_coroutine_origin_tracking(&self, py: Python<'_>, enabled: bool) -> PyResult<()> {
        if enabled {
            self.track_origins(py, true).map(drop)
        } else {
            self.untrack_origins(py, None)
        }
    }

    /// In debug mode, callbacks that take longer than this many seconds are logged.
    #[getter]
    fn slow_callback_duration(&self) -> f64 {
        self.slow_callback_duration_s.get()
    }

    #[setter]
    fn set_slow_callback_duration(&self, seconds: f64) {
        self.slow_callback_duration_s.set(seconds);
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        set_attribute(slf.as_any(), name, Some(value))?;
        let this = slf.get();
        match name.to_str()? {
            "time" => this.own_clock.set(true),
            "call_soon" => this.overridden.set(true),
            "create_future" => this.own_futures.set(true),
            "create_task" => this.own_tasks.set(true),
            "call_later" | "call_at" => this.own_timers.set(true),
            _ => {}
        }
        Ok(())
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        set_attribute(slf.as_any(), name, None)?;
        match name.to_str()? {
            "time" | "call_soon" | "create_future" | "create_task" | "call_later" | "call_at" => {
                Self::look_for_overrides(slf)
            }
            _ => Ok(()),
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let word = |flag: bool| if flag { "True" } else { "False" };
        Ok(format!(
            "<{} running={} closed={} debug={}>",
            slf.get_type().name()?,
            word(this.thread.get().is_some()),
            word(this.closed.get()),
            word(this.debug.get())
        ))
    }

    fn _check_closed(&self) -> PyResult<()> {
        self.check_open()
    }

    /// asyncio's own timer handles tell their loop; ours need not.
    fn _timer_handle_cancelled(&self, _handle: &Bound<'_, PyAny>) {}

    #[getter]
    fn _thread_id(&self) -> Option<u64> {
        self.thread.get()
    }

    #[getter]
    fn _closed(&self) -> bool {
        self.closed.get()
    }

    #[getter]
    fn _debug(&self) -> bool {
        self.debug.get()
    }

    #[getter]
    fn _stopping(&self) -> bool {
        self.stopping.get()
    }

    #[setter(_stopping)]
    fn set_stopping(&self, value: bool) {
        self.stopping.set(value);
    }

    #[getter]
    fn _clock_resolution(&self) -> f64 {
        1e-9
    }

    /// The handles and tasks that are ready, in order: a snapshot to look at.
    #[getter]
    fn _ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let jobs: Vec<Ref> = self
            .core()
            .ready
            .borrow()
            .iter()
            .map(|job| match job {
                super::Job::Step(object)
                | super::Job::Wakeup(object, _)
                | super::Job::Tell(object, _)
                | super::Job::Handle(object)
                | super::Job::Method(object, _) => object.clone(),
                super::Job::StepThrow(parts) => parts.0.clone(),
                super::Job::Callback(parts) => parts.0.clone(),
            })
            .collect();
        let jobs: Vec<_> = jobs.into_iter().map(|job| job.into_bound(py)).collect();
        Ok(pyo3::types::PyTuple::new(py, jobs)?.into_any())
    }

    /// The timer handles that are pending, unordered: a snapshot to look at.
    #[getter]
    fn _scheduled<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let timers: Vec<Ref> =
            self.core().timers.borrow().iter().map(|(_, timer)| timer.clone()).collect();
        // Sleeping tasks have no handle.
        let timers: Vec<_> = timers
            .into_iter()
            .map(|timer| timer.into_bound(py))
            .filter(|timer| timer.cast::<crate::handle::Handle>().is_ok())
            .collect();
        Ok(pyo3::types::PyTuple::new(py, timers)?.into_any())
    }

    /// The native tasks of this loop that are not done.
    fn _pending_tasks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let tasks: Vec<_> =
            self.pending_tasks().into_iter().map(|task| task.into_bound(py)).collect();
        PyList::new(py, tasks)
    }

    #[getter]
    fn _selector<'py>(&self) -> PyResult<Bound<'py, PyAny>> {
        Err(PyAttributeError::new_err(
            "'EventLoop' object has no attribute '_selector': oxloop has no Python selector; \
             for virtual time replace loop.time",
        ))
    }
}

/// The generic attribute store: descriptors first, then the instance's dictionary.
fn set_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    crate::ffi::call::generic_setattr(object, name, value)
}
