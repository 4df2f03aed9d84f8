//! What the core's session asks for, in terms of Python: one side of a `TlsTransport`.
//!
//! Reports, log lines and error texts are asyncio's.

use oxloop_core::tls::{Ends, Failure, ReadEnd, Step, Timer};
use pyo3::exceptions::{
    PyConnectionAbortedError, PyConnectionResetError, PyException, PyOSError, PyTimeoutError,
};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::TlsTransport;
use super::below::{self, Below};
use super::deliver::{self, Kind};
use super::events;
use crate::event_loop::{EventLoop, Job};
use crate::ffi::call::bytes_of;
use crate::ffi::error;
use crate::ffi::{Ref, Slot};
use crate::handle::is_fatal;
use crate::{protocol, stdlib};

/// A transport as the session sees it.
pub(super) struct Side<'a, 'py>(pub &'a Bound<'py, TlsTransport>);

impl<'py> Side<'_, 'py> {
    fn py(&self) -> Python<'py> {
        self.0.py()
    }

    pub fn below(&self) -> Option<Below<'py>> {
        Below::of(self.py(), &self.0.get().below)
    }

    /// Writes a line to asyncio's log in debug mode; `text` is given the transport's repr.
    pub fn log_debug(&self, text: impl FnOnce(String) -> String) -> PyResult<()> {
        let py = self.py();
        if !self.0.get().home(py)?.get().debug() {
            return Ok(());
        }
        stdlib::log(py, "debug", &text(self.0.repr()?.to_string()), None)
    }

    fn timer(&self, timer: Timer) -> (&Slot, &Slot) {
        let this = self.0.get();
        match timer {
            Timer::Handshake => (&this.handshake_timer, &this.handshake_timeout),
            Timer::Shutdown => (&this.shutdown_timer, &this.shutdown_timeout),
        }
    }

    pub fn stop(&self, timer: Timer) -> PyResult<()> {
        events::cancel(self.timer(timer).0.take(), self.py())
    }

    /// Tells who waits for the handshake, once.
    pub fn wake(&self, error: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = self.py();
        let Some(waiter) = self.0.get().waiter.take() else { return Ok(()) };
        let waiter = waiter.bind(py);
        if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        match error {
            Some(error) => waiter.call_method1(intern!(py, "set_exception"), (error,)),
            None => waiter.call_method1(intern!(py, "set_result"), (py.None(),)),
        }
        .map(drop)
    }

    /// Gives the transport below what the engine has for it, past Python.
    fn send_directly(&self) -> PyResult<()> {
        let py = self.py();
        let this = self.0.get();
        let (home, Some(below)) = (this.home(py)?, self.below()) else { return Ok(()) };
        let mut buffer = home.get().tls_buffer.lend();
        let mut sent = Ok(());
        while sent.is_ok() {
            let size = this.engine.fetch_into(&mut buffer);
            if size == 0 {
                break;
            }
            sent = below.write_slice(&buffer[..size]);
            if size < buffer.len() {
                break;
            }
        }
        // Ciphertext is no secret.
        home.get().tls_buffer.give_back(buffer, 0);
        sent
    }

    fn report(&self, message: &str, exception: &Bound<'_, PyAny>) -> PyResult<Bound<'py, PyDict>> {
        let report = PyDict::new(self.py());
        report.set_item("message", message)?;
        report.set_item("exception", exception)?;
        report.set_item("protocol", self.0)?;
        Ok(report)
    }

    fn send_report(&self, report: Bound<'_, PyDict>) -> PyResult<()> {
        let py = self.py();
        let home = self.0.get().home(py)?;
        let tell =
            || home.call_method1(intern!(py, "call_exception_handler"), (&report,)).map(drop);
        match report.get_item("exception")? {
            Some(exception) => error::while_handling(&exception, tell),
            None => tell(),
        }
    }

    /// Aborts the transport below; kernel errors are logged in debug mode, others reported.
    fn give_up(&self, exception: &Bound<'py, PyAny>, message: &str) -> PyResult<()> {
        let py = self.py();
        let below = self.below();
        if let Some(below) = &below {
            below.abort(Some(Ref::from_borrowed(exception)))?;
        }
        if exception.is_instance_of::<PyOSError>() {
            if !self.0.get().home(py)?.get().debug() {
                return Ok(());
            }
            let text = format!("{}: {message}", self.0.repr()?);
            // The exception itself: it is not the one being handled.
            return stdlib::log(py, "debug", &text, Some(exception.clone()));
        }
        if exception.is_instance(stdlib::cancelled_error(py)?)? {
            return Ok(());
        }
        let report = self.report(message, exception)?;
        report.set_item("transport", below.as_ref().map(Below::as_any))?;
        self.send_report(report)
    }
}

