//! Executors: blocking functions in threads, and the loop's own threads for name resolution.
//!
//! Name look-ups may hang for a minute; asyncio runs them in the default executor, where they starve
//! everything else (gh-112169). Here they have threads of their own, made at the first look-up.

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::EventLoop;
use crate::combinators::wrap_concurrent;
use crate::ffi::Ref;
use crate::stdlib;

/// Threads that may look up names at once.
const RESOLVER_THREADS_MAX: usize = 16;

impl EventLoop {
    /// `wrap_future(executor.submit(function, *args), loop=self)`
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        executor: &Bound<'py, PyAny>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let mut all = vec![function.clone()];
        all.extend(args.iter());
        let submitted = executor.call_method1(intern!(py, "submit"), PyTuple::new(py, all)?)?;
        wrap_concurrent(&submitted, slf.as_any())
    }

    fn new_executor<'py>(
        py: Python<'py>,
        prefix: &str,
        threads: Option<usize>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kwargs = PyDict::new(py);
        kwargs.set_item("thread_name_prefix", prefix)?;
        if let Some(threads) = threads {
            kwargs.set_item("max_workers", threads)?;
        }
        stdlib::thread_pool_executor(py)?.call((), Some(&kwargs))
    }
}

#[pymethods]
impl EventLoop {
    /// Run `func(*args)` in `executor` (None: the default thread pool); returns an awaitable future.
    #[pyo3(signature = (executor, func, *args))]
    fn run_in_executor<'py>(
        slf: &Bound<'py, Self>,
        executor: &Bound<'py, PyAny>,
        func: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        this.check_open()?;
        if this.debug() {
            Self::check_executor_callback(py, func)?;
        }
        if !executor.is_none() {
            return Self::submit(slf, executor, func, args);
        }
        if this.executor_shut_down.get() {
            return Err(PyRuntimeError::new_err("Executor shutdown has been called"));
        }
        let executor = match this.default_executor.bound(py) {
            Some(executor) => executor,
            None => {
                let executor = Self::new_executor(py, "asyncio", None)?;
                this.default_executor.set(Ref::from_borrowed(&executor));
                executor
            }
        };
        Self::submit(slf, &executor, func, args)
    }

    /// Use `executor`, a ThreadPoolExecutor, for `run_in_executor(None, …)`.
    fn set_default_executor(&self, executor: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = executor.py();
        if !executor.is_instance(stdlib::thread_pool_executor(py)?)? {
            return Err(PyTypeError::new_err("executor must be ThreadPoolExecutor instance"));
        }
        self.default_executor.set(Ref::from_borrowed(executor));
        Ok(())
    }

    /// Run `function(*args)` in the resolver's threads.
    #[pyo3(signature = (function, *args))]
    fn _run_in_resolver<'py>(
        slf: &Bound<'py, Self>,
        function: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        this.check_open()?;
        let executor = match this.resolver.bound(py) {
            Some(executor) => executor,
            None => {
                // Programs that look for forgotten threads let those pass that asyncio has named.
                let executor =
                    Self::new_executor(py, "asyncio_resolver", Some(RESOLVER_THREADS_MAX))?;
                this.resolver.set(Ref::from_borrowed(&executor));
                executor
            }
        };
        Self::submit(slf, &executor, function, args)
    }

    /// No new work for the default executor; returns it, or None, for `shutdown_default_executor`.
    fn _retire_default_executor<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.executor_shut_down.set(true);
        self.default_executor.or_none(py)
    }

    #[getter]
    fn _default_executor<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.default_executor.or_none(py)
    }

    #[setter(_default_executor)]
    fn replace_default_executor(&self, executor: Option<&Bound<'_, PyAny>>) {
        match executor.filter(|executor| !executor.is_none()) {
            Some(executor) => self.default_executor.set(Ref::from_borrowed(executor)),
            None => self.default_executor.clear(),
        }
    }
}

impl EventLoop {
    fn check_executor_callback(py: Python<'_>, func: &Bound<'_, PyAny>) -> PyResult<()> {
        let inspect = py.import(intern!(py, "inspect"))?;
        if stdlib::is_coroutine(py)?.call1((func,))?.is_truthy()?
            || inspect.call_method1("iscoroutinefunction", (func,))?.is_truthy()?
        {
            return Err(PyTypeError::new_err("coroutines cannot be used with run_in_executor()"));
        }
        if !func.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "a callable object was expected by run_in_executor(), got {}",
                func.repr()?
            )));
        }
        Ok(())
    }
}
