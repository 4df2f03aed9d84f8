//! The kernel of the process or a simulated one, chosen when a driver is made.
//!
//! The loop that programs run on has one type whichever it is. The choice is a branch before a
//! system call that takes a hundred times as long; [`Linux`] alone costs nothing at all, and is what
//! the core's own users take.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::time::Duration;

use super::descriptor::Descriptor;
use super::kernel::{Kernel, Linux};
use super::sim::SimKernel;
use crate::sys::epoll::{Ctl, Event};
use crate::sys::socket::SockAddr;

/// A kernel that knows epoll: the process's or a simulated one.
#[derive(Clone, Debug)]
pub enum AnyKernel {
    /// The kernel that the process runs on.
    Linux,
    /// A simulated one.
    Simulated(SimKernel),
}

impl AnyKernel {
    /// The simulated kernel, if it is one.
    pub fn simulated(&self) -> Option<&SimKernel> {
        match self {
            AnyKernel::Linux => None,
            AnyKernel::Simulated(kernel) => Some(kernel),
        }
    }
}

impl Kernel for AnyKernel {
    type Fd = Descriptor;

    #[inline]
    fn first_fd(&self) -> RawFd {
        match self {
            AnyKernel::Linux => Linux.first_fd(),
            AnyKernel::Simulated(kernel) => kernel.first_fd(),
        }
    }

    #[inline]
    fn epoll_create(&self) -> io::Result<Descriptor> {
        match self {
            AnyKernel::Linux => Linux.epoll_create().map(Into::into),
            AnyKernel::Simulated(kernel) => kernel.epoll_create().map(Into::into),
        }
    }

    #[inline]
    fn epoll_ctl(&self, epoll: RawFd, ctl: Ctl, fd: RawFd, mask: u32, data: u64) -> io::Result<()> {
        match self {
            AnyKernel::Linux => Linux.epoll_ctl(epoll, ctl, fd, mask, data),
            AnyKernel::Simulated(kernel) => kernel.epoll_ctl(epoll, ctl, fd, mask, data),
        }
    }

    #[inline]
    fn epoll_wait(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self {
            AnyKernel::Linux => Linux.epoll_wait(epoll, events, timeout),
            AnyKernel::Simulated(kernel) => kernel.epoll_wait(epoll, events, timeout),
        }
    }

    #[inline]
    fn epoll_wait_ns(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self {
            AnyKernel::Linux => Linux.epoll_wait_ns(epoll, events, timeout),
            AnyKernel::Simulated(kernel) => kernel.epoll_wait_ns(epoll, events, timeout),
        }
    }

    #[inline]
    fn eventfd(&self) -> io::Result<Descriptor> {
        match self {
            AnyKernel::Linux => Linux.eventfd().map(Into::into),
            AnyKernel::Simulated(kernel) => kernel.eventfd().map(Into::into),
        }
    }

    #[inline]
    fn eventfd_add_one(&self, fd: RawFd) -> io::Result<()> {
        match self {
            AnyKernel::Linux => Linux.eventfd_add_one(fd),
            AnyKernel::Simulated(kernel) => kernel.eventfd_add_one(fd),
        }
    }

    #[inline]
    fn eventfd_take(&self, fd: RawFd) -> io::Result<u64> {
        match self {
            AnyKernel::Linux => Linux.eventfd_take(fd),
            AnyKernel::Simulated(kernel) => kernel.eventfd_take(fd),
        }
    }

    #[inline]
    fn read(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.read(fd, buf),
            AnyKernel::Simulated(kernel) => kernel.read(fd, buf),
        }
    }

    #[inline]
    fn write(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.write(fd, bytes),
            AnyKernel::Simulated(kernel) => kernel.write(fd, bytes),
        }
    }

    #[inline]
    fn write_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.write_vectored(fd, slices),
            AnyKernel::Simulated(kernel) => kernel.write_vectored(fd, slices),
        }
    }

    #[inline]
    fn recv(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.recv(fd, buf),
            AnyKernel::Simulated(kernel) => kernel.recv(fd, buf),
        }
    }

    #[inline]
    fn recv_uninit(&self, fd: RawFd, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.recv_uninit(fd, room),
            AnyKernel::Simulated(kernel) => kernel.recv_uninit(fd, room),
        }
    }

    #[inline]
    fn waiting_bytes(&self, fd: RawFd) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.waiting_bytes(fd),
            AnyKernel::Simulated(kernel) => kernel.waiting_bytes(fd),
        }
    }

    #[inline]
    fn send(&self, fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.send(fd, bytes),
            AnyKernel::Simulated(kernel) => kernel.send(fd, bytes),
        }
    }

    #[inline]
    fn send_vectored(&self, fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.send_vectored(fd, slices),
            AnyKernel::Simulated(kernel) => kernel.send_vectored(fd, slices),
        }
    }

    #[inline]
    fn recv_from(&self, fd: RawFd, buf: &mut [u8]) -> io::Result<(usize, SockAddr)> {
        match self {
            AnyKernel::Linux => Linux.recv_from(fd, buf),
            AnyKernel::Simulated(kernel) => kernel.recv_from(fd, buf),
        }
    }

    #[inline]
    fn send_to(&self, fd: RawFd, bytes: &[u8], to: &SockAddr) -> io::Result<usize> {
        match self {
            AnyKernel::Linux => Linux.send_to(fd, bytes, to),
            AnyKernel::Simulated(kernel) => kernel.send_to(fd, bytes, to),
        }
    }

    #[inline]
    fn accept(&self, fd: RawFd) -> io::Result<(Descriptor, SockAddr)> {
        match self {
            AnyKernel::Linux => Linux.accept(fd).map(|(fd, peer)| (fd.into(), peer)),
            AnyKernel::Simulated(kernel) => kernel.accept(fd).map(|(fd, peer)| (fd.into(), peer)),
        }
    }

    #[inline]
    fn shutdown_write(&self, fd: RawFd) -> io::Result<()> {
        match self {
            AnyKernel::Linux => Linux.shutdown_write(fd),
            AnyKernel::Simulated(kernel) => kernel.shutdown_write(fd),
        }
    }
}
