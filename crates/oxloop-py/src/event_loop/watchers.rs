//! `add_reader`, `add_writer`: callbacks on the readiness of a descriptor.
//!
//! Facts: the registration belongs to a number that the user may close and the kernel may reuse at
//! any time. Decision: per number there is one [`Descriptor`], known to the driver under a token; an
//! event of a token that is gone is dropped, and removing the last callback lets go of the number at
//! once. Readiness is level-triggered: a callback that reads too little is called again.
//! A transport's descriptor is its own: registering it is refused, as in asyncio.

use std::os::fd::RawFd;

use oxloop_core::{Driver as _, Op, Outcome, Side, Token};
use pyo3::exceptions::{
    PyAttributeError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::{Chunk, EventLoop, Source};
use crate::ffi::object::attached_only;
use crate::ffi::{Ref, Slot};
use crate::handle::{Arguments, Handle, context_or_copy};

/// What is registered for one descriptor number.
#[pyclass(frozen, module = "oxloop._oxloop", name = "_Descriptor")]
pub struct Descriptor {
    fd: RawFd,
    home: Slot,
    /// The file that was watched last, if it was given as an object: one that was closed since has
    /// no number any more, and is still to be found by `remove_reader`.
    file: Slot,
    reader: Slot,
    writer: Slot,
}

attached_only!(Descriptor);

#[pymethods]
impl Descriptor {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.home.traverse(&visit)?;
        self.file.traverse(&visit)?;
        self.reader.traverse(&visit)?;
        self.writer.traverse(&visit)
    }

    fn __clear__(&self) {
        drop((self.home.take(), self.file.take(), self.reader.take(), self.writer.take()));
    }
}

impl Descriptor {
    fn side(&self, side: Side) -> &Slot {
        match side {
            Side::Read => &self.reader,
            Side::Write => &self.writer,
        }
    }
}

/// The descriptor is ready: run the callback of that side.
fn on_ready(object: &Bound<'_, PyAny>, outcome: Outcome<Chunk>) -> PyResult<()> {
    let py = object.py();
    let descriptor = object.cast::<Descriptor>()?.get();
    let side = match outcome {
        Outcome::Writable => Side::Write,
        _ => Side::Read,
    };
    let Some(handle) = descriptor.side(side).get() else { return Ok(()) };
    let native = handle.bind(py).cast::<Handle>()?;
    if native.get().is_cancelled() {
        if let Some(home) = descriptor.home.get() {
            EventLoop::unwatch(home.bind_as::<EventLoop>(py), descriptor.fd, side)?;
        }
        return Ok(());
    }
    let run = repeat(py, &handle)?;
    Handle::run(run.bind(py), run.bind(py).cast::<Handle>()?.get())
}

/// A handle that runs the callback of `handle` once, and leaves `handle` as it is.
pub fn repeat(py: Python<'_>, handle: &Ref) -> PyResult<Ref> {
    let copy = handle.bind(py).cast::<Handle>()?.get().duplicate(py)?;
    copy.into_object(py)
}

/// The number of a descriptor given as an int or an object with `fileno()`, whose answer may be
/// whatever `int()` takes.
pub fn file_number(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = object.py();
    let invalid = || -> PyErr {
        let text = object.repr().map_or_else(|_| "?".into(), |text| text.to_string());
        PyValueError::new_err(format!("Invalid file object: {text}"))
    };
    let number = if object.is_instance_of::<PyInt>() {
        object.clone()
    } else {
        let number = object
            .call_method0(intern!(py, "fileno"))
            .and_then(|number| py.get_type::<PyInt>().call1((number,)));
        match number {
            Ok(number) => number,
            Err(err)
                if err.is_instance_of::<PyAttributeError>(py)
                    || err.is_instance_of::<PyTypeError>(py)
                    || err.is_instance_of::<PyValueError>(py) =>
            {
                return Err(invalid());
            }
            Err(err) => return Err(err),
        }
    };
    match number.extract::<RawFd>() {
        Ok(fd) if fd >= 0 => Ok(fd),
        Err(_) if number.ge(0)? => {
            Err(PyOverflowError::new_err("Python int too large to convert to C int"))
        }
        _ => Err(PyValueError::new_err(format!("Invalid file descriptor: {number}"))),
    }
}

