//! A kernel in memory: hosts, sockets, links and a virtual clock, all from one seed.
//!
//! [`SimKernel`] is a [`Kernel`], so the epoll driver runs on it unchanged: what is searched for bugs
//! is the driver that programs run on. [`SimDriver`] names the two together; [`RingDriver`] is a second
//! driver, which works asynchronously. Runs are repeatable to
//! the last call: everything that chance decides follows from the seed, and [`SimKernel::trace`] is a
//! hash of all that happened.
//!
//! Time is virtual. A wait lets the clock jump to the next thing that happens, or to the end of the
//! wait, so a day passes in a moment; calls take up to `call_ns_max`. When nothing is under way and
//! the wait has no end, the wait fails with `Deadlock`. Work on other threads that may still wake
//! the loop is announced by [`SimKernel::outside_work`]; the clock stands still until it is done.
//!
//! Hosts are IP addresses; they need no setting up. [`SimKernel::listen`], [`SimKernel::connect`],
//! [`SimKernel::datagram`], [`SimKernel::pair`] and [`SimKernel::pipe`] make descriptors, numbered
//! from `FIRST_FD` on, far from any real one. Every fault is off unless [`Faults`] switches it on;
//! [`SimKernel::calm`] switches all off, after which everything must come to an end.
//!
//! A kernel also watches over its users. A call with a number that is not open, a second close, a
//! close while a driver still watches, and waits that return in vain for ever are
//! [`breaches`](SimKernel::take_breaches).
//!
//! What can still go wrong: signals, files, terminals and Unix socket addresses are not simulated,
//! and threads are only as deterministic as their own scheduling.

mod calls;
mod datagram;
mod fault;
mod poll;
mod random;
mod ring;
mod stream;
mod timeline;
mod world;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub use self::fault::{Call, Fault, Faults};
pub use self::random::Random;
pub use self::ring::{RingDriver, RingWait};
use self::world::{Visit, World};
use super::epoll::EpollDriver;

/// The epoll driver on a simulated kernel.
pub type SimDriver<C> = EpollDriver<C, SimKernel>;

/// The first simulated descriptor. Linux gives out none this high (fs.nr_open), so that a number
/// that strays into a real call meets nobody.
pub const FIRST_FD: RawFd = 1 << 28;

/// The path between two hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    /// From one end to the other.
    pub latency_ns: i64,
    /// 0: without bounds.
    pub bytes_per_s: u64,
    /// Bytes that a sender may have on their way or waiting.
    pub send_buffer_bytes: usize,
    /// Bytes that lie unread at a receiver.
    pub receive_buffer_bytes: usize,
    /// The largest piece that travels at once.
    pub segment_bytes: usize,
}

impl Link {
    /// Within one machine: everything arrives at once.
    pub const LOCAL: Link = Link {
        latency_ns: 0,
        bytes_per_s: 0,
        send_buffer_bytes: 208 * 1024,
        receive_buffer_bytes: 128 * 1024,
        segment_bytes: 64 * 1024,
    };

    /// Within a data centre: 100 µs, 10 Gbit/s.
    pub const NEAR: Link = Link {
        latency_ns: 100_000,
        bytes_per_s: 1_250_000_000,
        segment_bytes: 1_448,
        ..Link::LOCAL
    };

    pub(crate) fn is_instant(self) -> bool {
        self.latency_ns == 0 && self.bytes_per_s == 0
    }

    fn takes_ns(self, len_bytes: usize) -> i64 {
        let ns = (len_bytes as u64).saturating_mul(1_000_000_000).checked_div(self.bytes_per_s);
        ns.unwrap_or(0) as i64
    }
}

/// What a simulation starts from.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Everything that chance decides follows from this.
    pub seed: u64,
    /// What goes wrong how often.
    pub faults: Faults,
    /// The link between hosts for which none was set.
    pub link: Link,
    /// Open descriptors at most; then EMFILE.
    pub numbers_max: usize,
    /// A call takes from 0 to less than this.
    pub call_ns_max: u64,
}

impl SimConfig {
    /// A kernel without faults, all links local, in which calls take no time.
    pub fn new(seed: u64) -> Self {
        SimConfig {
            seed,
            faults: Faults::none(),
            link: Link::LOCAL,
            numbers_max: 1 << 20,
            call_ns_max: 0,
        }
    }
}

