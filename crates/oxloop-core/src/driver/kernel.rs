//! The system calls that the epoll driver makes, as a trait.
//!
//! Linux is one kernel; the simulated one in `sim` is another. So what the simulator searches for
//! bugs is the driver that programs run on, call by call, and not a model of it. `Linux` has no size
//! and its methods are the functions of `sys`: nothing is left of the trait in compiled code.
//!
//! Every method means what the system call of its name means, EINTR and EAGAIN included.

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::descriptor::Descriptor;
use crate::sys::epoll::{self, Ctl, Event};
use crate::sys::socket::{self, SockAddr};
use crate::sys::{eventfd, fd};

/// A kernel that knows epoll.
pub trait Kernel: Clone + fmt::Debug + Send + Sync + 'static {
    /// An owned descriptor; closed on drop.
    type Fd: AsRawFd + Into<Descriptor> + fmt::Debug + Send + Sync;
    /// No descriptor has a smaller number; tables by number begin here.
    fn first_fd(&self) -> RawFd;

    /// epoll_create1.
    fn epoll_create(&self) -> io::Result<Self::Fd>;
    /// epoll_ctl.
    fn epoll_ctl(&self, epoll: RawFd, ctl: Ctl, fd: RawFd, mask: u32, data: u64) -> io::Result<()>;
    /// epoll_wait; replaces what is in `events`, up to its capacity. Rounds up to milliseconds.
    fn epoll_wait(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()>;
    /// epoll_pwait2: as `epoll_wait`, to the nanosecond; `Unsupported` where there is none.
    fn epoll_wait_ns(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()>;
    /// eventfd, its counter at 0.
    fn eventfd(&self) -> io::Result<Self::Fd>;
    /// Adds 1 to an eventfd.
    fn eventfd_add_one(&self, fd: RawFd) -> io::Result<()>;
    /// Sets an eventfd to 0 and gives what it was.
    fn eventfd_take(&self, fd: RawFd) -> io::Result<u64>;
    /// read.
    fn read(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize>;
    /// write.
    fn write(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize>;
    /// writev.
    fn write_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// recv.
    fn recv(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize>;
    /// recv into memory that nobody has written yet; so many of its first bytes are written then.
    fn recv_uninit(&self, fd: RawFd, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.recv(fd, fd::zeroed(room))
    }
    /// FIONREAD: bytes that wait to be received.
    fn waiting_bytes(&self, fd: RawFd) -> io::Result<usize>;
    /// send.
    fn send(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize>;
    /// sendmsg without an address.
    fn send_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// recvfrom.
    fn recv_from(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<(usize, SockAddr)>;
    /// sendto.
    fn send_to(&self, fd: RawFd, bytes: &[u8], to: &SockAddr) -> io::Result<usize>;
    /// accept4, close-on-exec and non-blocking.
    fn accept(&self, fd: RawFd) -> io::Result<(Self::Fd, SockAddr)>;
    /// shutdown of the write direction.
    fn shutdown_write(&self, fd: RawFd) -> io::Result<()>;
}

/// The kernel that the process runs on.
#[derive(Clone, Copy, Default, Debug)]
pub struct Linux;

impl Kernel for Linux {
    type Fd = OwnedFd;

    #[inline]
    fn first_fd(&self) -> RawFd {
        0
    }

    #[inline]
    fn epoll_create(&self) -> io::Result<OwnedFd> {
        epoll::create()
    }

    #[inline]
    fn epoll_ctl(&self, epoll: RawFd, ctl: Ctl, fd: RawFd, mask: u32, data: u64) -> io::Result<()> {
        epoll::ctl(epoll, ctl, fd, mask, data)
    }

    #[inline]
    fn epoll_wait(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        epoll::wait(epoll, events, timeout)
    }

    #[inline]
    fn epoll_wait_ns(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        epoll::wait_ns(epoll, events, timeout)
    }

    #[inline]
    fn eventfd(&self) -> io::Result<OwnedFd> {
        eventfd::create()
    }

    #[inline]
    fn eventfd_add_one(&self, fd: RawFd) -> io::Result<()> {
        eventfd::add_one(fd)
    }

    #[inline]
    fn eventfd_take(&self, fd: RawFd) -> io::Result<u64> {
        eventfd::take(fd)
    }

    #[inline]
    fn read(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
        fd::read(fd, buf)
    }

    #[inline]
    fn write(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        fd::write(fd, bytes)
    }

    #[inline]
    fn write_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        fd::write_vectored(fd, slices)
    }

    #[inline]
    fn recv(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
        socket::recv(fd, buf)
    }

    #[inline]
    fn recv_uninit(&self, fd: RawFd, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        socket::recv_uninit(fd, room)
    }

    #[inline]
    fn waiting_bytes(&self, fd: RawFd) -> io::Result<usize> {
        socket::waiting_bytes(fd)
    }

    #[inline]
    fn send(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        socket::send(fd, bytes)
    }

    #[inline]
    fn send_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        socket::send_vectored(fd, slices)
    }

    #[inline]
    fn recv_from(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<(usize, SockAddr)> {
        socket::recv_from(fd, buf)
    }

    #[inline]
    fn send_to(&self, fd: RawFd, bytes: &[u8], to: &SockAddr) -> io::Result<usize> {
        socket::send_to(fd, bytes, to)
    }

    #[inline]
    fn accept(&self, fd: RawFd) -> io::Result<(OwnedFd, SockAddr)> {
        socket::accept(fd)
    }

    #[inline]
    fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        socket::shutdown_write(fd)
    }
}
