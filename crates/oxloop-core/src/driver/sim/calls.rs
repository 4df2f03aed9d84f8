//! The calls of the simulated kernel: those of a driver, and those that make descriptors.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

use super::fault::{Call, Fault, error};
use super::poll::Poll;
use super::stream::Kind;
use super::timeline::Happening;
use super::world::{File, World};
use super::{FIRST_FD, LOCALHOST, Link, SimFd, SimKernel};
use crate::driver::kernel::Kernel;
use crate::sys::epoll::{Ctl, Event};
use crate::sys::socket::{AddressParts, SockAddr};

/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 65_507;

impl SimKernel {
    /// Makes a call, and notes how it ended.
    fn call<R: Copy>(
        &self,
        call: Call,
        action: impl FnOnce(&mut World) -> Result<R, i32>,
        weight: impl FnOnce(R) -> u64,
    ) -> io::Result<R> {
        let mut world = self.lock();
        let result = world.enter(call).and_then(|()| action(&mut world));
        let noted = match &result {
            Ok(value) => weight(*value),
            Err(code) => u64::from(code.unsigned_abs()) << 32,
        };
        world.note(noted);
        result.map_err(error)
    }

    fn made(
        &self,
        call: Call,
        make: impl FnOnce(&mut World) -> Result<RawFd, i32>,
    ) -> io::Result<SimFd> {
        self.call(call, make, |fd| fd as u64).map(|fd| self.fd(fd))
    }

    fn receive(
        &self,
        call: Call,
        fd: RawFd,
        buf: &mut [u8],
        wants_socket: bool,
    ) -> io::Result<usize> {
        let receive = |world: &mut World| {
            if world.is_socket(fd)? != wants_socket && wants_socket {
                return Err(libc::ENOTSOCK);
            }
            if let File::Datagram(socket) = world.file(fd)? {
                let count = socket.receive(buf)?.0;
                world.has_progress = true;
                return Ok(count);
            }
            let end = world.end(fd)?;
            let received = world.with_end(end, |connection, timeline, chance| {
                connection.receive(end.side, buf, timeline, chance)
            });
            let result = received.unwrap_or(Err(libc::ENOTCONN));
            world.has_progress |= !matches!(result, Ok(0) | Err(libc::EAGAIN));
            result
        };
        self.call(call, receive, |count| count as u64)
    }

    fn transmit(
        &self,
        call: Call,
        fd: RawFd,
        slices: &[&[u8]],
        wants_socket: bool,
    ) -> io::Result<usize> {
        let transmit = |world: &mut World| {
            if world.is_socket(fd)? != wants_socket && wants_socket {
                return Err(libc::ENOTSOCK);
            }
            if let File::Datagram(socket) = world.file(fd)? {
                let to = socket.peer.ok_or(libc::EDESTADDRREQ)?;
                return world.send_datagram(fd, slices.concat(), to);
            }
            let end = world.end(fd)?;
            let sent = world.with_end(end, |connection, timeline, chance| {
                connection.send(end.side, slices, timeline, chance)
            });
            let result = sent.unwrap_or(Err(libc::ENOTCONN));
            world.has_progress |= result != Err(libc::EAGAIN);
            result
        };
        self.call(call, transmit, |count| count as u64)
    }

    /// Listens on an address; port 0 is a free one. Connections wait in a queue of `backlog`.
    ///
    /// # Errors
    /// `AddrInUse`: somebody listens there.
    pub fn listen(&self, address: SocketAddr, backlog: usize) -> io::Result<SimFd> {
        self.made(Call::Socket, |world| world.listen(address, backlog))
    }

    /// Begins to connect a host to an address. The descriptor becomes writable once it is decided
    /// how that ended; [`take_error`](Self::take_error) says how.
    ///
    /// # Errors
    /// Those of chance (`ConnectFails`), as a connect that fails at once.
    pub fn connect(&self, from: IpAddr, to: SocketAddr) -> io::Result<SimFd> {
        self.made(Call::Connect, |world| {
            let local = world.free_address(from);
            let link = world.link_between(from, to.ip());
            let ends = world.connection_between(Kind::Socket, [local, to], link, false);
            let fd = world.open(File::End(ends[0]));
            if fd.is_err() {
                world.close_end(ends[0]);
            }
            let fd = fd?;
            let at_ns = world.timeline.now_ns() + link.latency_ns;
            world.timeline.schedule(at_ns, Happening::Asks(ends[0]));
            Ok(fd)
        })
    }

