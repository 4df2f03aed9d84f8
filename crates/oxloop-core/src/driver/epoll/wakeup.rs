//! The eventfd that ends a wait from another thread.
//!
//! It is watched edge-triggered: every write is a new event, so nobody has to read it, which saves
//! a system call per wakeup. Its counter is full after 2^64 - 2 wakeups, and a write that finds it
//! full says `WouldBlock`; then the counter is emptied and the write made again.
//!
//! The injector outlives the loop in other threads' hands. So the descriptor is behind a lock, and
//! `close` takes it away: a late wakeup is an error and not a write to whoever got the number
//! since.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, PoisonError};

use crate::driver::Wake;
use crate::driver::kernel::Kernel;
use crate::sys::epoll;

/// The number in the kernel's hands that stands for the wakeup; no live token is 0.
pub(super) const WAKEUP: u64 = 0;

#[derive(Debug)]
pub(super) struct EventFdWake<K: Kernel> {
    kernel: K,
    fd: Mutex<Option<K::Fd>>,
}

impl<K: Kernel> EventFdWake<K> {
    /// A new eventfd, watched by `epoll`.
    pub(super) fn new(kernel: K, epoll: RawFd) -> io::Result<Self> {
        let fd = kernel.eventfd()?;
        let mask = epoll::IN | epoll::EDGE;
        kernel.epoll_ctl(epoll, epoll::Ctl::Add, fd.as_raw_fd(), mask, WAKEUP)?;
        Ok(EventFdWake { kernel, fd: Mutex::new(Some(fd)) })
    }

    pub(super) fn close(&self) {
        drop(self.fd.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl<K: Kernel> Wake for EventFdWake<K> {
    fn wake(&self) -> io::Result<()> {
        let guard = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(fd) = guard.as_ref() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the driver is closed"));
        };
        loop {
            match self.kernel.eventfd_add_one(fd.as_raw_fd()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.kernel.eventfd_take(fd.as_raw_fd())?;
                }
                result => return result,
            }
        }
    }
}
