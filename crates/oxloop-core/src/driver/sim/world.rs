//! Everything that a simulated kernel holds: clock, descriptors, sockets, and the order of events.
//!
//! Numbers of descriptors are given out lowest first, as POSIX asks, so that a number is reused at
//! once. Files are counted; the last number that goes takes the file along, and with it what epoll
//! instances watched of it.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use super::datagram::DatagramSocket;
use super::fault::{Call, Fault};
use super::poll::Poll;
use super::stream::{Chance, Connection, Kind};
use super::timeline::{EndId, Happening, Timeline};
use super::{FIRST_FD, Link, SimConfig};
use crate::sys::epoll;

/// A request for a connection that finds the queue full is made again after so long.
const ASKS_AGAIN_NS: i64 = 1_000_000_000;

/// Waits in a row that may end at once without anything having been done since.
const IDLE_WAKES_MAX: u32 = 64;

/// What a number stands for.
#[derive(Debug)]
pub(super) enum File {
    Epoll(Poll),
    /// An eventfd: its counter, and how often it was written.
    Counter {
        value: u64,
        writes: u64,
    },
    Listener(Listener),
    End(EndId),
    Datagram(DatagramSocket),
    /// Something that epoll cannot watch.
    Regular,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    backlog: usize,
    pub(super) queue: VecDeque<EndId>,
}

#[derive(Debug)]
struct Held {
    file: File,
    numbers: usize,
}

