//! The `EventLoop` class, cut along the chapters of asyncio's documentation.
//!
//! | file            | chapter                                                     |
//! |-----------------|-------------------------------------------------------------|
//! | `run.rs`        | running and stopping, closing                               |
//! | `host.rs`       | what the core calls: jobs, timers, completions, the wait     |
//! | `scheduling.rs` | `call_soon`, `call_later`, `call_at`, `call_soon_threadsafe`|
//! | `tasks.rs`      | `create_task`, `create_future`, task factory                |
//! | `errors.rs`     | exception handler                                           |
//! | `executors.rs`  | executors, name resolution                                  |
//! | `asyncgens.rs`  | asynchronous generators                                     |
//! | `signals.rs`    | signals                                                     |
//! | `sockets/`      | `sock_recv`, `sock_connect` and their sisters               |
//! | `pipes.rs`      | the transports of pipes                                     |
//! | `watchers.rs`   | `add_reader`, `add_writer`                                  |
//! | `state.rs`      | debug mode, clock, private attributes that others read      |
//!
//! Facts: Python code called by the loop calls back into it, so every field is a cell that is
//! never borrowed while Python runs; the loop belongs to one thread at a time, other threads come
//! in by `call_soon_threadsafe` only.

mod asyncgens;
mod errors;
mod executors;
mod host;
mod pipes;
mod run;
pub mod scheduling;
mod signals;
pub mod sockets;
mod state;
pub mod tasks;
pub mod watchers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use oxloop_core::limits::READ_BUFFER_BYTES;
use oxloop_core::{AnyKernel, Deadline, EpollDriver, Outcome, SimKernel, Slab, Token};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::current::CurrentTask;
use crate::ffi::error;
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot, call};
use crate::handle::Handle;
use crate::simulation::Simulation;
use crate::transport::TlsBuffer;
pub use host::RunningLoop;

/// What the ready queue holds.
pub enum Job {
    /// The first step of a task, or the one after a bare `yield`.
    Step(Ref),
    /// A step that throws.
    StepThrow(Box<(Ref, Ref)>),
    /// A native task and the native future that it awaited, now done.
    Wakeup(Ref, Ref),
    /// A native object that follows a future, and the future, now done.
    Tell(Ref, Ref),
    /// A done callback: function, future, context.
    Callback(Box<(Ref, Ref, Ref)>),
    /// A handle made by `call_soon`.
    Handle(Ref),
    /// A method of a native object (a transport, a server), run in no context of its own.
    Method(Ref, fn(&Bound<'_, PyAny>) -> PyResult<()>),
}

/// A source of I/O events: the object that owns the descriptor, and what to do with an outcome.
#[derive(Clone)]
pub struct Source {
    pub object: Ref,
    pub completed: fn(&Bound<'_, PyAny>, Outcome<Chunk>) -> PyResult<()>,
}

/// Bytes on their way out, owned until the kernel has them.
pub enum Chunk {
    /// An exact `bytes` object, from an offset on; immutable, so kept by reference.
    Shared { object: Ref, start: usize },
    /// A copy of what the caller may change.
    Owned(Box<[u8]>),
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Shared { object, start } => {
                let bytes = call::bytes_of(object);
                &bytes[(*start).min(bytes.len())..]
            }
            Self::Owned(bytes) => bytes,
        }
    }
}

pub type Core = oxloop_core::EventLoop<RunningLoop>;
pub type Driver = EpollDriver<Chunk, AnyKernel>;

/// Counts the forks of this process: a loop made before a fork is not the child's.
pub static FORKS: AtomicU32 = AtomicU32::new(0);

/// The event loop. `oxloop.EventLoop` adds `asyncio.AbstractEventLoop` to its bases.
#[pyclass(frozen, subclass, module = "oxloop._oxloop", name = "EventLoop")]
pub struct EventLoop {
    core: Core,
    kernel: AnyKernel,
    forks: u32,
    closed: Cell<bool>,
    stopping: Cell<bool>,
    debug: Cell<bool>,
    /// `call_soon` was replaced, in a subclass or on the instance: futures must call it.
    overridden: Cell<bool>,
    /// The class or the user has replaced `create_future`.
    own_futures: Cell<bool>,
    /// Likewise `create_task`.
    own_tasks: Cell<bool>,
    /// Likewise `call_later` or `call_at`.
    own_timers: Cell<bool>,
    /// `time` was replaced likewise: timers follow it.
    own_clock: Cell<bool>,
    /// The thread in `run_forever` (`threading.get_ident()`).
    thread: Cell<Option<u64>>,
    /// Calls of `call_soon_threadsafe` that found the ready queue crowded.
    crowded_calls: Cell<u32>,
    slow_callback_duration_s: Cell<f64>,
    exception_handler: Slot,
    task_factory: Slot,
    default_executor: Slot,
    resolver: Slot,
    executor_shut_down: Cell<bool>,
    asyncgens: Slot,
    asyncgens_shut_down: Cell<bool>,
    signals: signals::Signals,
    descriptors: RefCell<HashMap<RawFd, Token>>,
    /// Lent to the TLS connections, one at a time.
    pub tls_buffer: TlsBuffer,
    tasks: RefCell<Slab<Ref>>,
    current: CurrentTask,
    /// Where the handle that runs was made, for reports; in debug mode only.
    running_source: Slot,
    origin_depth: Cell<Option<i32>>,
}

attached_only!(EventLoop);

impl EventLoop {
    pub fn core(&self) -> &Core {
        &self.core
    }

