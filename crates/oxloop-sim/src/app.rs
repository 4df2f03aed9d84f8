//! The application that runs on the simulated kernel: connections, timers, threads, datagrams.
//!
//! It is what the extension is to the core: a host that owns descriptors and streams and obeys the
//! core's rules to the letter, so that whatever goes wrong is the core's fault. Beside its work it
//! checks what it is promised, and writes down every breach.
//!
//! | file | subject |
//! |---|---|
//! | `app.rs` | what there is, and jobs, timers and completions by kind |
//! | `host.rs` | the core's side: order of jobs and timers, sleeping, other threads |
//! | `transport.rs` | one end of a connection |
//! | `watch.rs` | descriptors that somebody else owns |

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use oxloop_core::driver::sim::{Fault, Random, SimFd, SimKernel};
use oxloop_core::{
    AddressParts, Completion, Deadline, Descriptor, Driver, EventLoop, Op, Outcome, Side as OpSide,
    SockAddr, Submitted, TimerKey, Token, listener,
};

use crate::host::{Host, Job, Timer};
use crate::payload::{self, Origin};
use crate::program::Program;
use crate::transport::Transport;
use crate::watch::Watched;

/// What holds bytes to be sent.
pub type Chunk = Vec<u8>;

/// The client's host.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The server's host.
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

/// The connection number that datagrams carry.
const DATAGRAMS: Origin = Origin { connection: u16::MAX, side: 0 };
/// Offsets of a datagram's bytes begin at its number times this.
const DATAGRAM_STRIDE: usize = 4_096;
const DATAGRAM_BYTES_MAX: usize = 1_400;

/// A driver on a simulated kernel.
pub trait SimulatedDriver: Driver<Chunk> + Sized {
    /// A driver over a kernel with a read buffer of so many bytes.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    fn over(kernel: SimKernel, buffer_bytes: usize) -> io::Result<Self>;
}

/// Who gets completions.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// A listener, by number.
    Listener(usize),
    /// A client that connects, by the number of its connection.
    Connecting(usize),
    /// An end of a connection, by its place in `transports`.
    Transport(usize),
    /// The receiving datagram socket.
    Datagrams,
    /// A descriptor that is watched, by number.
    Watched(usize),
}

/// What a job does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// A transport begins.
    Begin(usize),
    /// A transport writes.
    Write(usize),
    /// A transport is lost.
    Lose(usize),
    /// A plan starts: its client connects.
    Connect(usize),
    /// A transport reads again.
    Resume(usize),
    /// A transport that closes and cannot send what is left gives up.
    GiveUp(usize),
    /// A listener accepts again.
    AcceptAgain(usize),
    /// An item from another thread.
    Injected(usize),
    /// A datagram is sent.
    SendDatagram(usize),
    /// A descriptor is watched again.
    Watch(usize, OpSide),
    /// The other end of a watched descriptor writes.
    PeerWrites(usize),
    /// The loop runs an iteration from within this one.
    Nest,
    /// Nothing; timers that are there to be counted and cancelled.
    Probe,
    /// The faults end.
    Calm,
}

/// What is known of one end of a connection, whether it has a transport or not.
#[derive(Clone, Copy, Default, Debug)]
pub struct Record {
    /// Bytes that the stream has taken.
    pub written: usize,
    /// Of these, bytes that it has given back unsent.
    pub dropped: usize,
    /// Bytes received.
    pub received: usize,
    /// There is a transport, or was.
    pub began: bool,
    /// It has ended its direction, or the connection.
    pub ended: bool,
}

struct Listening {
    fd: SimFd,
    token: Token,
    address: SocketAddr,
    /// An accept failed, and the rest is not over.
    rests: Cell<bool>,
}

struct Connecting {
    fd: SimFd,
    token: Token,
}

struct Datagrams {
    sender: SimFd,
    sending: Token,
    receiver: SimFd,
    receiving: Token,
    to: SockAddr,
    lengths: Vec<usize>,
    arrived: Vec<usize>,
}