/// What another thread does at some time, while the loop waits.
pub(super) struct Visit(pub(super) Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Visit")
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct World {
    pub(super) config: SimConfig,
    pub(super) chance: Chance,
    pub(super) timeline: Timeline,
    numbers: Vec<Option<usize>>,
    files: Vec<Option<Held>>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    listeners: BTreeMap<SocketAddr, usize>,
    datagrams: BTreeMap<SocketAddr, usize>,
    pub(super) links: BTreeMap<(IpAddr, IpAddr), Link>,
    next_port: u16,
    /// Calls so far that may fail, and which they were if somebody wants to know.
    pub(super) calls: u64,
    pub(super) log: Option<Vec<Call>>,
    /// The numbers of the calls that fail, and with what.
    pub(super) failing: BTreeMap<u64, i32>,
    pub(super) trace: u64,
    pub(super) breaches: Vec<String>,
    /// What other threads do, by time and order.
    pub(super) visits: BTreeMap<(i64, u64), Visit>,
    pub(super) next_visit: u64,
    /// Work outside the simulation that may wake it; the clock stands still meanwhile.
    pub(super) outside: usize,
    /// Whether anything was done since the last wait, and how many ended in vain in a row.
    pub(super) has_progress: bool,
    idle_wakes: u32,
}

impl World {
    pub(super) fn new(config: SimConfig) -> Self {
        let random = super::random::Random::new(config.seed);
        World {
            chance: Chance { random, faults: config.faults.clone() },
            config,
            timeline: Timeline::default(),
            numbers: Vec::new(),
            files: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            listeners: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            links: BTreeMap::new(),
            next_port: 32_768,
            calls: 0,
            log: None,
            failing: BTreeMap::new(),
            trace: 0,
            breaches: Vec::new(),
            visits: BTreeMap::new(),
            next_visit: 0,
            outside: 0,
            has_progress: true,
            idle_wakes: 0,
        }
    }

    /// Writes something into the hash of the run.
    #[inline]
    pub(super) fn note(&mut self, what: u64) {
        self.trace = (self.trace.rotate_left(5) ^ what).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// The beginning of every call: time passes, and the call may fail by its number or by chance.
    pub(super) fn enter(&mut self, call: Call) -> Result<(), i32> {
        self.note(call as u64);
        if call == Call::Close {
            return Ok(());
        }
        if self.config.call_ns_max > 0 {
            let took_ns = self.chance.random.below(self.config.call_ns_max) as i64;
            self.timeline.advance_to(self.timeline.now_ns() + took_ns);
        }
        self.settle();
        let number = self.calls;
        self.calls += 1;
        if let Some(log) = &mut self.log {
            log.push(call);
        }
        match self.failing.get(&number) {
            Some(code) if call.plausible_errors().contains(code) => Err(*code),
            _ => self.misfortune(call),
        }
    }

    /// What chance makes of a call before it does anything.
    fn misfortune(&mut self, call: Call) -> Result<(), i32> {
        let chance = &mut self.chance;
        let mut pick = |fault, codes: &[i32]| match chance.strikes(fault) {
            true => Err(*chance.random.pick(codes).unwrap_or(&libc::EINTR)),
            false => Ok(()),
        };
        match call {
            Call::EpollAdd => pick(Fault::WatchResources, &[libc::ENOMEM, libc::ENOSPC]),
            Call::Recv | Call::Read | Call::RecvFrom => {
                pick(Fault::Interrupted, &[libc::EINTR])?;
                pick(Fault::ReceiveResources, &[libc::ENOMEM, libc::ENOBUFS])
            }
            Call::Send | Call::Write | Call::SendTo => {
                pick(Fault::Interrupted, &[libc::EINTR])?;
                pick(Fault::SendResources, &[libc::ENOMEM, libc::ENOBUFS])
            }
            Call::Accept => {
                pick(Fault::Interrupted, &[libc::EINTR])?;
                let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
                pick(Fault::AcceptResources, &codes)
            }
            Call::Connect => {
                let codes = [libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH];
                pick(Fault::ConnectFails, &codes)
            }
            Call::EpollWait | Call::EventfdWrite => pick(Fault::Interrupted, &[libc::EINTR]),
            _ => Ok(()),
        }
    }

    /// Lets everything happen that is due.
    pub(super) fn settle(&mut self) {
        while let Some(happening) = self.timeline.pop_due() {
            let now_ns = self.timeline.now_ns();
            match happening {
                Happening::Arrives(to) => {
                    self.with_end(to, |connection, timeline, chance| {
                        connection.arrive(to.side, timeline, chance);
                    });
                }
                Happening::Connects(end) => {
                    self.with_end(end, |connection, _, _| connection.set_connected(end.side));
                }
                Happening::Breaks(end, code) => {
                    self.with_end(end, |connection, _, _| {
                        connection.break_end(end.side, code);
                    });
                }
                Happening::Asks(client) => self.ask(client),
                Happening::Datagram { to, from, bytes } => match self.datagram_at(to) {
                    Some(socket) => socket.arrive(bytes, from),
                    None => self.timeline.schedule(now_ns, Happening::Unreachable(from, to)),
                },
                Happening::Unreachable(sender, to) => {
                    if let Some(socket) = self.datagram_at(sender) {
                        if socket.peer == Some(to) {
                            socket.error = Some(libc::ECONNREFUSED);
                        }
                    }
                }
            }
        }
    }

    fn datagram_at(&mut self, address: SocketAddr) -> Option<&mut DatagramSocket> {
        let place = *self.datagrams.get(&address)?;
        match &mut self.files[place].as_mut()?.file {
            File::Datagram(socket) => Some(socket),
            _ => None,
        }
    }

    /// A request for a connection arrives where somebody listens, or nobody does.
    fn ask(&mut self, client: EndId) {
        let Some(connection) = self.connections.get(&client.connection) else { return };
        let (address, link) = (connection.address(1), connection.link());
        let now_ns = self.timeline.now_ns();
        let listener = match self.listeners.get(&address).map(|place| &mut self.files[*place]) {
            Some(Some(Held { file: File::Listener(listener), .. })) => listener,
            _ => {
                let breaks = Happening::Breaks(client, libc::ECONNREFUSED);
                self.timeline.schedule(now_ns + link.latency_ns, breaks);
                return;
            }
        };
        if listener.queue.len() >= listener.backlog {
            self.timeline.schedule(now_ns + ASKS_AGAIN_NS, Happening::Asks(client));
            return;
        }
        listener.queue.push_back(client.other());
        self.with_end(client.other(), |connection, _, _| {
            connection.set_open(1);
            connection.set_connected(1);
        });
        self.timeline.schedule(now_ns + link.latency_ns, Happening::Connects(client));
    }

    /// Does something to a connection, if it is there still, and forgets it when nobody has it.
    pub(super) fn with_end<R>(
        &mut self,
        end: EndId,
        action: impl FnOnce(&mut Connection, &mut Timeline, &mut Chance) -> R,
    ) -> Option<R> {
        let connection = self.connections.get_mut(&end.connection)?;
        let result = action(connection, &mut self.timeline, &mut self.chance);
        if connection.is_gone() {
            self.connections.remove(&end.connection);
        }
        Some(result)
    }

    /// Gives out the lowest free number for a file. EMFILE when there are too many.
    pub(super) fn open(&mut self, file: File) -> Result<RawFd, i32> {
        let place = match self.files.iter().position(Option::is_none) {
            Some(place) => place,
            None => {
                self.files.push(None);
                self.files.len() - 1
            }
        };
        let number = self.number_for(place)?;
        self.files[place] = Some(Held { file, numbers: 1 });
        Ok(number)
    }

    fn number_for(&mut self, place: usize) -> Result<RawFd, i32> {
        let free = self.numbers.iter().position(Option::is_none).unwrap_or(self.numbers.len());
        if free >= self.config.numbers_max {
            return Err(libc::EMFILE);
        }
        if free == self.numbers.len() {
            self.numbers.push(None);
        }
        self.numbers[free] = Some(place);
        self.note(free as u64);
        Ok(FIRST_FD + free as RawFd)
    }

    fn index(fd: RawFd) -> Option<usize> {
        usize::try_from(fd.checked_sub(FIRST_FD)?).ok()
    }

    /// The file behind a number. EBADF, and a breach, if there is none.
    pub(super) fn place(&mut self, fd: RawFd) -> Result<usize, i32> {
        match Self::index(fd).and_then(|index| self.numbers.get(index)) {
            Some(Some(place)) => Ok(*place),
            _ => {
                self.breaches.push(format!("a call with {fd}, which is not open"));
                Err(libc::EBADF)
            }
        }
    }

    pub(super) fn file(&mut self, fd: RawFd) -> Result<&mut File, i32> {
        let place = self.place(fd)?;
        match &mut self.files[place] {
            Some(held) => Ok(&mut held.file),
            None => Err(libc::EBADF),
        }
    }

    pub(super) fn file_at(&self, place: usize) -> Option<&File> {
        self.files.get(place)?.as_ref().map(|held| &held.file)
    }

    /// The end of a connection behind a number. ENOTSOCK if it is something else.
    pub(super) fn end(&mut self, fd: RawFd) -> Result<EndId, i32> {
        match self.file(fd)? {
            File::End(end) => Ok(*end),
            File::Listener(_) => Err(libc::ENOTCONN),
            _ => Err(libc::ENOTSOCK),
        }
    }

    pub(super) fn file_at_mut(&mut self, place: usize) -> Option<&mut File> {
        self.files.get_mut(place)?.as_mut().map(|held| &mut held.file)
    }

    pub(super) fn connection(&self, end: EndId) -> Option<&Connection> {
        self.connections.get(&end.connection)
    }

    /// Whether the file behind a number is a socket.
    pub(super) fn is_socket(&mut self, fd: RawFd) -> Result<bool, i32> {
        let end = match self.file(fd)? {
            File::End(end) => *end,
            File::Listener(_) | File::Datagram(_) => return Ok(true),
            _ => return Ok(false),
        };
        Ok(self.connection(end).is_none_or(|connection| connection.kind == Kind::Socket))
    }

    /// Makes `target` stand for what `source` stands for; what it stood for before is closed.
    pub(super) fn duplicate_onto(&mut self, source: RawFd, target: RawFd) -> Result<(), i32> {
        let place = self.place(source)?;
        self.place(target)?;
        if let Some(held) = &mut self.files[place] {
            held.numbers += 1;
        }
        let former = Self::index(target).and_then(|index| self.numbers[index].replace(place));
        former.into_iter().for_each(|former| self.let_go(former));
        Ok(())
    }

    /// Closes a number.
    pub(super) fn close(&mut self, fd: RawFd) {
        self.note(fd as u64);
        let place = Self::index(fd).and_then(|index| self.numbers.get_mut(index)?.take());
        let Some(place) = place else {
            self.breaches.push(format!("{fd} was closed, and is not open"));
            return;
        };
        for held in self.files.iter().flatten() {
            if let File::Epoll(poll) = &held.file {
                let is_drivers_own = matches!(self.file_at(place), Some(File::Counter { .. }));
                if !is_drivers_own && poll.watches(fd, place) {
                    self.breaches.push(format!("{fd} was closed while a driver watched it"));
                    break;
                }
            }
        }
        self.let_go(place);
    }

    /// A number of a file is gone; the last takes the file along.
    fn let_go(&mut self, place: usize) {
        let Some(held) = &mut self.files[place] else { return };
        held.numbers -= 1;
        if held.numbers > 0 {
            return;
        }
        let file = self.files[place].take().map(|held| held.file);
        for held in self.files.iter_mut().flatten() {
            if let File::Epoll(poll) = &mut held.file {
                poll.forget(place, &mut self.chance);
            }
        }
        match file {
            Some(File::End(end)) => self.close_end(end),
            Some(File::Listener(listener)) => {
                self.listeners.remove(&listener.address);
                listener.queue.into_iter().for_each(|end| {
                    let reset = |connection: &mut Connection| {
                        connection.break_end(0, libc::ECONNRESET);
                    };
                    self.with_end(end, |connection, _, _| reset(connection));
                    self.close_end(end);
                });
            }
            Some(File::Datagram(socket)) => drop(self.datagrams.remove(&socket.address)),
            _ => {}
        }
    }

    pub(super) fn close_end(&mut self, end: EndId) {
        self.with_end(end, |connection, timeline, chance| {
            connection.close(end.side, timeline, chance);
        });
    }

    /// Numbers that are open.
    pub(super) fn open_count(&self) -> usize {
        self.numbers.iter().flatten().count()
    }

    /// An address of a host that nobody uses.
    pub(super) fn free_address(&mut self, ip: IpAddr) -> SocketAddr {
        loop {
            let address = SocketAddr::new(ip, self.next_port);
            self.next_port = self.next_port.checked_add(1).unwrap_or(32_768);
            let is_taken =
                self.listeners.contains_key(&address) || self.datagrams.contains_key(&address);
            if !is_taken {
                return address;
            }
        }
    }

    /// The link between two hosts.
    pub(super) fn link_between(&self, from: IpAddr, to: IpAddr) -> Link {
        let known = self.links.get(&(from, to)).or_else(|| self.links.get(&(to, from)));
        *known.unwrap_or(&self.config.link)
    }

    /// A new connection; its ends have no numbers yet.
    pub(super) fn connection_between(
        &mut self,
        kind: Kind,
        addresses: [SocketAddr; 2],
        link: Link,
        is_connected: bool,
    ) -> [EndId; 2] {
        let number = self.next_connection;
        self.next_connection += 1;
        let made = Connection::new(number, kind, addresses, link, is_connected);
        self.connections.insert(number, made);
        [0, 1].map(|side| EndId { connection: number, side })
    }

    /// Listens. EADDRINUSE if somebody does.
    pub(super) fn listen(&mut self, address: SocketAddr, backlog: usize) -> Result<RawFd, i32> {
        let address = match address.port() {
            0 => self.free_address(address.ip()),
            _ => address,
        };
        if self.listeners.contains_key(&address) {
            return Err(libc::EADDRINUSE);
        }
        let queue = VecDeque::new();
        let fd = self.open(File::Listener(Listener { address, backlog: backlog.max(1), queue }))?;
        let place = self.place(fd)?;
        self.listeners.insert(address, place);
        Ok(fd)
    }

    /// Binds a datagram socket. EADDRINUSE if somebody did.
    pub(super) fn bind_datagram(
        &mut self,
        address: SocketAddr,
        peer: Option<SocketAddr>,
    ) -> Result<RawFd, i32> {
        let address = match address.port() {
            0 => self.free_address(address.ip()),
            _ => address,
        };
        if self.datagrams.contains_key(&address) {
            return Err(libc::EADDRINUSE);
        }
        let room_bytes = self.config.link.receive_buffer_bytes.max(64 * 1024);
        let fd = self.open(File::Datagram(DatagramSocket::new(address, peer, room_bytes)))?;
        let place = self.place(fd)?;
        self.datagrams.insert(address, place);
        Ok(fd)
    }

    /// What epoll would report of a file now; for an eventfd with its number of writes.
    pub(super) fn readiness(&self, place: usize) -> (u32, u64) {
        match self.file_at(place) {
            Some(File::End(end)) => {
                (self.connection(*end).map_or(0, |connection| connection.readiness(end.side)), 0)
            }
            Some(File::Listener(listener)) if !listener.queue.is_empty() => (epoll::IN, 0),
            Some(File::Datagram(socket)) => (socket.readiness(), 0),
            Some(File::Counter { value, writes }) if *value > 0 => (epoll::IN, *writes),
            _ => (0, 0),
        }
    }

    /// The faults end, and there are descriptors enough; what they broke for good is found out soon.
    pub(super) fn calm(&mut self) {
        const SOON_NS: i64 = 1_000_000_000;
        self.chance.faults = super::Faults::none();
        self.config.numbers_max = usize::MAX;
        for connection in self.connections.values_mut() {
            connection.give_up(&mut self.timeline, SOON_NS);
        }
    }

    /// A wait is about to return this many events; says so if waits go on returning in vain.
    pub(super) fn note_wake(&mut self, events: usize, has_slept: bool) {
        if events == 0 || has_slept || self.has_progress {
            self.idle_wakes = 0;
        } else {
            self.idle_wakes += 1;
            if self.idle_wakes == IDLE_WAKES_MAX {
                self.breaches.push(format!("{IDLE_WAKES_MAX} waits in a row ended in vain: spin"));
            }
        }
        self.has_progress = false;
    }
}
