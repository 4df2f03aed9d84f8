//! Errors that nobody waits for: the exception handler.
//!
//! From 3.12 on a custom handler runs in the context of the task, future or handle that failed. A
//! handler that fails is reported by the default one; what even that cannot log goes to the log
//! with a plain message. SystemExit and KeyboardInterrupt always come out.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::EventLoop;
use crate::ffi::{Ref, call, error};
use crate::handle::is_fatal;
use crate::stdlib;

impl EventLoop {
    /// Calls the custom handler, in the context of what failed.
    fn call_handler(
        slf: &Bound<'_, Self>,
        handler: &Bound<'_, PyAny>,
        report: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        if stdlib::at_least(py, 12) {
            let mut source = None;
            for key in ["task", "future", "handle"] {
                let found = report.call_method1(intern!(py, "get"), (key,))?;
                if !found.is_none() {
                    source = Some(found);
                    break;
                }
            }
            if let Some(source) = source {
                if let Some(get_context) = source.getattr_opt(intern!(py, "get_context"))? {
                    let context = get_context.call0()?;
                    if !context.is_none() && context.hasattr(intern!(py, "run"))? {
                        context.call_method1(intern!(py, "run"), (handler, slf, report))?;
                        return Ok(());
                    }
                }
            }
        }
        handler.call1((slf, report))?;
        Ok(())
    }

    /// Lets `body` fail: fatal errors come out, others are given back.
    fn tolerate(py: Python<'_>, outcome: PyResult<()>) -> PyResult<Option<PyErr>> {
        match outcome {
            Ok(()) => Ok(None),
            Err(err) if is_fatal(py, &err) => Err(err),
            Err(err) => Ok(Some(err)),
        }
    }
}

/// `(type, value, traceback)` for the logging module.
fn exc_info<'py>(py: Python<'py>, exception: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let traceback = call::traceback_of(exception).map(|traceback| traceback.into_bound(py));
    Ok((exception.get_type(), exception, traceback).into_pyobject(py)?.into_any())
}

#[pymethods]
impl EventLoop {
    /// The custom exception handler, or None.
    fn get_exception_handler<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.exception_handler.or_none(py)
    }

    /// Set `handler(loop, context)` for errors that nobody waits for; None: the default one.
    fn set_exception_handler(&self, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        if handler.is_none() {
            self.exception_handler.clear();
        } else if handler.is_callable() {
            self.exception_handler.set(Ref::from_borrowed(handler));
        } else {
            return Err(PyTypeError::new_err(format!(
                "A callable object or None is expected, got {}",
                handler.repr()?
            )));
        }
        Ok(())
    }

    /// Log `context`, a mapping, as an error of the asyncio logger.
    fn default_exception_handler(
        slf: &Bound<'_, Self>,
        context: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let given = context;
        let context = &PyDict::new(py);
        for key in given.try_iter()? {
            let key = key?;
            context.set_item(&key, given.get_item(&key)?)?;
        }
        if !context.contains("source_traceback")? {
            if let Some(stack) = slf.get().running_source.get() {
                context.set_item("handle_traceback", stack.bind(py))?;
            }
        }
        let message = match context.get_item("message")? {
            Some(message) if message.is_truthy()? => message.str()?.to_string(),
            _ => "Unhandled exception in event loop".to_owned(),
        };
        let info = match context.get_item("exception")? {
            Some(exception) if !exception.is_none() => exc_info(py, &exception)?,
            _ => pyo3::types::PyBool::new(py, false).to_owned().into_any(),
        };
        let mut lines = vec![message];
        let keys = context.keys();
        keys.sort()?;
        for key in keys {
            let name = key.str()?.to_string();
            if name == "message" || name == "exception" {
                continue;
            }
            let Some(value) = context.get_item(&key)? else { continue };
            let text = match name.as_str() {
                "source_traceback" => format_stack(py, &value, "Object")?,
                "handle_traceback" => format_stack(py, &value, "Handle")?,
                _ => value.repr()?.to_string(),
            };
            lines.push(format!("{name}: {text}"));
        }
        stdlib::log(py, "error", &lines.join("\n"), Some(info))
    }

    /// Report an error that nobody waits for; never fails but by SystemExit and KeyboardInterrupt.
    fn call_exception_handler(slf: &Bound<'_, Self>, context: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let default = |report: &Bound<'_, PyAny>| -> PyResult<()> {
            slf.call_method1(intern!(py, "default_exception_handler"), (report,)).map(drop)
        };
        let failed_by_itself = |err: PyErr| -> PyResult<()> {
            let info = exc_info(py, err.value(py))?;
            stdlib::log(py, "error", "Exception in default exception handler", Some(info))
        };
        let Some(handler) = slf.get().exception_handler.get() else {
            return match Self::tolerate(py, default(context))? {
                None => Ok(()),
                Some(err) => failed_by_itself(err),
            };
        };
        let Some(err) = Self::tolerate(py, Self::call_handler(slf, handler.bind(py), context))?
        else {
            return Ok(());
        };
        let report = PyDict::new(py);
        report.set_item("message", "Unhandled error in exception handler")?;
        report.set_item("exception", err.value(py))?;
        report.set_item("context", context)?;
        let told = error::while_handling(err.value(py).as_any(), || default(&report));
        match Self::tolerate(py, told)? {
            None => Ok(()),
            Some(err) => {
                let info = exc_info(py, err.value(py))?;
                let text = "Exception in default exception handler while handling an unexpected \
                            error in custom exception handler";
                stdlib::log(py, "error", text, Some(info))
            }
        }
    }
}

/// `Object created at (most recent call last): …`
fn format_stack(py: Python<'_>, stack: &Bound<'_, PyAny>, what: &str) -> PyResult<String> {
    let lines = stdlib::format_list(py)?.call1((stack,))?;
    let lines: Vec<String> = lines.cast_into::<PyList>()?.extract()?;
    Ok(format!("{what} created at (most recent call last):\n{}", lines.concat().trim_end()))
}

/// The arguments of a hook, kept for restoring it.
pub type Hooks<'py> = Bound<'py, PyTuple>;