/// See the module's text.
pub struct App<D: SimulatedDriver> {
    pub event_loop: EventLoop<Host<D>>,
    pub kernel: SimKernel,
    pub program: Program,
    pub random: RefCell<Random>,
    pub violations: RefCell<Vec<String>>,
    pub transports: RefCell<Vec<Transport>>,
    /// By the number of the connection: client, server.
    pub records: RefCell<Vec<[Record; 2]>>,
    listeners: RefCell<Vec<Listening>>,
    connecting: RefCell<HashMap<usize, Connecting>>,
    by_address: RefCell<HashMap<SocketAddr, usize>>,
    datagrams: RefCell<Option<Datagrams>>,
    pub watched: RefCell<Vec<Watched>>,
    /// Ends, timers, items and so on that are not finished; at 0 the run is over.
    pub pending: Cell<usize>,
    pub next_stamp: Cell<u64>,
    pub last_stamp: Cell<u64>,
    pub next_order: Cell<u64>,
    pub iteration: Cell<u64>,
    /// Live timers by deadline and order, with the iteration that made them and their key.
    pub live_timers: RefCell<BTreeMap<(Deadline, u64), (u64, TimerKey)>>,
    /// When each item of another thread was pushed; the first not yet run.
    pub pushed_ns: Arc<Mutex<Vec<i64>>>,
    /// Items that may still be pushed between the steps of an iteration.
    pub interlopes: Cell<usize>,
    pub next_injected: Cell<usize>,
    /// A call is made to fail that would not: errors need no cause.
    pub is_tortured: Cell<bool>,
}

impl<D: SimulatedDriver> App<D> {
    /// An application with its listeners.
    ///
    /// # Errors
    /// Those of the kernel, while the driver or a listener was made.
    pub fn new(program: Program, kernel: SimKernel) -> io::Result<Self> {
        let driver = D::over(kernel.clone(), program.buffer_bytes)?;
        let app = App {
            event_loop: EventLoop::new(driver),
            random: RefCell::new(Random::new(program.seed ^ 0x00d1_ce00)),
            violations: RefCell::default(),
            transports: RefCell::default(),
            records: RefCell::new(vec![[Record::default(); 2]; program.plans.len()]),
            listeners: RefCell::default(),
            connecting: RefCell::default(),
            by_address: RefCell::default(),
            datagrams: RefCell::default(),
            watched: RefCell::default(),
            pending: Cell::new(0),
            next_stamp: Cell::new(1),
            last_stamp: Cell::new(0),
            next_order: Cell::new(0),
            iteration: Cell::new(0),
            live_timers: RefCell::default(),
            pushed_ns: Arc::default(),
            interlopes: Cell::new(program.injected),
            next_injected: Cell::new(0),
            is_tortured: Cell::new(false),
            kernel,
            program,
        };
        app.pending.set(app.program.injected);
        Ok(app)
    }

    /// Sets everything in motion.
    ///
    /// # Errors
    /// Those of the kernel, for the listeners and datagram sockets.
    pub fn start(&self) -> io::Result<()> {
        for number in 0..self.program.listeners {
            let fd = self.kernel.listen(SocketAddr::new(SERVER, 0), 8)?;
            let address = self.kernel.local_address(fd.as_raw_fd())?;
            let token = self.event_loop.add_source(fd.as_raw_fd(), Source::Listener(number))?;
            self.listeners.borrow_mut().push(Listening {
                fd,
                token,
                address,
                rests: Cell::new(false),
            });
            self.accept(number);
        }
        if self.program.datagrams > 0 {
            self.open_datagrams()?;
        }
        for number in 0..self.program.watched {
            self.open_watched(number)?;
        }
        self.add_timer_in(self.program.faulty_ns, Work::Calm);
        for (number, plan) in self.program.plans.iter().enumerate() {
            self.add_timer_in(plan.starts_ns, Work::Connect(number));
        }
        for number in 0..self.program.datagrams {
            let in_ns = self.below(20_000_000) as i64;
            self.add_timer_in(in_ns, Work::SendDatagram(number));
        }
        for _ in 0..self.program.injected {
            self.kernel.visit_at(self.below(100_000_000) as i64, self.pusher());
        }
        for _ in 0..self.program.timers {
            let in_ns = self.random.borrow_mut().magnitude(0, 100_000_000) as i64;
            self.add_timer_in(in_ns, Work::Probe);
        }
        Ok(())
    }