impl Ends for Side<'_, '_> {
    type Error = PyErr;

    fn handshake(&self) -> PyResult<Step<PyErr>> {
        self.0.get().engine.handshake(self.py())
    }

    fn shut_down(&self) -> PyResult<Step<PyErr>> {
        self.0.get().engine.shut_down(self.py())
    }

    #[inline]
    fn read(&self) -> PyResult<ReadEnd> {
        deliver::deliver(self.0)
    }

    fn encrypt(&self) -> PyResult<()> {
        let this = self.0.get();
        loop {
            // Out of the queue while the engine works: it may run code that writes more.
            let front = this.backlog.borrow_mut().pop_front();
            let Some((data, start)) = front else { return Ok(()) };
            let taken = this.engine.write(self.py(), &data, start);
            let (count, is_stuck) = match &taken {
                Ok(Some(count)) => (*count, false),
                Ok(None) | Err(_) => (0, true),
            };
            this.backlog_bytes.set(this.backlog_bytes.get().saturating_sub(count));
            if start + count < bytes_of(&data).len() {
                this.backlog.borrow_mut().push_front((data, start + count));
            }
            if is_stuck {
                return taken.map(drop);
            }
        }
    }

    #[inline]
    fn send_encrypted(&self) -> PyResult<()> {
        if self.0.get().engine.is_direct() {
            return self.send_directly();
        }
        let Some(data) = self.0.get().engine.fetch(self.py())? else { return Ok(()) };
        match self.below() {
            Some(below) => below.write(&data),
            None => Ok(()),
        }
    }

    fn incoming_bytes(&self) -> PyResult<usize> {
        self.0.get().engine.incoming_bytes(self.py())
    }

    #[inline]
    fn unsent_bytes(&self) -> PyResult<usize> {
        let this = self.0.get();
        let encrypted = match this.session.transport_writing_paused() {
            true => this.engine.outgoing_bytes(self.py())?,
            // The transport was given everything.
            false => 0,
        };
        Ok(encrypted + this.backlog_bytes.get())
    }

    #[inline]
    fn has_backlog(&self) -> bool {
        !self.0.get().backlog.borrow().is_empty()
    }

    fn established(&self) -> PyResult<()> {
        let py = self.py();
        let this = self.0.get();
        let object = this.engine.object(py);
        let certificate = object.call_method0(intern!(py, "getpeercert"))?;
        let started_s = this.handshake_started_s.get();
        let home = this.home(py)?;
        if home.get().debug() {
            let took_ms = (EventLoop::now_s(&home)? - started_s) * 1e3;
            self.log_debug(|name| format!("{name}: SSL handshake took {took_ms:.1} ms"))?;
        }
        if let Some(extra) = this.extra.bound(py) {
            let extra = extra.cast_into::<PyDict>()?;
            extra.set_item("peercert", certificate)?;
            extra.set_item("cipher", object.call_method0(intern!(py, "cipher"))?)?;
            extra.set_item("compression", object.call_method0(intern!(py, "compression"))?)?;
            extra.set_item("ssl_object", object)?;
        }
        this.engine.go_direct(py)
    }

    fn handshake_failed(&self, error: PyErr) -> PyResult<()> {
        let py = self.py();
        if !error.is_instance_of::<PyException>(py) {
            return Err(error);
        }
        let message = match error.is_instance(py, stdlib::certificate_error(py)?) {
            true => "SSL handshake failed on verifying the certificate",
            false => "SSL handshake failed",
        };
        let exception = error::instance(py, error).into_any();
        self.give_up(&exception, message)?;
        self.wake(Some(&exception))
    }

    fn handshake_done(&self) -> PyResult<()> {
        self.wake(None)
    }

    fn connection_made(&self) -> PyResult<()> {
        let py = self.py();
        let this = self.0.get();
        let Some(protocol) = this.protocol.bound(py) else { return Ok(()) };
        match this.kind.get() {
            Kind::Tls => events::begin(protocol.cast::<TlsTransport>()?, self.0.as_any()),
            _ => protocol::connection_made(&protocol, None, self.0.as_any()),
        }
    }