impl EventLoop {
    /// Notes that `token` stands for `fd`, so that nobody else registers the number.
    ///
    /// Callbacks that were registered for the number when it was another file are let go.
    pub fn claim(&self, py: Python<'_>, fd: RawFd, token: Token) {
        let former = self.descriptors.borrow_mut().insert(fd, token);
        let Some(former) = former.filter(|former| *former != token) else { return };
        let object = self.core.sources.borrow().get(former).map(|source| source.object.clone());
        let Some(object) = object else { return };
        if let Ok(stale) = object.bind(py).cast::<Descriptor>() {
            drop(self.core.remove_source(former));
            drop((stale.get().reader.take(), stale.get().writer.take()));
        }
    }

    /// Forgets the claim, if it is still this token's.
    pub fn disclaim(&self, fd: RawFd, token: Token) {
        let mut descriptors = self.descriptors.borrow_mut();
        if descriptors.get(&fd) == Some(&token) {
            descriptors.remove(&fd);
        }
    }

    /// Who is registered for `fd`.
    fn owner(&self, fd: RawFd) -> Option<(Token, Ref)> {
        let token = *self.descriptors.borrow().get(&fd)?;
        let source = self.core.sources.borrow().get(token).map(|source| source.object.clone());
        source.map(|object| (token, object))
    }

    /// RuntimeError if a transport uses the descriptor.
    pub fn ensure_no_transport(&self, py: Python<'_>, fd: RawFd) -> PyResult<()> {
        let Some((_, object)) = self.owner(fd) else { return Ok(()) };
        let object = object.into_bound(py);
        if object.is_instance_of::<Descriptor>() {
            return Ok(());
        }
        if let Some(is_closing) = object.getattr_opt(intern!(py, "is_closing"))? {
            if is_closing.call0()?.is_truthy()? {
                return Ok(());
            }
        } else {
            // A listener of ours: its number is shared by design with the Server's sockets.
            return Ok(());
        }
        Err(PyRuntimeError::new_err(format!(
            "File descriptor {fd} is used by transport {}",
            object.repr()?
        )))
    }

