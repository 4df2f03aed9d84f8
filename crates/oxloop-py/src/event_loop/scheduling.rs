//! Scheduling callbacks: `call_soon`, `call_later`, `call_at`, `call_soon_threadsafe`, `time`.
//!
//! These are the hot methods, written against the C array of arguments. Checks of callbacks are
//! made in debug mode only, and raise at the call, as asyncio's do.

use std::time::Duration;

use oxloop_core::{Deadline, TimerKey};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

use super::{EventLoop, Job, os_error, thread_ident};
use crate::ffi::Ref;
use crate::ffi::fastcall::Args;
use crate::future::Future;
use crate::handle::{Arguments, Handle, TimerHandle, context_or_copy};
use crate::stdlib;

/// Ready jobs from which on other threads that queue more make way for the loop.
const CROWDED_JOBS: usize = 1024;
/// Calls from other threads, while the queue is crowded, per pause of one of them.
const CALLS_PER_PAUSE: u32 = 32;
/// Such a pause; the kernel adds about as much again.
const PAUSE: Duration = Duration::from_micros(50);

/// Below this, a float has every integer.
const FLOAT_INTEGERS_MAX: f64 = 9_007_199_254_740_992.0;

/// Positional arguments with `callback` (and `delay`/`when`) given by position or by name.
struct Call<'a, 'py> {
    first: Option<&'a Bound<'py, PyAny>>,
    callback: &'a Bound<'py, PyAny>,
    rest: usize,
    context: Option<&'a Bound<'py, PyAny>>,
}

/// Sorts the arguments of one of the scheduling methods; `first` names what precedes the callback.
#[inline]
fn sort<'a, 'py>(
    args: &Args<'a, 'py>,
    function: &str,
    first: Option<&str>,
) -> PyResult<Call<'a, 'py>> {
    let leading = usize::from(first.is_some());
    if !args.has_keywords() && args.len() > leading {
        if let Some(callback) = args.get(leading) {
            let first = if leading == 1 { args.get(0) } else { None };
            return Ok(Call { first, callback, rest: leading + 1, context: None });
        }
    }
    let (mut named_first, mut named_callback, mut context) = (None, None, None);
    if args.has_keywords() {
        args.keywords(function, |name, value| {
            match name {
                "context" => context = Some(value),
                "callback" if args.len() <= leading => named_callback = Some(value),
                _ if Some(name) == first && args.len() == 0 => named_first = Some(value),
                _ => return false,
            }
            true
        })?;
    }
    let first_value = if leading == 1 { args.get(0).or(named_first) } else { None };
    let missing = |name: &str| {
        PyTypeError::new_err(format!(
            "{function}() missing 1 required positional argument: '{name}'"
        ))
    };
    if let (Some(name), None) = (first, first_value) {
        return Err(missing(name));
    }
    let callback = args.get(leading).or(named_callback).ok_or_else(|| missing("callback"))?;
    Ok(Call { first: first_value, callback, rest: leading + 1, context })
}

impl EventLoop {
    /// TypeError for what cannot be a callback.
    fn check_callback(py: Python<'_>, callback: &Bound<'_, PyAny>, function: &str) -> PyResult<()> {
        let is_coroutine = stdlib::is_coroutine(py)?.call1((callback,))?.is_truthy()?
            || py
                .import(intern!(py, "inspect"))?
                .call_method1(intern!(py, "iscoroutinefunction"), (callback,))?
                .is_truthy()?;
        if is_coroutine {
            return Err(PyTypeError::new_err(format!(
                "coroutines cannot be used with {function}()"
            )));
        }
        if !callback.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "a callable object was expected by {function}(), got {}",
                callback.repr()?
            )));
        }
        Ok(())
    }

    /// A handle for `callback(*args)`.
    #[inline]
    fn make_handle<'py>(
        slf: &Bound<'py, Self>,
        call: &Call<'_, 'py>,
        args: &Args<'_, 'py>,
    ) -> PyResult<Handle> {
        let py = slf.py();
        Handle::build(
            slf,
            Ref::from_borrowed(call.callback),
            Arguments::collect(py, args.rest(call.rest))?,
            context_or_copy(py, call.context)?,
        )
    }

    /// Schedules a native function of one argument, for the loop's own use.
    pub fn schedule_timer(
        slf: &Bound<'_, Self>,
        delay_s: f64,
        callback: Ref,
        argument: Ref,
    ) -> PyResult<Ref> {
        let py = slf.py();
        let when = Self::now_s(slf)? + delay_s;
        let context = crate::ffi::context::copy_current(py)?;
        let args = Arguments::Inline([Some(argument), None, None]);
        let handle = Handle::build(slf, callback, args, context)?;
        Self::add_timer(slf, when, handle)
    }

    /// A timer that resolves `future` after `delay_s`, unless it is done then.
    pub fn add_wakeup(
        slf: &Bound<'_, Self>,
        delay_s: f64,
        future: &Bound<'_, Future>,
    ) -> PyResult<TimerKey> {
        let when = Self::now_s(slf)? + delay_s;
        Ok(slf.get().core().add_timer(Deadline::from_secs(when), Ref::from_borrowed(future)))
    }

    /// A timer at `when_s` of the loop's clock for an object that `Host::run_timer` knows.
    pub fn add_object<T>(slf: &Bound<'_, Self>, when_s: f64, object: &Bound<'_, T>) -> TimerKey {
        slf.get().core().add_timer(Deadline::from_secs(when_s), Ref::from_borrowed(object))
    }

    /// `loop.time()`, by the user's clock if there is one.
    pub fn now_s(slf: &Bound<'_, Self>) -> PyResult<f64> {
        if slf.get().own_clock.get() {
            return slf.call_method0(intern!(slf.py(), "time"))?.extract();
        }
        Ok(slf.get().kernel_now().as_secs())
    }

    fn add_timer(slf: &Bound<'_, Self>, when: f64, handle: Handle) -> PyResult<Ref> {
        let py = slf.py();
        let timer = handle.into_timer(py)?;
        let object = Ref::from_borrowed(&timer);
        let key = slf.get().core().add_timer(Deadline::from_secs(when), object);
        timer.as_super().get().set_timer(when, key);
        Ok(Ref::new(timer))
    }
}