    /// Writes a breach of a promise down.
    pub fn violation(&self, text: impl Into<String>) {
        let text = format!("at {} ns: {}", self.kernel.now_ns(), text.into());
        self.violations.borrow_mut().push(text);
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().below(bound)
    }

    pub fn chance(&self, times: u16) -> bool {
        self.random.borrow_mut().chance(times)
    }

    /// Something begins that must come to an end.
    pub fn began(&self) {
        self.pending.set(self.pending.get() + 1);
    }

    pub fn ended(&self) {
        match self.pending.get().checked_sub(1) {
            Some(pending) => self.pending.set(pending),
            None => self.violation("something ended twice"),
        }
    }

    /// Queues a job.
    pub fn push(&self, work: Work) {
        let job = self.stamped(work);
        self.event_loop.push(job);
    }

    pub fn stamped(&self, work: Work) -> Job {
        let stamp = self.next_stamp.get();
        self.next_stamp.set(stamp + 1);
        Job { stamp, work }
    }

    /// Sets a timer.
    pub fn add_timer_in(&self, in_ns: i64, work: Work) {
        let deadline = Deadline(self.kernel.now_ns().saturating_add(in_ns));
        let order = self.next_order.get();
        self.next_order.set(order + 1);
        let key = self.event_loop.add_timer(deadline, Timer { deadline, order, work });
        self.live_timers.borrow_mut().insert((deadline, order), (self.iteration.get(), key));
        self.began();
    }

    /// Cancels one of the probes, if there is one.
    fn cancel_a_timer(&self) {
        let live: Vec<_> =
            self.live_timers.borrow().iter().map(|(at, made)| (*at, *made)).collect();
        let Some((at, (_, key))) = self.random.borrow_mut().pick(&live).copied() else { return };
        let known = self.event_loop.timers.borrow().get(key).map(|(_, timer)| timer.work);
        if known != Some(Work::Probe) {
            return;
        }
        match self.event_loop.remove_timer(key) {
            Some(timer) if (timer.deadline, timer.order) == at => {
                self.live_timers.borrow_mut().remove(&at);
                self.ended();
            }
            other => self.violation(format!("cancelling a timer took another: {other:?}")),
        }
    }

    /// Does the work of a job or a timer.
    pub fn work(&self, work: Work) {
        match work {
            Work::Begin(place) => self.begin(place),
            Work::Write(place) => self.write(place),
            Work::Lose(place) => self.lose(place),
            Work::Resume(place) => self.resume_reading(place),
            Work::GiveUp(place) => self.give_up(place),
            Work::Connect(number) => self.connect(number),
            Work::AcceptAgain(number) => self.accept(number),
            Work::Injected(number) => self.injected_ran(number),
            Work::SendDatagram(number) => self.send_datagram(number),
            Work::Watch(number, side) => self.watch(number, side),
            Work::PeerWrites(number) => self.peer_writes(number),
            Work::Probe => {
                if self.chance(5_000) {
                    self.cancel_a_timer();
                }
                if self.chance(1_000) {
                    self.began();
                    self.push(Work::Nest);
                }
            }
            // The host has done it.
            Work::Nest => self.ended(),
            Work::Calm => self.kernel.calm(),
        }
    }

    /// A completion for one of the sources.
    pub fn deliver(&self, source: Source, completion: Completion<Chunk>) {
        let token = completion.token;
        match (source, completion.outcome) {
            (Source::Transport(place), outcome) => self.transport_completed(place, token, outcome),
            (Source::Listener(number), Outcome::Accepted(Ok((fd, peer)))) => {
                self.expect_awake(number);
                self.welcome(fd, &peer);
            }
            (Source::Listener(number), Outcome::Accepted(Err(error))) => self.rest(number, &error),
            (Source::Connecting(number), Outcome::Writable) => self.connected(number),
            (Source::Watched(number), outcome) => self.watched_ready(number, &outcome),
            (Source::Datagrams, Outcome::ReceivedFrom(result)) => self.datagram_arrived(result),
            // A completion that comes for a source of another kind is dropped, as the extension does.
            _ => {}
        }
    }