    pub fn current(&self) -> &CurrentTask {
        &self.current
    }

    /// Puts a job at the end of the ready queue.
    #[inline]
    pub fn push(&self, job: Job) {
        self.core.push(job);
    }

    #[inline]
    pub fn debug(&self) -> bool {
        self.debug.get()
    }

    /// The simulated kernel that the loop runs on, if it is one.
    pub fn simulated(&self) -> Option<&SimKernel> {
        self.kernel.simulated()
    }

    /// The time of the loop's kernel.
    #[inline]
    pub fn kernel_now(&self) -> Deadline {
        match &self.kernel {
            AnyKernel::Linux => oxloop_core::clock::monotonic(),
            AnyKernel::Simulated(kernel) => Deadline(kernel.now_ns()),
        }
    }

    pub fn is_closed_now(&self) -> bool {
        self.closed.get()
    }

    /// Nobody stands between a future and the ready queue.
    #[inline]
    pub fn is_plain(&self) -> bool {
        !self.overridden.get()
    }

    /// Whether `call_later` and `call_at` are native and nobody wants to see the handles.
    #[inline]
    pub fn makes_plain_timers(&self) -> bool {
        !self.own_timers.get() && !self.debug.get()
    }

    /// Whether `create_task` makes a native task.
    #[inline]
    pub fn makes_plain_tasks(&self) -> bool {
        !self.own_tasks.get() && !self.task_factory.is_some() && self.is_plain()
    }

    /// Whether `create_future` is native and nobody wants to know who called it.
    #[inline]
    pub fn makes_plain_futures(&self) -> bool {
        !self.own_futures.get() && !self.debug.get()
    }

    /// RuntimeError if the loop is closed or belongs to the parent process.
    #[inline]
    pub fn check_open(&self) -> PyResult<()> {
        if self.closed.get() {
            return Err(PyRuntimeError::new_err("Event loop is closed"));
        }
        self.check_process()
    }

    #[inline]
    pub fn check_process(&self) -> PyResult<()> {
        if self.forks != FORKS.load(Ordering::Relaxed) {
            return Err(PyRuntimeError::new_err(
                "this event loop was made before a fork and belongs to the parent process; \
                 make a new one in the child",
            ));
        }
        Ok(())
    }

    /// In the child of a fork the kernel objects are shared with the parent: hands off.
    pub fn is_foreign_process(&self) -> bool {
        self.forks != FORKS.load(Ordering::Relaxed)
    }

    /// Whether this thread runs the loop.
    #[inline]
    pub fn runs_here(&self) -> bool {
        self.thread.get().is_some_and(|thread| thread == crate::ffi::call::thread_ident())
    }

    /// RuntimeError in debug mode when called from a thread that does not run the loop.
    #[inline]
    pub fn check_thread(&self, py: Python<'_>) -> PyResult<()> {
        if !self.debug.get() {
            return Ok(());
        }
        match self.thread.get() {
            Some(thread) if thread != thread_ident(py)? => Err(PyRuntimeError::new_err(
                "Non-thread-safe operation invoked on an event loop other than the current one",
            )),
            _ => Ok(()),
        }
    }

    /// What `call_soon` refuses: a closed loop and, in debug mode, another thread.
    #[inline]
    pub fn check_may_schedule(&self, py: Python<'_>) -> PyResult<()> {
        self.check_open()?;
        self.check_thread(py)
    }

    /// Holds a pending task until it is done.
    #[inline]
    pub fn register(&self, task: Ref) -> Token {
        self.tasks.borrow_mut().insert(task)
    }

    #[inline]
    pub fn unregister(&self, token: Token) -> Option<Ref> {
        self.tasks.borrow_mut().remove(token)
    }

    /// The pending tasks.
    pub fn pending_tasks(&self) -> Vec<Ref> {
        self.tasks.borrow().iter().map(|(_, task)| task.clone()).collect()
    }

    /// Runs an I/O callback of a native object; its failure is the object's own report.
    pub fn report_failure(
        slf: &Bound<'_, PyAny>,
        message: &str,
        err: PyErr,
        key: &str,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let report = PyDict::new(py);
        report.set_item("message", message)?;
        let exception = error::instance(py, err).into_any();
        report.set_item("exception", &exception)?;
        report.set_item(key, object)?;
        error::while_handling(&exception, || {
            slf.call_method1("call_exception_handler", (report,)).map(drop)
        })
    }
}

/// `threading.get_ident()`.
pub fn thread_ident(py: Python<'_>) -> PyResult<u64> {
    static GET_IDENT: pyo3::sync::PyOnceLock<Py<PyAny>> = pyo3::sync::PyOnceLock::new();
    GET_IDENT
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("_thread")?.getattr("get_ident")?.unbind())
        })?
        .bind(py)
        .call0()?
        .extract()
}