    /// Two connected sockets of one host.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn pair(&self, link: Link) -> io::Result<(SimFd, SimFd)> {
        self.two(Kind::Socket, link)
    }

    /// A pipe: the end to read from and the end to write to.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn pipe(&self) -> io::Result<(SimFd, SimFd)> {
        self.two(Kind::Pipe, Link::LOCAL).map(|(writes, reads)| (reads, writes))
    }

    fn two(&self, kind: Kind, link: Link) -> io::Result<(SimFd, SimFd)> {
        let mut world = self.lock();
        let addresses = [(); 2].map(|()| world.free_address(LOCALHOST));
        let ends = world.connection_between(kind, addresses, link, true);
        let first = world.open(File::End(ends[0])).map_err(error)?;
        match world.open(File::End(ends[1])) {
            Ok(second) => Ok((self.fd(first), self.fd(second))),
            Err(code) => {
                world.close(first);
                Err(error(code))
            }
        }
    }

    /// A datagram socket, bound to an address (port 0 is a free one), and connected to a peer.
    ///
    /// # Errors
    /// `AddrInUse`: somebody has bound it.
    pub fn datagram(&self, address: SocketAddr, peer: Option<SocketAddr>) -> io::Result<SimFd> {
        self.made(Call::Socket, |world| world.bind_datagram(address, peer))
    }

    /// Something that epoll cannot watch, as a regular file.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn regular_file(&self) -> io::Result<SimFd> {
        self.made(Call::Socket, |world| world.open(File::Regular))
    }

    /// The address of a socket's own end.
    ///
    /// # Errors
    /// It is not open, or no socket.
    pub fn local_address(&self, fd: RawFd) -> io::Result<SocketAddr> {
        let mut world = self.lock();
        let end = match world.file(fd).map_err(error)? {
            File::Listener(listener) => return Ok(listener.address),
            File::Datagram(socket) => return Ok(socket.address),
            File::End(end) => *end,
            _ => return Err(error(libc::ENOTSOCK)),
        };
        world.connection(end).map(|found| found.address(end.side)).ok_or(error(libc::ENOTCONN))
    }

    /// The address of a connected socket's other end.
    ///
    /// # Errors
    /// `NotConnected`: there is none.
    pub fn peer_address(&self, fd: RawFd) -> io::Result<SocketAddr> {
        let mut world = self.lock();
        let end = match world.file(fd).map_err(error)? {
            File::Datagram(socket) => return socket.peer.ok_or(error(libc::ENOTCONN)),
            File::End(end) => *end,
            _ => return Err(error(libc::ENOTCONN)),
        };
        let found = world.connection(end).filter(|found| found.is_connected(end.side));
        found.map(|found| found.address(1 - end.side)).ok_or(error(libc::ENOTCONN))
    }

    /// Fetches and clears the error of a socket (SO_ERROR): how a connect ended.
    ///
    /// # Errors
    /// It is not open, or not a connection.
    pub fn take_error(&self, fd: RawFd) -> io::Result<Option<io::Error>> {
        let mut world = self.lock();
        let end = world.end(fd).map_err(error)?;
        let code = world.with_end(end, |connection, _, _| connection.take_error(end.side));
        Ok(code.flatten().map(error))
    }

    /// Whether a connection that was begun stands.
    pub fn is_connected(&self, fd: RawFd) -> bool {
        let mut world = self.lock();
        let end = world.end(fd);
        end.is_ok_and(|end| {
            world.connection(end).is_some_and(|connection| connection.is_connected(end.side))
        })
    }

    /// Bounds the send buffers of a connection (SO_SNDBUF).
    ///
    /// # Errors
    /// It is not open, or not a connection.
    pub fn set_send_buffer_bytes(&self, fd: RawFd, bytes: usize) -> io::Result<()> {
        let mut world = self.lock();
        let end = world.end(fd).map_err(error)?;
        world.with_end(end, |connection, _, _| connection.set_send_buffer(bytes));
        Ok(())
    }

    /// Cuts the path of a connection: nothing arrives any more, and nobody is told for a long time.
    ///
    /// # Errors
    /// It is not open, or not a connection.
    pub fn vanish(&self, fd: RawFd) -> io::Result<()> {
        let mut world = self.lock();
        let end = world.end(fd).map_err(error)?;
        world.with_end(end, |connection, timeline, _| connection.vanish(timeline));
        Ok(())
    }

    /// Resets a connection, at both ends, at once.
    ///
    /// # Errors
    /// It is not open, or not a connection.
    pub fn reset(&self, fd: RawFd) -> io::Result<()> {
        let mut world = self.lock();
        let end = world.end(fd).map_err(error)?;
        world.with_end(end, |connection, _, _| {
            connection.break_end(0, libc::ECONNRESET);
            connection.break_end(1, libc::ECONNRESET);
        });
        Ok(())
    }

    /// Makes the number of `target` stand for what `source` stands for (dup2).
    ///
    /// # Errors
    /// One of them is not open.
    pub fn duplicate_onto(&self, source: &SimFd, target: &mut SimFd) -> io::Result<()> {
        self.lock().duplicate_onto(source.fd, target.fd).map_err(error)
    }
}

