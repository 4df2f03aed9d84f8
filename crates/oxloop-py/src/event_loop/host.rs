//! What the core asks of its host: run this job, this timer; here is a completion; wait now.
//!
//! The one dispatch of the whole loop. A task's step is called straight from here; the only other
//! thing between the ready queue and the coroutine is its context. An error of a job is reported to
//! the exception handler and the loop goes on; SystemExit and KeyboardInterrupt leave the loop, and
//! what was queued stays queued.

use std::io;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use oxloop_core::{Completion, Deadline, Driver as _, Host};
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::{Chunk, Driver, EventLoop, Job, Source, as_handle};
use crate::combinators::{Listener, Timeout};
use crate::coroutine::plain_future;
use crate::ffi::error;
use crate::ffi::object::attached;
use crate::ffi::{Entered, Ref, call};
use crate::future::{Future, none};
use crate::handle::{Handle, is_fatal};
use crate::stdlib;
use crate::task::{Next, Task};

/// The loop while `run_forever` runs it; made there only, on its own thread.
pub struct RunningLoop {
    home: Ref,
}

impl RunningLoop {
    pub(super) fn new(home: &Bound<'_, EventLoop>) -> Self {
        Self { home: Ref::from_borrowed(home) }
    }

    #[inline]
    fn event_loop<'a, 'py>(&'a self, py: Python<'py>) -> &'a Bound<'py, EventLoop> {
        self.home.bind_as::<EventLoop>(py)
    }

    #[inline]
    fn settle(
        &self,
        py: Python<'_>,
        job: &JobName<'_>,
        outcome: PyResult<()>,
    ) -> ControlFlow<PyErr> {
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(err) => self.settle_error(py, job, err),
        }
    }

    #[cold]
    fn settle_error(&self, py: Python<'_>, job: &JobName<'_>, err: PyErr) -> ControlFlow<PyErr> {
        if is_fatal(py, &err) {
            return ControlFlow::Break(err);
        }
        let report = || -> PyResult<()> {
            let report = PyDict::new(py);
            report.set_item("message", format!("Exception in callback {}", job.describe(py)))?;
            let exception = error::instance(py, err).into_any();
            report.set_item("exception", &exception)?;
            let home = self.home.bind(py);
            error::while_handling(&exception, || {
                home.call_method1(intern!(py, "call_exception_handler"), (report,)).map(drop)
            })
        };
        match report() {
            Ok(()) => ControlFlow::Continue(()),
            Err(err) => ControlFlow::Break(err),
        }
    }

    /// Runs one step of a task and does what follows: a task that gave way is queued as it is.
    #[inline]
    fn run_step(
        &self,
        task: Ref,
        step: impl FnOnce(&Bound<'_, Task>) -> PyResult<Next>,
    ) -> ControlFlow<PyErr> {
        let py = attached(self);
        let name = JobName::Task(&task);
        match self.timed(py, &name, || step(task.bind_as::<Task>(py))) {
            Ok(Next::Settled) => ControlFlow::Continue(()),
            Ok(Next::Again) => {
                self.event_loop(py).get().push(Job::Step(task));
                ControlFlow::Continue(())
            }
            Err(err) => self.settle_error(py, &name, err),
        }
    }

    /// Runs `body`; in debug mode says so if it was slow.
    #[inline]
    fn timed<R>(
        &self,
        py: Python<'_>,
        name: &JobName<'_>,
        body: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let contents = self.event_loop(py).get();
        if !contents.debug() {
            return body();
        }
        let started = Instant::now();
        let source = match name {
            JobName::Handle(handle) => as_handle(py, handle).source_traceback(),
            JobName::Task(_) | JobName::Io(_) => None,
        };
        // A handle may run the loop again, and another one within itself.
        let outer = contents.running_source.replace(source);
        let outcome = body();
        drop(contents.running_source.replace(outer));
        let took_s = started.elapsed().as_secs_f64();
        if took_s >= contents.slow_callback_duration_s.get() {
            // asyncio's template: log handlers group by it. A report that fails must not hide the
            // outcome.
            let arguments = ("Executing %s took %.3f seconds", name.describe(py), took_s);
            let logged = stdlib::logger(py)
                .and_then(|logger| logger.call_method1(intern!(py, "warning"), arguments));
            if let Err(err) = logged {
                err.write_unraisable(py, None);
            }
        }
        outcome
    }
}