/// A kernel error on behalf of the loop.
pub fn os_error(what: &str, err: std::io::Error) -> PyErr {
    match err.raw_os_error() {
        Some(code) => PyOSError::new_err((code, format!("{what}: {err}"))),
        None => PyOSError::new_err(format!("{what}: {err}")),
    }
}

#[pymethods]
impl EventLoop {
    #[new]
    #[pyo3(signature = (*_args, **kwargs), text_signature = "()")]
    fn new(_args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let kernel =
            match kwargs.map(|kwargs| kwargs.get_item("_simulation")).transpose()?.flatten() {
                Some(given) => {
                    AnyKernel::Simulated(given.cast::<Simulation>()?.get().kernel().clone())
                }
                None => AnyKernel::Linux,
            };
        crate::allocator::settle();
        let driver = Driver::over(kernel.clone(), READ_BUFFER_BYTES)
            .map_err(|err| os_error("cannot open epoll", err))?;
        Ok(Self {
            core: Core::new(driver),
            kernel,
            forks: FORKS.load(Ordering::Relaxed),
            closed: Cell::new(false),
            stopping: Cell::new(false),
            debug: Cell::new(false),
            overridden: Cell::new(false),
            own_futures: Cell::new(false),
            own_tasks: Cell::new(false),
            own_timers: Cell::new(false),
            own_clock: Cell::new(false),
            thread: Cell::new(None),
            crowded_calls: Cell::new(0),
            slow_callback_duration_s: Cell::new(0.1),
            exception_handler: Slot::empty(),
            task_factory: Slot::empty(),
            default_executor: Slot::empty(),
            resolver: Slot::empty(),
            executor_shut_down: Cell::new(false),
            asyncgens: Slot::empty(),
            asyncgens_shut_down: Cell::new(false),
            signals: signals::Signals::default(),
            descriptors: RefCell::new(HashMap::new()),
            tls_buffer: TlsBuffer::default(),
            tasks: RefCell::new(Slab::new()),
            current: CurrentTask::default(),
            running_source: Slot::empty(),
            origin_depth: Cell::new(None),
        })
    }

    fn __init__(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::prepare(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for slot in [
            &self.exception_handler,
            &self.task_factory,
            &self.default_executor,
            &self.resolver,
            &self.asyncgens,
            &self.running_source,
            self.current.slot(),
        ] {
            slot.traverse(&visit)?;
        }
        self.signals.traverse(&visit)?;
        if let Ok(tasks) = self.tasks.try_borrow() {
            tasks.iter().try_for_each(|(_, task)| task.traverse(&visit))?;
        }
        if let Ok(sources) = self.core.sources.try_borrow() {
            sources.iter().try_for_each(|(_, source)| source.object.traverse(&visit))?;
        }
        if let Ok(timers) = self.core.timers.try_borrow() {
            timers.iter().try_for_each(|(_, timer)| timer.traverse(&visit))?;
        }
        self.core.for_each_due(|timer| timer.traverse(&visit))?;
        if let Ok(ready) = self.core.ready.try_borrow() {
            ready.iter().try_for_each(|job| traverse_job(job, &visit))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let parts = (
            self.exception_handler.take(),
            self.task_factory.take(),
            self.default_executor.take(),
            self.resolver.take(),
            self.asyncgens.take(),
            (self.running_source.take(), self.current.slot().take()),
            self.signals.take_handlers(),
            self.tasks.borrow_mut().take_all(),
            self.core.timers.borrow_mut().take_all(),
            self.core.take_due(),
            self.core.ready.borrow_mut().take_all(),
        );
        drop(parts);
        let sources: Vec<Token> =
            self.core.sources.borrow().iter().map(|(token, _)| token).collect();
        for token in sources {
            drop(self.core.remove_source(token));
        }
    }
}

fn traverse_job(job: &Job, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    match job {
        Job::Step(task) | Job::Handle(task) | Job::Method(task, _) => task.traverse(visit),
        Job::StepThrow(parts) => {
            parts.0.traverse(visit)?;
            parts.1.traverse(visit)
        }
        Job::Wakeup(task, future) | Job::Tell(task, future) => {
            task.traverse(visit)?;
            future.traverse(visit)
        }
        Job::Callback(parts) => {
            parts.0.traverse(visit)?;
            parts.1.traverse(visit)?;
            parts.2.traverse(visit)
        }
    }
}

/// The signal handlers, by number.
type SignalHandlers = BTreeMap<i32, Ref>;

/// Reads a handle out of a reference that is known to be one.
pub fn as_handle<'a>(py: Python<'a>, handle: &'a Ref) -> &'a Handle {
    let bound: &Bound<'a, Handle> = handle.bind_as::<Handle>(py);
    bound.get()
}