    fn accept(&self, number: usize) {
        let Some(token) = self.listeners.borrow().get(number).map(|listener| {
            listener.rests.set(false);
            listener.token
        }) else {
            return;
        };
        let armed = self.event_loop.driver.borrow_mut().submit(token, Op::Accept);
        if armed.is_err() {
            self.add_timer_in(10_000_000, Work::AcceptAgain(number));
        }
    }

    /// Descriptors or memory ran out: the listener rests.
    fn rest(&self, number: usize, error: &io::Error) {
        if error.kind() == io::ErrorKind::WouldBlock {
            self.violation("an accept that would block was reported");
        }
        let Some(token) = self.listeners.borrow().get(number).map(|listener| listener.token) else {
            return;
        };
        self.expect_awake(number);
        let driver = &self.event_loop.driver;
        let Some(rest) = listener::rest_after(&mut *driver.borrow_mut(), token, error) else {
            // Told; the listener accepts on.
            return;
        };
        self.listeners.borrow()[number].rests.set(true);
        self.add_timer_in(rest.as_nanos() as i64, Work::AcceptAgain(number));
    }

    /// A listener that rests accepts nothing, and fails no more.
    fn expect_awake(&self, number: usize) {
        if self.listeners.borrow().get(number).is_some_and(|listener| listener.rests.get()) {
            self.violation("a listener that rests was answered");
        }
    }

    fn welcome(&self, fd: Descriptor, peer: &SockAddr) {
        let known = match peer.parts() {
            AddressParts::V4(ip, port) => {
                self.by_address.borrow().get(&SocketAddr::from((ip, port))).copied()
            }
            _ => None,
        };
        let Some(number) = known else {
            self.violation(format!("accepted a connection from {peer:?}, who did not connect"));
            return;
        };
        self.kernel.note(number as u64);
        self.open(number, 1, fd);
    }

    fn connect(&self, number: usize) {
        let address = {
            let listeners = self.listeners.borrow();
            let Some(listener) = listeners.get(self.program.plans[number].listener) else { return };
            listener.address
        };
        let Ok(fd) = self.kernel.connect(CLIENT, address) else { return };
        let Ok(local) = self.kernel.local_address(fd.as_raw_fd()) else { return };
        self.by_address.borrow_mut().insert(local, number);
        let source = Source::Connecting(number);
        let Ok(token) = self.event_loop.add_source(fd.as_raw_fd(), source) else { return };
        let armed = self.event_loop.driver.borrow_mut().submit(token, Op::PollWrite);
        if armed.is_err() {
            let _ = self.event_loop.remove_source(token);
            return;
        }
        self.began();
        self.connecting.borrow_mut().insert(number, Connecting { fd, token });
    }

    fn connected(&self, number: usize) {
        let Some((raw, token)) = self
            .connecting
            .borrow()
            .get(&number)
            .map(|connecting| (connecting.fd.as_raw_fd(), connecting.token))
        else {
            self.violation("a connect was answered that is over");
            return;
        };
        let is_connected = self.kernel.is_connected(raw);
        let failed = matches!(self.kernel.take_error(raw), Ok(Some(_)));
        if !is_connected && !failed {
            return;
        }
        if self.event_loop.remove_source(token).is_none() {
            self.violation("a source was gone before it was removed");
        }
        let connecting = self.connecting.borrow_mut().remove(&number);
        self.ended();
        if let (Some(connecting), false) = (connecting, failed) {
            self.open(number, 0, connecting.fd.into());
        }
    }