/// `call_soon(callback, *args, context=None)`
pub fn call_soon<'py>(slf: &Bound<'py, EventLoop>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    let call = sort(&args, "call_soon", None)?;
    if this.debug() {
        this.check_thread(py)?;
        EventLoop::check_callback(py, call.callback, "call_soon")?;
    }
    let handle = EventLoop::make_handle(slf, &call, &args)?.into_object(py)?;
    this.push(Job::Handle(handle.clone()));
    Ok(handle)
}

/// `call_soon_threadsafe(callback, *args, context=None)`
pub fn call_soon_threadsafe<'py>(
    slf: &Bound<'py, EventLoop>,
    args: Args<'_, 'py>,
) -> PyResult<Ref> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    let call = sort(&args, "call_soon_threadsafe", None)?;
    if this.debug() {
        EventLoop::check_callback(py, call.callback, "call_soon_threadsafe")?;
    }
    let handle = EventLoop::make_handle(slf, &call, &args)?;
    if stdlib::at_least(py, 14) {
        handle.share();
    }
    let handle = handle.into_object(py)?;
    // The caller holds the GIL, so the queue is nobody else's now, and the order with `call_soon` is
    // kept. The wake-up is written only if the loop sleeps; a signal handler's is never lost.
    this.push(Job::Handle(handle.clone()));
    this.core().injector.wake().map_err(|err| os_error("cannot wake the event loop", err))?;
    if this.core().ready.borrow().len() >= CROWDED_JOBS {
        make_way(this, py)?;
    }
    Ok(handle)
}

/// Threads that queue callbacks without end must not keep the loop from running them. asyncio makes
/// a system call without the GIL for each callback; here that is seldom needed, so a thread that
/// finds the queue crowded pauses now and then, for no more in all than those calls would take.
#[cold]
fn make_way(this: &EventLoop, py: Python<'_>) -> PyResult<()> {
    let calls = this.crowded_calls.get().wrapping_add(1);
    this.crowded_calls.set(calls);
    if calls % CALLS_PER_PAUSE != 0 {
        return Ok(());
    }
    if this.thread.get() != Some(thread_ident(py)?) {
        py.detach(|| std::thread::sleep(PAUSE));
    }
    Ok(())
}

/// `call_later(delay, callback, *args, context=None)`
pub fn call_later<'py>(slf: &Bound<'py, EventLoop>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let call = sort(&args, "call_later", Some("delay"))?;
    let Some(delay) = call.first.filter(|delay| !delay.is_none()) else {
        return Err(PyTypeError::new_err("delay must not be None"));
    };
    let delay_s = seconds(delay)?;
    let when = EventLoop::now_s(slf)? + delay_s;
    // asyncio checks the callback in call_at, and says so.
    at(slf, &call, &args, when)
}

/// `call_at(when, callback, *args, context=None)`
pub fn call_at<'py>(slf: &Bound<'py, EventLoop>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let call = sort(&args, "call_at", Some("when"))?;
    let Some(when) = call.first.filter(|when| !when.is_none()) else {
        return Err(PyTypeError::new_err("when cannot be None"));
    };
    let deadline_s = seconds(when)?;
    let timer = at(slf, &call, &args, deadline_s)?;
    // Programs round deadlines up to whole seconds, and get back what they gave.
    if when.is_exact_instance_of::<PyInt>() && deadline_s.abs() < FLOAT_INTEGERS_MAX {
        if let Ok(timer) = timer.bind(slf.py()).cast::<TimerHandle>() {
            timer.as_super().get().show_deadline_as_int();
        }
    }
    Ok(timer)
}

fn at<'py>(
    slf: &Bound<'py, EventLoop>,
    call: &Call<'_, 'py>,
    args: &Args<'_, 'py>,
    when: f64,
) -> PyResult<Ref> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    if this.debug() {
        this.check_thread(py)?;
        EventLoop::check_callback(py, call.callback, "call_at")?;
    }
    EventLoop::add_timer(slf, when, EventLoop::make_handle(slf, call, args)?)
}

/// A number of seconds; anything that converts to float, as `time() + delay` would take.
#[inline]
fn seconds(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if let Ok(float) = value.cast_exact::<PyFloat>() {
        return Ok(float.value());
    }
    if value.is_exact_instance_of::<PyInt>() {
        // Asking an int for its float would make a float object first.
        if let Ok(whole) = value.extract::<i32>() {
            return Ok(f64::from(whole));
        }
    }
    value.extract()
}

/// `time()`
pub fn time<'py>(slf: &Bound<'py, EventLoop>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("time")?;
    let now = slf.get().kernel_now().as_secs();
    Ok(Ref::new(PyFloat::new(slf.py(), now)))
}
