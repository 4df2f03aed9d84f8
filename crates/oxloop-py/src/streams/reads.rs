//! The reading methods as coroutines: `read`, `readexactly`, `readuntil`, `readline`, iteration.
//!
//! Facts: nothing happens before the first step. A read that finds what it wants ends in that step.
//! asyncio's `readline` is built on `readuntil`, its iteration on `readline`, and `read(-1)` on
//! `read(limit)`; who derives from the class and replaces one of these changes the other too.
//! Decision: one body with one loop: look, take or wait. For a reader whose methods were replaced
//! the inner coroutine is awaited instead (`inner.rs`).
//! `read(-1)` waits for the end once. Cancelled before, it leaves everything in the buffer; asyncio
//! loses what it had collected.

use std::cell::Cell;
use std::rc::Rc;

use pyo3::exceptions::{PyStopAsyncIteration, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt};
use pyo3::{PyTraverseError, PyVisit};

use super::inner::{self, Outer};
use super::need::{Need, Separators};
use super::plain_reader;
use super::reader::StreamReader;
use crate::coroutine::{Body, Coroutine, Progress};
use crate::ffi::fastcall::Args;
use crate::ffi::{Ref, call, error};
use crate::stdlib;

/// Which method was called, with its argument.
enum Kind {
    /// `read(n)` with `n >= 0`.
    Some(usize),
    /// `read(-1)`.
    Everything,
    Exactly(usize),
    Until(Need),
    Line,
    /// `__anext__`
    Next,
}

struct Read {
    reader: Ref,
    kind: Kind,
}

impl Read {
    #[inline]
    fn make(reader: &Bound<'_, StreamReader>, kind: Kind) -> PyResult<Ref> {
        Coroutine::make(reader.py(), Self { reader: Ref::from_borrowed(reader), kind })
    }

    #[inline]
    fn reader<'py>(&self, py: Python<'py>) -> &Bound<'py, StreamReader> {
        // Only `make` fills the field.
        self.reader.bind_as::<StreamReader>(py)
    }

    /// Looks at what there is: takes it or waits.
    #[inline]
    fn go_on(&self, py: Python<'_>) -> PyResult<Progress> {
        let reader = self.reader(py).get();
        match &self.kind {
            Kind::Some(count) => {
                let there = reader.len_bytes();
                if there == 0 && !reader.eof.get() {
                    return reader.wait(py, "read", Need::Any, 0);
                }
                self.end(py, (*count).min(there))
            }
            Kind::Everything => {
                if !reader.eof.get() {
                    return reader.wait(py, "read", Need::End, 0);
                }
                self.end(py, reader.len_bytes())
            }
            Kind::Exactly(count) => {
                if reader.len_bytes() >= *count {
                    return self.end(py, *count);
                }
                if reader.eof.get() {
                    return Err(incomplete(reader.take_all(py)?.bind(py), Some(*count)));
                }
                reader.wait(py, "readexactly", Need::Bytes(*count), 0)
            }
            Kind::Until(need) => self.until(py, need),
            Kind::Line | Kind::Next => self.until(py, &Need::Line),
        }
    }

    /// One round of `readuntil`, and what `readline` makes of its exceptions.
    #[inline]
    fn until(&self, py: Python<'_>, need: &Need) -> PyResult<Progress> {
        let reader = self.reader(py).get();
        let limit_bytes = reader.limit_bytes.get();
        match reader.search(need, 0) {
            Ok(found) if found.start > limit_bytes => {
                self.overrun(py, "Separator is found, but chunk is longer than limit", found.start)
            }
            Ok(found) => self.end(py, found.end),
            Err(offset) if offset > limit_bytes => {
                self.overrun(py, "Separator is not found, and chunk exceed the limit", offset)
            }
            Err(_) if reader.eof.get() => {
                let partial = reader.take_all(py)?;
                match self.kind {
                    Kind::Until(_) => Err(incomplete(partial.bind(py), None)),
                    _ => self.line(partial),
                }
            }
            Err(offset) => reader.wait(py, "readuntil", need.clone(), offset),
        }
    }

    #[cold]
    fn overrun(&self, py: Python<'_>, text: &str, consumed: usize) -> PyResult<Progress> {
        let overrun = stdlib::limit_overrun_error(py)?.call1((text, consumed))?;
        match self.kind {
            Kind::Until(_) => Err(error::raised(&overrun)),
            _ => Err(too_long(self.reader(py).get(), &overrun)?),
        }
    }

    /// Takes `count` bytes and returns them.
    #[inline]
    fn end(&self, py: Python<'_>, count: usize) -> PyResult<Progress> {
        let reader = self.reader(py).get();
        let taken = reader.take(py, count)?;
        reader.resume_if_room(py)?;
        self.line(taken)
    }

    /// The result; for an iteration an empty line is the end.
    #[inline]
    fn line(&self, taken: Ref) -> PyResult<Progress> {
        if matches!(self.kind, Kind::Next) && call::bytes_of(&taken).is_empty() {
            return Err(PyStopAsyncIteration::new_err(()));
        }
        Ok(Progress::Return(taken))
    }
}