    fn eof_received(&self) -> PyResult<()> {
        let py = self.py();
        let this = self.0.get();
        let Some(protocol) = this.protocol.bound(py) else { return Ok(()) };
        let keep_open = match this.kind.get() {
            Kind::Tls => events::ended(protocol.cast::<TlsTransport>()?)?,
            _ => protocol::eof_received(&protocol, None)?,
        };
        if keep_open {
            let text = "returning true from eof_received() has no effect when using ssl";
            stdlib::log(py, "warning", text, None)?;
        }
        Ok(())
    }

    fn pause_writing(&self, pause: bool) -> PyResult<()> {
        let py = self.py();
        let this = self.0.get();
        let Some(protocol) = this.protocol.bound(py) else { return Ok(()) };
        let told = match (this.kind.get(), pause) {
            (Kind::Tls, _) => events::flow(protocol.cast::<TlsTransport>()?, pause),
            (_, true) => protocol::pause_writing(&protocol),
            (_, false) => protocol::resume_writing(&protocol, None),
        };
        let Err(err) = told else { return Ok(()) };
        if is_fatal(py, &err) {
            return Err(err);
        }
        let name = if pause { "pause_writing" } else { "resume_writing" };
        let exception = error::instance(py, err).into_any();
        let report = self.report(&format!("protocol.{name}() failed"), &exception)?;
        report.set_item("transport", self.0)?;
        self.send_report(report)
    }

    fn closing(&self) {
        self.0.get().closed.set(true);
    }

    fn read_soon(&self) {
        if let Ok(home) = self.0.get().home(self.py()) {
            home.get().push(Job::Method(Ref::from_borrowed(self.0), events::read_again));
        }
    }

    fn pause_transport(&self, pause: bool) -> PyResult<()> {
        match self.below() {
            Some(below) => below.pause_reading(pause),
            None => Ok(()),
        }
    }

    fn close_transport_soon(&self) {
        let this = self.0.get();
        if let (Some(below), Ok(home)) = (this.below.get(), this.home(self.py())) {
            home.get().push(Job::Method(below, below::close));
        }
    }

    fn abort_transport(&self, error: Option<PyErr>) -> PyResult<()> {
        let py = self.py();
        match self.below() {
            Some(below) => below.abort(error.map(|err| Ref::new(error::instance(py, err)))),
            None => Ok(()),
        }
    }

    fn start_timer(&self, timer: Timer) -> PyResult<()> {
        let py = self.py();
        let this = self.0.get();
        let home = this.home(py)?;
        if timer == Timer::Handshake && home.get().debug() {
            self.log_debug(|name| format!("{name} starts SSL handshake"))?;
            this.handshake_started_s.set(EventLoop::now_s(&home)?);
        }
        let callback = match timer {
            Timer::Handshake => pyo3::wrap_pyfunction!(events::handshake_timed_out, py)?,
            Timer::Shutdown => pyo3::wrap_pyfunction!(events::shutdown_timed_out, py)?,
        };
        let (handle, timeout) = self.timer(timer);
        let arguments = (timeout.or_none(py), callback, self.0);
        handle.set(Ref::new(home.call_method1(intern!(py, "call_later"), arguments)?));
        Ok(())
    }

    fn stop_timer(&self, timer: Timer) -> PyResult<()> {
        self.stop(timer)
    }

    fn timeout_error(&self, timer: Timer) -> PyErr {
        match timer {
            Timer::Shutdown => PyTimeoutError::new_err("SSL shutdown timed out"),
            Timer::Handshake => {
                let timeout = self.timer(timer).1.or_none(self.py());
                let seconds = timeout.str().map_or_else(|_| "?".to_owned(), |s| s.to_string());
                PyConnectionAbortedError::new_err(format!(
                    "SSL handshake is taking longer than {seconds} seconds: aborting the connection"
                ))
            }
        }
    }

    fn reset_error(&self) -> PyErr {
        PyConnectionResetError::new_err(())
    }

    fn fatal(&self, error: PyErr, failure: Failure) -> PyResult<()> {
        let py = self.py();
        let leaves = match failure {
            Failure::EofReceived => is_fatal(py, &error),
            _ => !error.is_instance_of::<PyException>(py),
        };
        if leaves {
            return Err(error);
        }
        let message = match failure {
            Failure::Data => "Fatal error on SSL protocol",
            Failure::EofReceived => "Error calling eof_received()",
            Failure::Shutdown | Failure::Timeout => "Fatal error on transport",
        };
        self.give_up(&error::instance(py, error).into_any(), message)
    }
}