    /// Registers `handle` for one side of `fd`; a former one is cancelled.
    pub fn watch(slf: &Bound<'_, Self>, fd: RawFd, side: Side, handle: Ref) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (token, object) = match this.owner(fd) {
            Some((token, object)) if object.bind(py).is_instance_of::<Descriptor>() => {
                (token, object)
            }
            _ => {
                let descriptor = Descriptor {
                    fd,
                    home: Slot::holding(Ref::from_borrowed(slf)),
                    file: Slot::empty(),
                    reader: Slot::empty(),
                    writer: Slot::empty(),
                };
                let object = Ref::new(Bound::new(py, descriptor)?);
                let source = Source { object: object.clone(), completed: on_ready };
                let token =
                    this.core.add_source(fd, source).map_err(|err| kernel_error(py, err))?;
                this.claim(py, fd, token);
                (token, object)
            }
        };
        let descriptor = object.bind_as::<Descriptor>(py).get();
        let op = match side {
            Side::Read => Op::PollRead,
            Side::Write => Op::PollWrite,
        };
        let submitted = this.core.driver.borrow_mut().submit(token, op);
        if let Err(err) = submitted {
            if !descriptor.reader.is_some() && !descriptor.writer.is_some() {
                this.disclaim(fd, token);
                drop(this.core.remove_source(token));
            }
            return Err(kernel_error(py, err));
        }
        let before = descriptor.side(side).replace(Some(handle));
        if let Some(before) = before {
            before.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Removes the callback of one side of `fd`; false if there is none.
    pub fn unwatch(slf: &Bound<'_, Self>, fd: RawFd, side: Side) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let Some((token, object)) = this.owner(fd) else { return Ok(false) };
        let Ok(descriptor) = object.bind(py).cast::<Descriptor>() else { return Ok(false) };
        let descriptor = descriptor.get();
        let Some(handle) = descriptor.side(side).take() else { return Ok(false) };
        if descriptor.reader.is_some() || descriptor.writer.is_some() {
            drop(this.core.driver.borrow_mut().cancel(token, side));
        } else {
            this.disclaim(fd, token);
            drop(this.core.remove_source(token));
        }
        handle.bind(py).call_method0(intern!(py, "cancel"))?;
        Ok(true)
    }

    fn add_watcher<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        side: Side,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Ref> {
        let py = slf.py();
        let this = slf.get();
        this.check_open()?;
        let number = file_number(fd)?;
        let items: Vec<_> = args.iter().collect();
        let handle = Handle::build(
            slf,
            Ref::from_borrowed(callback),
            Arguments::collect(py, items.iter())?,
            context_or_copy(py, None)?,
        )?;
        let handle = handle.into_object(py)?;
        Self::watch(slf, number, side, handle.clone())?;
        if let Some((_, object)) = this.owner(number).filter(|_| !fd.is_instance_of::<PyInt>()) {
            if let Ok(descriptor) = object.bind(py).cast::<Descriptor>() {
                descriptor.get().file.set(Ref::from_borrowed(fd));
            }
        }
        Ok(handle)
    }

    /// The number that a file object was watched under, now that it is closed and has none.
    #[cold]
    fn former_number(&self, file: &Bound<'_, PyAny>) -> Option<RawFd> {
        let sources = self.core.sources.borrow();
        self.descriptors.borrow().iter().find_map(|(fd, token)| {
            let object = sources.get(*token)?.object.bind(file.py());
            object.cast::<Descriptor>().is_ok_and(|it| it.get().file.holds(file)).then_some(*fd)
        })
    }

    /// The number to stop watching; None for one that no descriptor has.
    ///
    /// ValueError for a file that is closed and was not watched.
    fn watched_number(&self, file: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
        match file_number(file) {
            Err(err) if err.is_instance_of::<PyOverflowError>(file.py()) => Ok(None),
            number => number.or_else(|err| self.former_number(file).ok_or(err)).map(Some),
        }
    }

    /// Stop watching for the program; False if it did not watch.
    fn remove_programs_watcher(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        side: Side,
    ) -> PyResult<bool> {
        if let Some(number) = slf.get().watched_number(fd)? {
            slf.get().ensure_no_transport(slf.py(), number)?;
        }
        Self::remove_watcher(slf, fd, side)
    }

    fn remove_watcher(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>, side: Side) -> PyResult<bool> {
        let this = slf.get();
        if this.closed.get() {
            return Ok(false);
        }
        this.check_process()?;
        match this.watched_number(fd)? {
            Some(number) => Self::unwatch(slf, number, side),
            None => Ok(false),
        }
    }
}

fn kernel_error(py: Python<'_>, err: std::io::Error) -> PyErr {
    crate::convert::os_error(py, err)
}

#[pymethods]
impl EventLoop {
    /// Call `callback(*args)` whenever `fd` (an int or an object with `fileno()`) can be read.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        slf.get().ensure_no_transport(slf.py(), file_number(fd)?)?;
        Self::add_watcher(slf, fd, Side::Read, callback, args).map(drop)
    }

    /// Stop watching `fd` for reading; False if it was not watched.
    fn remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::remove_programs_watcher(slf, fd, Side::Read)
    }

    /// Call `callback(*args)` whenever `fd` (an int or an object with `fileno()`) can be written.
    #[pyo3(signature = (fd, callback, *args))]
    fn add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        slf.get().ensure_no_transport(slf.py(), file_number(fd)?)?;
        Self::add_watcher(slf, fd, Side::Write, callback, args).map(drop)
    }

    /// Stop watching `fd` for writing; False if it was not watched.
    fn remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::remove_programs_watcher(slf, fd, Side::Write)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(Self::add_watcher(slf, fd, Side::Read, callback, args)?.into_bound(slf.py()))
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::remove_watcher(slf, fd, Side::Read)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer<'py>(
        slf: &Bound<'py, Self>,
        fd: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(Self::add_watcher(slf, fd, Side::Write, callback, args)?.into_bound(slf.py()))
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::remove_watcher(slf, fd, Side::Write)
    }

    /// RuntimeError if a transport of this loop uses `fd`.
    fn _ensure_fd_no_transport(&self, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        self.ensure_no_transport(fd.py(), file_number(fd)?)
    }
}
