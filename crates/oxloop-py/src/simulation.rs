//! A simulated kernel and its sockets, as `oxloop.testing` uses them.
//!
//! The kernel is the core's (`oxloop_core::driver::sim`): virtual time, links, faults, all from one
//! seed. A loop made on it runs the very driver, streams and transports that programs run on. Its
//! sockets have numbers far from any real one, so that a stray system call meets nobody.
//! A socket object owns its descriptor; a transport holds the object, as it would a `socket.socket`.
//! What can still go wrong: only TCP between IPv4 addresses is offered here; `oxloop.testing` says
//! what a simulated loop refuses.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use oxloop_core::driver::sim::{Fault, Faults, Link, Random, SimFd};
use oxloop_core::{SimConfig, SimKernel};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::convert;

/// A simulated kernel.
#[pyclass(frozen, module = "oxloop._oxloop", name = "_Simulation")]
pub struct Simulation {
    kernel: SimKernel,
}

impl Simulation {
    pub fn kernel(&self) -> &SimKernel {
        &self.kernel
    }
}

fn ip(text: &str) -> PyResult<IpAddr> {
    text.parse().map_err(|_| PyValueError::new_err(format!("not an IP address: {text:?}")))
}

fn fault(name: &str) -> PyResult<Fault> {
    let found = Fault::ALL.iter().copied().find(|fault| fault.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        PyValueError::new_err(format!(
            "no fault is called {name:?}; there are {}",
            names.join(", ")
        ))
    })
}

fn pair(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

#[pymethods]
impl Simulation {
    /// `latency_ns` and `bytes_per_s` (0: without bounds) are those of every link that has no other.
    #[new]
    #[pyo3(signature = (seed, latency_ns, bytes_per_s))]
    fn new(seed: u64, latency_ns: i64, bytes_per_s: u64) -> Self {
        let mut config = SimConfig::new(seed);
        config.link = Link { latency_ns, bytes_per_s, ..Link::NEAR };
        Self { kernel: SimKernel::new(config) }
    }

    /// The virtual time, in nanoseconds.
    fn now_ns(&self) -> i64 {
        self.kernel.now_ns()
    }

    /// A number that stands for all that has happened so far.
    fn trace(&self) -> u64 {
        self.kernel.trace()
    }

    /// What a user of the kernel did that nobody may; the list is empty afterwards.
    fn take_breaches(&self) -> Vec<String> {
        self.kernel.take_breaches()
    }

    /// How many descriptors are open.
    fn open_count(&self) -> usize {
        self.kernel.open_count()
    }

    /// Sets how often a fault occurs, in ten thousandths of its opportunities; 0 is never.
    fn set_fault(&self, name: &str, rate: u16) -> PyResult<()> {
        let mut faults = self.kernel.faults();
        faults.set(fault(name)?, rate);
        self.kernel.set_faults(faults);
        Ok(())
    }

    /// Switches faults on and off, and draws their rates, by a seed of their own.
    fn draw_faults(&self, seed: u64) {
        self.kernel.set_faults(Faults::drawn(&mut Random::new(seed)));
    }

    /// The faults that are on: `{name: rate}`.
    fn faults(&self) -> Vec<(&'static str, u16)> {
        let faults = self.kernel.faults();
        faults.active().map(|fault| (fault.name(), faults.rate(fault))).collect()
    }

    /// The faults end; connections that are gone for good are found out within a second.
    fn calm(&self) {
        self.kernel.calm();
    }

    /// Sets the link from one host to another, for connections made from now on.
    fn set_link(&self, from_: &str, to: &str, latency_ns: i64, bytes_per_s: u64) -> PyResult<()> {
        let link = Link { latency_ns, bytes_per_s, ..Link::NEAR };
        self.kernel.set_link(ip(from_)?, ip(to)?, link);
        Ok(())
    }

    /// A socket that listens on an address; port 0 is a free one. OSError if it is taken.
    fn listen(&self, py: Python<'_>, host: &str, port: u16, backlog: usize) -> PyResult<SimSocket> {
        let made = self.kernel.listen(SocketAddr::new(ip(host)?, port), backlog);
        Ok(SimSocket::over(self.kernel.clone(), made.map_err(|err| convert::os_error(py, err))?))
    }

    /// A socket that begins to connect from a host to an address: writable once that is decided.
    fn connect(&self, py: Python<'_>, from_: &str, host: &str, port: u16) -> PyResult<SimSocket> {
        let made = self.kernel.connect(ip(from_)?, SocketAddr::new(ip(host)?, port));
        Ok(SimSocket::over(self.kernel.clone(), made.map_err(|err| convert::os_error(py, err))?))
    }
}

/// A socket of a simulated kernel, with the methods of `socket.socket` that transports call.
#[pyclass(frozen, module = "oxloop._oxloop", name = "_SimSocket")]
pub struct SimSocket {
    kernel: SimKernel,
    fd: RefCell<Option<SimFd>>,
}

crate::ffi::object::attached_only!(SimSocket);

impl SimSocket {
    pub fn over(kernel: SimKernel, fd: SimFd) -> Self {
        Self { kernel, fd: RefCell::new(Some(fd)) }
    }
}

#[pymethods]
impl SimSocket {
    /// AF_INET.
    #[getter]
    fn family(&self) -> i32 {
        2
    }

    /// SOCK_STREAM.
    #[getter]
    fn r#type(&self) -> i32 {
        1
    }

    /// IPPROTO_TCP.
    #[getter]
    fn proto(&self) -> i32 {
        6
    }

    /// The descriptor's number; -1 once closed.
    fn fileno(&self) -> RawFd {
        self.fd.borrow().as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    fn getsockname(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        let found = self.kernel.local_address(self.fileno());
        found.map(pair).map_err(|err| convert::os_error(py, err))
    }

    fn getpeername(&self, py: Python<'_>) -> PyResult<(String, u16)> {
        let found = self.kernel.peer_address(self.fileno());
        found.map(pair).map_err(|err| convert::os_error(py, err))
    }

    /// The errno with which connecting ended, 0 if it did not fail; asked for once.
    fn take_error(&self, py: Python<'_>) -> PyResult<i32> {
        let found = self.kernel.take_error(self.fileno());
        let found = found.map_err(|err| convert::os_error(py, err))?;
        Ok(found.and_then(|err| err.raw_os_error()).unwrap_or(0))
    }

    /// It listens since it was made.
    fn listen(&self, _backlog: i32) {}

    /// It never blocks.
    fn setblocking(&self, _flag: bool) {}

    fn gettimeout(&self) -> f64 {
        0.0
    }

    fn close(&self) {
        let fd = self.fd.take();
        drop(fd);
    }

    fn __repr__(&self) -> String {
        format!("<simulated socket fd={}>", self.fileno())
    }
}