    fn open_datagrams(&self) -> io::Result<()> {
        let to = SocketAddr::new(SERVER, 53);
        let sender = self.kernel.datagram(SocketAddr::new(CLIENT, 53), None)?;
        let receiver = self.kernel.datagram(to, None)?;
        let sending = self.event_loop.add_source(sender.as_raw_fd(), Source::Datagrams)?;
        let receiving = self.event_loop.add_source(receiver.as_raw_fd(), Source::Datagrams);
        let receiving = match receiving {
            Ok(receiving) => receiving,
            Err(error) => {
                let _ = self.event_loop.remove_source(sending);
                return Err(error);
            }
        };
        let armed = self.event_loop.driver.borrow_mut().submit(receiving, Op::RecvFrom);
        let is_armed = matches!(armed, Ok(Submitted::Pending));
        let lengths = vec![0; self.program.datagrams];
        let arrived = lengths.clone();
        let to = SockAddr::from(to);
        let made = Datagrams { sender, sending, receiver, receiving, to, lengths, arrived };
        self.datagrams.replace(Some(made));
        if is_armed { Ok(()) } else { Err(io::ErrorKind::OutOfMemory.into()) }
    }

    fn send_datagram(&self, number: usize) {
        let mut datagrams = self.datagrams.borrow_mut();
        let Some(datagrams) = datagrams.as_mut() else { return };
        let len_bytes = 8 + self.below(DATAGRAM_BYTES_MAX as u64 - 8) as usize;
        let bytes = payload::make(DATAGRAMS, number * DATAGRAM_STRIDE, len_bytes);
        let mut driver = self.event_loop.driver.borrow_mut();
        // What is not sent is lost, as datagrams may be.
        if let Ok(sent_bytes) = driver.try_send_to(datagrams.sending, &bytes, &datagrams.to) {
            if sent_bytes != len_bytes {
                self.violation("a datagram was cut");
            }
            datagrams.lengths[number] = len_bytes;
        }
    }

    fn datagram_arrived(&self, result: io::Result<(usize, Box<SockAddr>)>) {
        let Ok((len_bytes, _)) = result else { return };
        let bytes = self.event_loop.driver.borrow().received().to_vec();
        let mut datagrams = self.datagrams.borrow_mut();
        let Some(datagrams) = datagrams.as_mut() else { return };
        let first = bytes.first_chunk::<8>().and_then(|first| payload::decode(*first));
        let Some((DATAGRAMS, offset)) = first else {
            self.violation("a datagram of somebody else's bytes");
            return;
        };
        let number = offset / DATAGRAM_STRIDE;
        let expected = datagrams.lengths.get(number).copied().unwrap_or(0);
        let wanted = expected.min(self.program.buffer_bytes);
        if len_bytes != bytes.len() || len_bytes != wanted || offset % DATAGRAM_STRIDE != 0 {
            self.violation(format!("datagram {number} has {len_bytes} bytes instead of {wanted}"));
        }
        if let Err(text) = payload::check(DATAGRAMS, offset, &bytes) {
            self.violation(text);
        }
        let Some(arrived) = datagrams.arrived.get_mut(number) else { return };
        *arrived += 1;
        if *arrived > 1 && self.program.faults.rate(Fault::Datagrams) == 0 {
            self.violation(format!("datagram {number} arrived {arrived} times"));
        }
    }

    /// What is left when everything is over: the listeners and datagram sockets.
    pub fn stop(&self) {
        let tokens: Vec<Token> =
            self.listeners.borrow().iter().map(|listener| listener.token).collect();
        let datagrams = self.datagrams.take();
        let of_datagrams =
            datagrams.iter().flat_map(|datagrams| [datagrams.sending, datagrams.receiving]);
        for token in tokens.into_iter().chain(of_datagrams) {
            if self.event_loop.remove_source(token).is_none() {
                self.violation("a source was gone before it was removed");
            }
        }
        self.drop_watched();
        let listeners = self.listeners.take();
        listeners.into_iter().for_each(|listener| drop(listener.fd));
        datagrams.into_iter().for_each(|datagrams| drop((datagrams.sender, datagrams.receiver)));
    }

    /// What has not come to an end, for a report.
    pub fn unfinished(&self) -> String {
        let transports = self.transports.borrow();
        let open = transports.iter().filter(|transport| !transport.is_lost());
        let names: Vec<String> = open.map(Transport::describe).collect();
        let connecting: Vec<_> = self.connecting.borrow().keys().copied().collect();
        format!(
            "{} pending: connecting {connecting:?}, {} timers, {} items ran, open: {}",
            self.pending.get(),
            self.live_timers.borrow().len(),
            self.next_injected.get(),
            names.join("; ")
        )
    }
}
