//! The system calls that `std` does not offer: a non-blocking connect, epoll, and the CPU time of
//! another process. All the unsafe code of the crate is here.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

const SOCKADDR_LEN: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

fn sockaddr(ip: Ipv4Addr, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(ip).to_be() },
        sin_zero: [0; 8],
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Starts a TCP connection without waiting for it; the socket is writable once it is made.
///
/// `source` is the local address to come from: with a connection per request one address has too
/// few ports, as each used one waits in TIME_WAIT. The port is chosen at connect, not at bind, so
/// that ports can be shared between peers.
pub fn connect(addr: SocketAddrV4, source: Option<Ipv4Addr>) -> io::Result<TcpStream> {
    let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let raw = check(unsafe { libc::socket(libc::AF_INET, flags, 0) })?;
    // SAFETY: the descriptor is new, valid, and owned by nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(raw) };
    if let Some(ip) = source {
        let on: libc::c_int = 1;
        // SAFETY: `on` lives through the call and its length is given.
        check(unsafe {
            libc::setsockopt(
                raw,
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                size_of_val(&on) as libc::socklen_t,
            )
        })?;
        let local = sockaddr(ip, 0);
        // SAFETY: `local` is a sockaddr_in that lives through the call; its length is given.
        check(unsafe { libc::bind(raw, (&raw const local).cast(), SOCKADDR_LEN) })?;
    }
    let peer = sockaddr(*addr.ip(), addr.port());
    // SAFETY: `peer` is a sockaddr_in that lives through the call; its length is given.
    match check(unsafe { libc::connect(raw, (&raw const peer).cast(), SOCKADDR_LEN) }) {
        Ok(_) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let stream = TcpStream::from(fd);
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Which readiness a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    ReadWrite,
}

impl Interest {
    fn bits(self) -> u32 {
        let read = libc::EPOLLIN | libc::EPOLLRDHUP;
        let both = read | libc::EPOLLOUT;
        (if self == Interest::Read { read } else { both }) as u32
    }
}

/// A level-triggered epoll set; tokens are the caller's numbers.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers are passed.
        let raw = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor is new, valid, and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        Ok(Epoll { fd, events: Vec::with_capacity(1024) })
    }

    pub fn add(&self, stream: &TcpStream, token: usize, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, stream, token, interest)
    }

    pub fn modify(&self, stream: &TcpStream, token: usize, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, stream, token, interest)
    }

    fn control(
        &self,
        verb: libc::c_int,
        stream: &TcpStream,
        token: usize,
        interest: Interest,
    ) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token as u64 };
        // SAFETY: both descriptors are open (borrowed from their owners) and `event` lives
        // through the call; the kernel copies it.
        check(unsafe {
            libc::epoll_ctl(self.fd.as_raw_fd(), verb, stream.as_raw_fd(), &raw mut event)
        })?;
        Ok(())
    }

    /// Waits at most `timeout_ms` and gives the tokens of the ready sockets; none when interrupted.
    pub fn wait(&mut self, timeout_ms: i32) -> io::Result<impl Iterator<Item = usize> + '_> {
        self.events.clear();
        let room = self.events.capacity().min(i32::MAX as usize) as libc::c_int;
        // SAFETY: `events` has capacity for `room` elements, which is what the kernel may write.
        let waited = check(unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, timeout_ms)
        });
        let count = match waited {
            Ok(count) => count as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        // SAFETY: the kernel has written the first `count` elements, and count <= capacity.
        unsafe { self.events.set_len(count) };
        Ok(self.events.iter().map(|event| event.u64 as usize))
    }
}

/// CPU time of a whole process (all its threads, user and system), with the kernel's nanoseconds
/// rather than the ticks of 10 ms that /proc/PID/stat offers.
pub fn process_cpu(pid: libc::pid_t) -> io::Result<Duration> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a valid place to write to.
    let errno = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    if errno != 0 {
        return Err(io::Error::from_raw_os_error(errno));
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    check(unsafe { libc::clock_gettime(clock, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}