/// A job as reports name it.
enum JobName<'a> {
    Task(&'a Ref),
    Handle(&'a Ref),
    Io(&'a Ref),
}

impl JobName<'_> {
    #[cold]
    fn describe(&self, py: Python<'_>) -> String {
        let described = match self {
            Self::Task(object) | Self::Io(object) => object.bind(py).repr().map(|s| s.to_string()),
            Self::Handle(handle) => describe_handle(py, handle),
        };
        described.unwrap_or_else(|err| {
            err.write_unraisable(py, None);
            "<callback>".to_owned()
        })
    }
}

/// A handle that steps a task is named after the task, as `asyncio.base_events._format_handle`.
fn describe_handle(py: Python<'_>, handle: &Ref) -> PyResult<String> {
    let callback = handle.bind(py).getattr(intern!(py, "_callback"))?;
    if let Some(owner) = callback.getattr_opt(intern!(py, "__self__"))? {
        if owner.is_instance(stdlib::asyncio_task(py)?)? {
            return Ok(owner.repr()?.to_string());
        }
    }
    Ok(handle.bind(py).str()?.to_string())
}

impl Host for RunningLoop {
    type Job = Job;
    type Timer = Ref;
    type Source = Source;
    type Injected = Py<PyAny>;
    type Chunk = Chunk;
    type Driver = Driver;
    type Break = PyErr;

    #[inline]
    fn run_job(&self, job: Job) -> ControlFlow<PyErr> {
        let py = attached(self);
        match job {
            Job::Step(task) => self.run_step(task, |task| Task::step_plain(task, &self.home, None)),
            Job::Wakeup(task, future) => self.run_step(task, |task| {
                let stepped = Task::wake_plain(task, &self.home, future.bind(py));
                drop(future);
                stepped
            }),
            Job::StepThrow(parts) => {
                let (task, error) = *parts;
                self.run_step(task, |task| Task::step_plain(task, &self.home, Some(error)))
            }
            Job::Handle(handle) => {
                self.idle();
                let name = JobName::Handle(&handle);
                let outcome =
                    self.timed(py, &name, || Handle::run(handle.bind(py), as_handle(py, &handle)));
                self.settle(py, &name, outcome)
            }
            Job::Tell(listener, future) => {
                // No Python code but in rare cases, which withdraw the current task themselves.
                let outcome = Listener::tell(&listener, future.bind(py));
                drop(future);
                self.settle(py, &JobName::Io(&listener), outcome)
            }
            Job::Callback(parts) => {
                self.idle();
                let (function, future, context) = *parts;
                let outcome = run_in(py, &context, || {
                    call::call_one(function.bind(py), future.bind(py)).map(drop)
                });
                let reported = outcome.or_else(|err| {
                    Handle::report_callback(self.event_loop(py), (function, future, context), err)
                });
                match reported {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(err) => ControlFlow::Break(err),
                }
            }
            Job::Method(object, method) => {
                self.idle();
                let name = JobName::Io(&object);
                let outcome = self.timed(py, &name, || method(object.bind(py)));
                self.settle(py, &name, outcome)
            }
        }
    }

    fn run_timer(&self, timer: Ref) -> ControlFlow<PyErr> {
        let py = attached(self);
        if let Some(future) = plain_future(timer.bind(py)) {
            // A task sleeps.
            if future.get().is_done() {
                return ControlFlow::Continue(());
            }
            let resolved = Future::resolve(future, none(py));
            return self.settle(py, &JobName::Io(&timer), resolved);
        }
        if let Ok(timeout) = timer.bind(py).cast::<Timeout>() {
            self.idle();
            let fired = Timeout::fire(timeout);
            return self.settle(py, &JobName::Io(&timer), fired);
        }
        as_handle(py, &timer).timer_fired();
        self.run_job(Job::Handle(timer))
    }

    fn completed(&self, source: Source, completion: Completion<Chunk>) -> ControlFlow<PyErr> {
        let py = attached(self);
        self.idle();
        let name = JobName::Io(&source.object);
        let outcome = self
            .timed(py, &name, || (source.completed)(source.object.bind(py), completion.outcome));
        self.settle(py, &name, outcome)
    }

    fn injected(&self, item: Py<PyAny>) -> Job {
        Job::Handle(Ref::new(item.into_bound(attached(self))))
    }

    fn now(&self) -> Deadline {
        let py = attached(self);
        let home = self.event_loop(py);
        if !home.get().own_clock.get() {
            return home.get().kernel_now();
        }
        // The user's clock drives the timers.
        let now = home
            .call_method0(intern!(py, "time"))
            .and_then(|now| now.extract::<f64>().map_err(|_| not_a_number()));
        match now {
            Ok(now) => Deadline::from_secs(now),
            Err(err) => {
                err.write_unraisable(py, Some(home.as_any()));
                home.get().kernel_now()
            }
        }
    }

    #[inline]
    fn ticks(&self) -> u64 {
        // On a simulated kernel nothing may depend on how fast the machine is.
        match self.event_loop(attached(self)).get().simulated() {
            None => oxloop_core::sys::time::ticks(),
            Some(kernel) => kernel.now_ns() as u64,
        }
    }

    fn block(
        &self,
        wait: &mut <Driver as oxloop_core::Driver<Chunk>>::Wait,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if timeout == Some(Duration::ZERO) {
            // Not worth giving the GIL up for.
            return Driver::block(wait, timeout);
        }
        attached(self).detach(|| Driver::block(wait, timeout))
    }

    fn after_wait(&self, _interrupted: bool) -> ControlFlow<PyErr> {
        let py = attached(self);
        match call::check_signals(py) {
            Ok(()) => ControlFlow::Continue(()),
            Err(err) => ControlFlow::Break(err),
        }
    }

    #[inline]
    fn idle(&self) {
        let py = attached(self);
        let home = self.event_loop(py);
        if let Err(err) = home.get().current.withdraw(home.as_any()) {
            err.write_unraisable(py, Some(home.as_any()));
        }
    }
}

fn not_a_number() -> PyErr {
    PyTypeError::new_err("loop.time() must return a number of seconds")
}

/// Runs `body` inside `context`.
#[inline]
pub fn run_in(py: Python<'_>, context: &Ref, body: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    let entered = Entered::enter(context.bind(py))?;
    let outcome = body();
    entered.exit().and(outcome)
}