struct Shared {
    world: Mutex<World>,
    /// Something came from outside while the clock stood still.
    woken: Condvar,
}

/// A simulated kernel; see the module's text. Clones are the same kernel.
#[derive(Clone)]
pub struct SimKernel {
    shared: Arc<Shared>,
}

impl fmt::Debug for SimKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let world = self.lock();
        write!(f, "SimKernel(seed {}, {} ns)", world.config.seed, world.timeline.now_ns())
    }
}

/// A simulated descriptor; closed on drop.
#[derive(Debug)]
pub struct SimFd {
    fd: RawFd,
    kernel: SimKernel,
}

impl AsRawFd for SimFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl Drop for SimFd {
    #[cold]
    #[inline(never)]
    fn drop(&mut self) {
        self.kernel.lock().close(self.fd);
    }
}

/// While this lives, the virtual clock stands still and waits wait for [`SimKernel`] calls of other
/// threads.
#[derive(Debug)]
pub struct OutsideWork {
    kernel: SimKernel,
}

impl Drop for OutsideWork {
    fn drop(&mut self) {
        self.kernel.lock().outside -= 1;
        self.kernel.shared.woken.notify_all();
    }
}

impl SimKernel {
    /// A kernel with nothing in it.
    pub fn new(config: SimConfig) -> Self {
        let shared = Shared { world: Mutex::new(World::new(config)), woken: Condvar::new() };
        SimKernel { shared: Arc::new(shared) }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.shared.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fd(&self, fd: RawFd) -> SimFd {
        SimFd { fd, kernel: self.clone() }
    }

    /// The virtual time, in nanoseconds since the simulation began.
    pub fn now_ns(&self) -> i64 {
        self.lock().timeline.now_ns()
    }

    /// Lets time pass, as a computation would. What happens meanwhile is seen by the next call.
    pub fn pass_ns(&self, ns: i64) {
        let mut world = self.lock();
        let now_ns = world.timeline.now_ns();
        world.timeline.advance_to(now_ns.saturating_add(ns));
    }

    /// A hash of every call and every result so far.
    pub fn trace(&self) -> u64 {
        let world = self.lock();
        world.trace ^ world.timeline.now_ns() as u64
    }

    /// Writes something of the program's into the hash of the run.
    pub fn note(&self, what: u64) {
        self.lock().note(what);
    }

    /// What the kernel's users did that nobody may; the list is empty afterwards.
    pub fn take_breaches(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().breaches)
    }

    /// Descriptors that are open.
    pub fn open_count(&self) -> usize {
        self.lock().open_count()
    }

    /// The faults end, and descriptors are without bound. Connections that are gone for good are
    /// found out within a second.
    pub fn calm(&self) {
        self.lock().calm();
    }

    /// The faults that are on.
    pub fn faults(&self) -> Faults {
        self.lock().chance.faults.clone()
    }

    /// Changes the faults.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().chance.faults = faults;
    }

    /// Calls that may fail, so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Writes down every call from now on.
    pub fn log_calls(&self) {
        self.lock().log = Some(Vec::new());
    }

    /// The calls that were written down.
    pub fn logged_calls(&self) -> Vec<Call> {
        self.lock().log.clone().unwrap_or_default()
    }

    /// Makes the call of this number, counted from 0, fail with this error, instead of being made, if
    /// it is one that may. May be said of several.
    pub fn fail_call(&self, number: u64, error_code: i32) {
        self.lock().failing.insert(number, error_code);
    }

    /// Lets another thread, simulated, do something at this time, if the loop waits then, or else
    /// during the first wait that follows.
    pub fn visit_at(&self, at_ns: i64, visit: impl FnOnce() + Send + 'static) {
        let mut world = self.lock();
        let order = world.next_visit;
        world.next_visit += 1;
        world.visits.insert((at_ns, order), Visit(Box::new(visit)));
    }

    /// Announces work on other threads that may wake the loop.
    pub fn outside_work(&self) -> OutsideWork {
        self.lock().outside += 1;
        OutsideWork { kernel: self.clone() }
    }

    /// Sets the link between two hosts, for connections that are made from now on.
    pub fn set_link(&self, from: IpAddr, to: IpAddr, link: Link) {
        self.lock().links.insert((from, to), link);
    }

    /// A port of a host that nobody listens on.
    pub fn free_address(&self, ip: IpAddr) -> SocketAddr {
        self.lock().free_address(ip)
    }
}

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