impl World {
    fn send_datagram(&mut self, fd: RawFd, bytes: Vec<u8>, to: SocketAddr) -> Result<usize, i32> {
        let File::Datagram(socket) = self.file(fd)? else { return Err(libc::ENOTSOCK) };
        if let Some(code) = socket.error.take() {
            return Err(code);
        }
        let (from, len_bytes) = (socket.address, bytes.len());
        if len_bytes > DATAGRAM_BYTES_MAX {
            return Err(libc::EMSGSIZE);
        }
        self.has_progress = true;
        let link = self.link_between(from.ip(), to.ip());
        let mut copies = 1;
        let mut late_ns = 0;
        if self.chance.strikes(Fault::Datagrams) {
            copies = self.chance.random.below(3);
            late_ns = self.chance.random.below(4_000_000) as i64;
        }
        let at_ns = self.timeline.now_ns() + link.latency_ns + link.takes_ns(len_bytes) + late_ns;
        for _ in 0..copies {
            let bytes = bytes.clone();
            self.timeline.schedule(at_ns, Happening::Datagram { to, from, bytes });
        }
        Ok(len_bytes)
    }
}

fn internet_address(address: &SockAddr) -> Result<SocketAddr, i32> {
    match address.parts() {
        AddressParts::V4(ip, port) => Ok(SocketAddr::from((ip, port))),
        AddressParts::V6 { ip, port, .. } => Ok(SocketAddr::from((ip, port))),
        _ => Err(libc::EAFNOSUPPORT),
    }
}

impl Kernel for SimKernel {
    type Fd = SimFd;

    fn first_fd(&self) -> RawFd {
        FIRST_FD
    }

    fn epoll_create(&self) -> io::Result<SimFd> {
        self.made(Call::EpollCreate, |world| world.open(File::Epoll(Poll::default())))
    }

    fn epoll_ctl(&self, epoll: RawFd, ctl: Ctl, fd: RawFd, mask: u32, data: u64) -> io::Result<()> {
        self.lock().epoll_ctl(epoll, ctl, fd, mask, data).map_err(error)
    }

    fn epoll_wait(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let in_ms = |timeout: Duration| {
            let ms = timeout.as_nanos().div_ceil(1_000_000);
            Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
        };
        self.wait(epoll, events, timeout.map(in_ms))
    }

    fn epoll_wait_ns(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        if self.lock().chance.strikes(Fault::OldKernel) {
            return Err(error(libc::ENOSYS));
        }
        self.wait(epoll, events, timeout)
    }

    fn eventfd(&self) -> io::Result<SimFd> {
        self.made(Call::Eventfd, |world| world.open(File::Counter { value: 0, writes: 0 }))
    }

