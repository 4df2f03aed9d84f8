//! What this crate takes from the running Python's standard library, imported once.
//!
//! Names come from the version that runs, so exceptions, reprs and formats are exactly asyncio's.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

macro_rules! imported {
    ($($(#[$doc:meta])* $name:ident = $module:literal . $attribute:literal;)+) => { $(
        $(#[$doc])*
        pub fn $name(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
            static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            CELL.get_or_try_init(py, || {
                Ok::<_, PyErr>(py.import($module)?.getattr($attribute)?.unbind())
            })
            .map(|object| object.bind(py))
        }
    )+ };
}

imported! {
    cancelled_error = "asyncio.exceptions"."CancelledError";
    invalid_state_error = "asyncio.exceptions"."InvalidStateError";
    incomplete_read_error = "asyncio.exceptions"."IncompleteReadError";
    limit_overrun_error = "asyncio.exceptions"."LimitOverrunError";
    asyncio_stream_reader = "asyncio.streams"."StreamReader";
    asyncio_future = "asyncio"."Future";
    asyncio_task = "asyncio"."Task";
    asyncio_handle = "asyncio.events"."Handle";
    /// 3.14 and later.
    asyncio_threadsafe_handle = "asyncio.events"."_ThreadSafeHandle";
    asyncio_timer_handle = "asyncio.events"."TimerHandle";
    asyncio_datagram_transport = "asyncio.transports"."DatagramTransport";
    asyncio_transport = "asyncio.transports"."Transport";
    asyncio_read_transport = "asyncio.transports"."ReadTransport";
    buffered_protocol = "asyncio.protocols"."BufferedProtocol";
    is_coroutine = "asyncio.coroutines"."iscoroutine";
    is_future = "asyncio.futures"."isfuture";
    future_repr = "asyncio.base_futures"."_future_repr";
    task_repr = "asyncio.base_tasks"."_task_repr";
    task_get_stack = "asyncio.base_tasks"."_task_get_stack";
    task_print_stack = "asyncio.base_tasks"."_task_print_stack";
    extract_stack = "asyncio.format_helpers"."extract_stack";
    format_callback_source = "asyncio.format_helpers"."_format_callback_source";
    get_event_loop = "asyncio.events"."get_event_loop";
    get_running_loop = "asyncio.events"."get_running_loop";
    run_until_complete_cb = "asyncio.base_events"."_run_until_complete_cb";
    ensure_future = "asyncio.tasks"."ensure_future";
    release_waiter = "asyncio.tasks"."_release_waiter";
    gathering_future = "asyncio.tasks"."_GatheringFuture";
    asyncio_timeout = "asyncio.timeouts"."Timeout";
    asyncio_task_group = "asyncio.taskgroups"."TaskGroup";
    current_task = "asyncio.tasks"."current_task";
    asyncio_lock = "asyncio.locks"."Lock";
    asyncio_event = "asyncio.locks"."Event";
    asyncio_condition = "asyncio.locks"."Condition";
    asyncio_semaphore = "asyncio.locks"."Semaphore";
    asyncio_bounded_semaphore = "asyncio.locks"."BoundedSemaphore";
    asyncio_barrier = "asyncio.locks"."Barrier";
    asyncio_queue = "asyncio.queues"."Queue";
    asyncio_lifo_queue = "asyncio.queues"."LifoQueue";
    asyncio_priority_queue = "asyncio.queues"."PriorityQueue";
    format_list = "traceback"."format_list";
    round = "builtins"."round";
    exception_group = "builtins"."ExceptionGroup";
    base_exception_group = "builtins"."BaseExceptionGroup";
    concurrent_future = "concurrent.futures"."Future";
    concurrent_cancelled_error = "concurrent.futures"."CancelledError";
    concurrent_invalid_state_error = "concurrent.futures"."InvalidStateError";
    partial = "functools"."partial";
    /// 3.14 and later.
    foreign_add_to_awaited_by = "_asyncio"."future_add_to_awaited_by";
    /// 3.14 and later.
    foreign_discard_from_awaited_by = "_asyncio"."future_discard_from_awaited_by";
    register_task = "asyncio.tasks"."_register_task";
    enter_task = "asyncio.tasks"."_enter_task";
    leave_task = "asyncio.tasks"."_leave_task";
    logger = "asyncio.log"."logger";
    transport_socket = "asyncio.trsock"."TransportSocket";
    asyncio_ssl_transport = "asyncio.sslproto"."_SSLProtocolTransport";
    memory_bio = "ssl"."MemoryBIO";
    ssl_object = "ssl"."SSLObject";
    ssl_error = "ssl"."SSLError";
    ssl_want_read = "ssl"."SSLWantReadError";
    ssl_syscall_error = "ssl"."SSLSyscallError";
    certificate_error = "ssl"."CertificateError";
    socket_class = "socket"."socket";
    generic_alias = "types"."GenericAlias";
    thread_pool_executor = "concurrent.futures"."ThreadPoolExecutor";
    weak_set = "weakref"."WeakSet";
    get_frame = "sys"."_getframe";
    get_asyncgen_hooks = "sys"."get_asyncgen_hooks";
    set_asyncgen_hooks = "sys"."set_asyncgen_hooks";
    get_origin_tracking_depth = "sys"."get_coroutine_origin_tracking_depth";
    set_origin_tracking_depth = "sys"."set_coroutine_origin_tracking_depth";
    set_wakeup_fd = "signal"."set_wakeup_fd";
    set_signal = "signal"."signal";
    sigint = "signal"."SIGINT";
    sig_dfl = "signal"."SIG_DFL";
    default_int_handler = "signal"."default_int_handler";
    deque = "collections"."deque";
    heappush = "heapq"."heappush";
    heappop = "heapq"."heappop";
    get_running_loop_or_none = "asyncio.events"."_get_running_loop";
    broken_barrier_error = "asyncio.exceptions"."BrokenBarrierError";
    barrier_state = "asyncio.locks"."_BarrierState";
    queue_full = "asyncio.queues"."QueueFull";
    queue_empty = "asyncio.queues"."QueueEmpty";
    warn = "warnings"."warn";
    main_thread = "threading"."main_thread";
}

/// Takes what destructors, reports and coroutines closed at exit need: by then nothing can be
/// imported.
pub fn prepare(py: Python<'_>) -> PyResult<()> {
    for name in [
        cancelled_error,
        invalid_state_error,
        is_coroutine,
        is_future,
        future_repr,
        task_repr,
        extract_stack,
        format_callback_source,
        get_running_loop,
        get_running_loop_or_none,
        current_task,
        logger,
        queue_full,
        queue_empty,
        queue_shut_down,
        broken_barrier_error,
        warn,
        format_list,
        round,
        // What objects say their class is, which reprs ask for.
        asyncio_future,
        asyncio_task,
        asyncio_task_group,
        asyncio_timeout,
        gathering_future,
        asyncio_lock,
        asyncio_event,
        asyncio_condition,
        asyncio_semaphore,
        asyncio_bounded_semaphore,
        asyncio_barrier,
        asyncio_queue,
        asyncio_lifo_queue,
        asyncio_priority_queue,
    ] {
        name(py)?;
    }
    Ok(())
}

/// `asyncio.QueueShutDown`; one of our own where asyncio has none yet (before 3.13).
pub fn queue_shut_down(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CELL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CELL.get_or_try_init(py, || {
        if let Some(class) = py.import("asyncio.queues")?.getattr_opt("QueueShutDown")? {
            return Ok(class.unbind());
        }
        let base = py.get_type::<pyo3::exceptions::PyException>();
        let doc = c"Raised when putting on to or getting from a shut-down Queue.";
        PyErr::new_type(py, c"oxloop.QueueShutDown", Some(doc), Some(&base), None)
            .map(|class| class.into_any())
    })
    .map(|object| object.bind(py))
}

/// `asyncio.tasks._log_on_exception`: what reports an exception of a future that no shield follows
/// any more; None where they are not reported (before 3.14).
pub fn log_on_exception(py: Python<'_>) -> PyResult<Option<&Bound<'_, PyAny>>> {
    static CELL: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();
    let found = CELL.get_or_try_init(py, || {
        let found = py.import("asyncio.tasks")?.getattr_opt("_log_on_exception")?;
        Ok::<_, PyErr>(found.map(Bound::unbind))
    })?;
    Ok(found.as_ref().map(|function| function.bind(py)))
}

/// `(major, minor)` of the running Python.
#[inline]
pub fn version(py: Python<'_>) -> (u8, u8) {
    static VERSION: std::sync::OnceLock<(u8, u8)> = std::sync::OnceLock::new();
    *VERSION.get_or_init(|| {
        let version = py.version_info();
        (version.major, version.minor)
    })
}

/// At least Python `3.minor`.
pub fn at_least(py: Python<'_>, minor: u8) -> bool {
    version(py) >= (3, minor)
}

/// `logger.level(text, *args)` of the asyncio logger.
pub fn log<'py>(
    py: Python<'py>,
    level: &str,
    text: &str,
    exc_info: Option<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let kwargs = pyo3::types::PyDict::new(py);
    if let Some(exc_info) = exc_info {
        kwargs.set_item("exc_info", exc_info)?;
    }
    // Without arguments logging does not format, so a % in the text is one.
    logger(py)?.call_method(PyString::new(py, level), (text,), Some(&kwargs))?;
    Ok(())
}

/// An `InvalidStateError` with `text`.
pub fn invalid_state(py: Python<'_>, text: &str) -> PyErr {
    match invalid_state_error(py).and_then(|class| class.call1((text,))) {
        Ok(instance) => crate::ffi::error::raised(&instance),
        Err(err) => err,
    }
}

/// The source traceback of the caller, for debug mode (`extract_stack(sys._getframe(0))`).
///
/// A native function has no frame of its own, so the innermost frame is the user's.
pub fn capture_source(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let frame = match get_frame(py)?.call1((0,)) {
        Ok(frame) => frame,
        // No Python frame at all: called from an embedding program.
        Err(err) if err.is_instance_of::<pyo3::exceptions::PyValueError>(py) => return Ok(None),
        Err(err) => return Err(err),
    };
    Ok(Some(extract_stack(py)?.call1((frame,))?))
}