impl Body for Read {
    fn qualified_name(&self) -> &'static str {
        match self.kind {
            Kind::Some(_) | Kind::Everything => "StreamReader.read",
            Kind::Exactly(_) => "StreamReader.readexactly",
            Kind::Until(_) => "StreamReader.readuntil",
            Kind::Line => "StreamReader.readline",
            Kind::Next => "StreamReader.__anext__",
        }
    }

    #[inline]
    fn begin(&self, py: Python<'_>) -> PyResult<Progress> {
        let reader = self.reader(py).get();
        reader.check_exception(py)?;
        if let Kind::Line | Kind::Next = self.kind {
            // Most lines are there, in one piece.
            if let Some(line) = reader.take_line(py) {
                reader.resume_if_room(py)?;
                return Ok(Progress::Return(line));
            }
        }
        if matches!(self.kind, Kind::Some(0) | Kind::Exactly(0)) {
            return Ok(Progress::Return(Ref::new(PyBytes::new(py, b""))));
        }
        self.go_on(py)
    }

    fn resumed(&self, py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        let reader = self.reader(py).get();
        reader.waited();
        outcome?;
        if let Kind::Some(count) = self.kind {
            // Woken without bytes: asyncio returns what there is, too.
            return self.end(py, count.min(reader.len_bytes()));
        }
        self.go_on(py)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.reader.traverse(visit)
    }
}

/// `readline`'s answer to LimitOverrunError: the line or everything is dropped, ValueError.
#[cold]
pub(super) fn too_long(reader: &StreamReader, overrun: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let py = overrun.py();
    let consumed: usize = overrun.getattr(intern!(py, "consumed"))?.extract()?;
    let has_newline = reader.byte_at(consumed) == Some(b'\n');
    reader.discard(if has_newline { consumed + 1 } else { usize::MAX });
    reader.resume_if_room(py)?;
    let text = overrun.getattr(intern!(py, "args"))?.get_item(0)?;
    let error = PyValueError::new_err(text.unbind());
    error.value(py).setattr(intern!(py, "__context__"), overrun)?;
    Ok(error)
}

/// A method that got a wrong argument: an error of the coroutine, not of the call.
struct Refused {
    name: &'static str,
    error: Cell<Option<Box<PyErr>>>,
}

impl Body for Refused {
    fn qualified_name(&self) -> &'static str {
        self.name
    }

    fn begin(&self, _py: Python<'_>) -> PyResult<Progress> {
        Err(self.error.take().map_or_else(call::unexplained, |error| *error))
    }

    fn resumed(&self, _py: Python<'_>, outcome: PyResult<Ref>) -> PyResult<Progress> {
        outcome.map(Progress::Return)
    }

    fn traverse(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}

/// `IncompleteReadError(partial, expected)`
fn incomplete(partial: &Bound<'_, PyAny>, expected: Option<usize>) -> PyErr {
    match stdlib::incomplete_read_error(partial.py())
        .and_then(|class| class.call1((partial, expected)))
    {
        Ok(error) => error::raised(&error),
        Err(err) => err,
    }
}

/// A byte count: how many, or None if it is negative. More than there are addresses is that many.
fn byte_count(count: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    if let Ok(count) = count.extract::<isize>() {
        return Ok(usize::try_from(count).ok());
    }
    // As the comparison in asyncio's code refuses what is no number.
    let is_negative = count.lt(0)?;
    if !count.is_instance_of::<PyInt>() {
        return Err(PyTypeError::new_err(
            "slice indices must be integers or None or have an __index__ method",
        ));
    }
    Ok((!is_negative).then_some(usize::MAX))
}

#[cold]
fn refuse(py: Python<'_>, name: &'static str, error: PyErr) -> PyResult<Ref> {
    Coroutine::make(py, Refused { name, error: Cell::new(Some(Box::new(error))) })
}

/// `read(n=-1)`
pub fn read<'py>(slf: &Bound<'py, StreamReader>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let count = match args.one_or_none("read", "n")? {
        None => Ok(None),
        Some(count) => byte_count(count),
    };
    match count {
        Ok(Some(count)) => Read::make(slf, Kind::Some(count)),
        Ok(None) if plain_reader(slf).is_none() => inner::make(slf, Outer::Everything),
        Ok(None) => Read::make(slf, Kind::Everything),
        Err(error) => refuse(slf.py(), "StreamReader.read", error),
    }
}

/// `readexactly(n)`
pub fn readexactly<'py>(slf: &Bound<'py, StreamReader>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let count = byte_count(args.one("readexactly", "n")?).and_then(|count| {
        count.ok_or_else(|| PyValueError::new_err("readexactly size can not be less than zero"))
    });
    match count {
        Ok(count) => Read::make(slf, Kind::Exactly(count)),
        Err(error) => refuse(slf.py(), "StreamReader.readexactly", error),
    }
}

/// `readuntil(separator=b'\n')`
pub fn readuntil<'py>(slf: &Bound<'py, StreamReader>, args: Args<'_, 'py>) -> PyResult<Ref> {
    let need = match args.one_or_none("readuntil", "separator")? {
        None => Ok(Need::Line),
        Some(separator) => {
            Separators::read(separator).map(|separators| Need::Separator(Rc::new(separators)))
        }
    };
    match need {
        Ok(need) => Read::make(slf, Kind::Until(need)),
        Err(error) => refuse(slf.py(), "StreamReader.readuntil", error),
    }
}

/// `readline()`
pub fn readline<'py>(slf: &Bound<'py, StreamReader>, args: Args<'_, 'py>) -> PyResult<Ref> {
    args.expect_none("readline")?;
    if plain_reader(slf).is_none() {
        return inner::make(slf, Outer::Line);
    }
    Read::make(slf, Kind::Line)
}

/// `__anext__()`
pub(super) fn next_line(slf: &Bound<'_, StreamReader>) -> PyResult<Ref> {
    if plain_reader(slf).is_none() {
        return inner::make(slf, Outer::Next);
    }
    Read::make(slf, Kind::Next)
}