    fn eventfd_add_one(&self, fd: RawFd) -> io::Result<()> {
        let add = |world: &mut World| match world.file(fd)? {
            File::Counter { value, writes } => {
                *value += 1;
                *writes += 1;
                world.has_progress = true;
                Ok(())
            }
            _ => Err(libc::EINVAL),
        };
        let result = self.call(Call::EventfdWrite, add, |()| 1);
        self.shared.woken.notify_all();
        result
    }

    fn eventfd_take(&self, fd: RawFd) -> io::Result<u64> {
        let take = |world: &mut World| match world.file(fd)? {
            File::Counter { value: 0, .. } => Err(libc::EAGAIN),
            File::Counter { value, .. } => Ok(std::mem::take(value)),
            _ => Err(libc::EINVAL),
        };
        self.call(Call::EventfdRead, take, |value| value)
    }

    fn read(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(Call::Read, fd, buf, false)
    }

    fn write(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        self.transmit(Call::Write, fd, &[bytes], false)
    }

    fn write_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &slice[..]).collect();
        self.transmit(Call::Write, fd, &slices, false)
    }

    fn recv(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
        self.receive(Call::Recv, fd, buf, true)
    }

    fn waiting_bytes(&self, fd: RawFd) -> io::Result<usize> {
        // It only looks: nothing happens, and nothing can interrupt it.
        let mut world = self.lock();
        let end = world.end(fd).map_err(error)?;
        let waiting = world.with_end(end, |connection, _, _| connection.waiting_bytes(end.side));
        waiting.ok_or_else(|| error(libc::ENOTCONN))
    }

    fn send(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        self.transmit(Call::Send, fd, &[bytes], true)
    }

    fn send_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let slices: Vec<&[u8]> = slices.iter().map(|slice| &slice[..]).collect();
        self.transmit(Call::Send, fd, &slices, true)
    }

    fn recv_from(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<(usize, SockAddr)> {
        let receive = |world: &mut World| {
            let File::Datagram(socket) = world.file(fd)? else { return Err(libc::ENOTSOCK) };
            let received = socket.receive(buf);
            world.has_progress |= received != Err(libc::EAGAIN);
            received
        };
        let (count, from) = self.call(Call::RecvFrom, receive, |(count, _)| count as u64)?;
        Ok((count, SockAddr::from(from)))
    }

    fn send_to(&self, fd: RawFd, bytes: &[u8], to: &SockAddr) -> io::Result<usize> {
        let send =
            |world: &mut World| world.send_datagram(fd, bytes.to_vec(), internet_address(to)?);
        self.call(Call::SendTo, send, |count| count as u64)
    }

    fn accept(&self, fd: RawFd) -> io::Result<(SimFd, SockAddr)> {
        let accept = |world: &mut World| {
            let File::Listener(listener) = world.file(fd)? else { return Err(libc::EINVAL) };
            let end = *listener.queue.front().ok_or(libc::EAGAIN)?;
            let is_aborted = world.chance.strikes(Fault::AcceptAborted);
            let accepted =
                if is_aborted { Err(libc::ECONNABORTED) } else { world.open(File::End(end)) };
            if accepted == Err(libc::EMFILE) {
                return Err(libc::EMFILE);
            }
            if let File::Listener(listener) = world.file(fd)? {
                listener.queue.pop_front();
            }
            world.has_progress = true;
            let peer = world.connection(end).map(|found| found.address(0));
            if accepted.is_err() {
                world.close_end(end);
            }
            Ok((accepted?, peer.ok_or(libc::ECONNABORTED)?))
        };
        let (accepted, peer) = self.call(Call::Accept, accept, |(fd, _)| fd as u64)?;
        Ok((self.fd(accepted), SockAddr::from(peer)))
    }

    fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        let shut = |world: &mut World| {
            let end = world.end(fd)?;
            let shut = world.with_end(end, |connection, timeline, chance| {
                connection.shutdown_write(end.side, timeline, chance)
            });
            shut.unwrap_or(Err(libc::ENOTCONN))
        };
        self.call(Call::Shutdown, shut, |()| 1)
    }
}
