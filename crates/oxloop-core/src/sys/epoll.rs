//! epoll.
//!
//! Timeouts are rounded up to what the call can express: nanoseconds with epoll_pwait2 (Linux
//! 5.11), milliseconds with epoll_wait. A wait that ends early would turn a timer into a busy loop.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

pub use libc::epoll_event as Event;

/// Data to read, a connection to accept, or the peer's end of stream.
pub const IN: u32 = libc::EPOLLIN as u32;
/// Room to write.
pub const OUT: u32 = libc::EPOLLOUT as u32;
/// An error to fetch; reported whether asked for or not.
pub const ERR: u32 = libc::EPOLLERR as u32;
/// Hung up in both directions; reported whether asked for or not.
pub const HUP: u32 = libc::EPOLLHUP as u32;
/// The peer has ended its stream, whether or not what came before was read. Sockets only.
pub const RDHUP: u32 = libc::EPOLLRDHUP as u32;
/// Report changes only, not states.
pub const EDGE: u32 = libc::EPOLLET as u32;

/// What `ctl` does to a registration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ctl {
    /// `AlreadyExists` if there is one.
    Add,
    /// `NotFound` if there is none.
    Modify,
    /// `NotFound` if there is none.
    Delete,
}

/// A new epoll instance, close-on-exec.
pub fn create() -> io::Result<OwnedFd> {
    // The argument is a plain number.
    let fd = syscall!(libc::epoll_create1(libc::EPOLL_CLOEXEC))?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Changes the registration of `fd`: events of `mask` are reported with the number `data`.
pub fn ctl(epoll: RawFd, ctl: Ctl, fd: RawFd, mask: u32, data: u64) -> io::Result<()> {
    let op = match ctl {
        Ctl::Add => libc::EPOLL_CTL_ADD,
        Ctl::Modify => libc::EPOLL_CTL_MOD,
        Ctl::Delete => libc::EPOLL_CTL_DEL,
    };
    let mut event = Event { events: mask, u64: data };
    // `event` is valid for the call.
    syscall!(libc::epoll_ctl(epoll, op, fd, &mut event)).map(|_| ())
}

/// Waits for events with epoll_wait and replaces what is in `events`, up to its capacity.
pub fn wait(epoll: RawFd, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
    events.clear();
    let timeout_ms = timeout.map_or(-1, millis_rounded_up);
    let room = libc::c_int::try_from(events.capacity()).unwrap_or(libc::c_int::MAX);
    // `events` has room for so many, and the kernel writes no more.
    let count = syscall!(libc::epoll_wait(epoll, events.as_mut_ptr(), room, timeout_ms))?;
    // SAFETY: the kernel has initialised `count` events, and `count <= room <= capacity`.
    unsafe { events.set_len(count as usize) };
    Ok(())
}

/// As [`wait`], to the nanosecond, with epoll_pwait2. `Unsupported` or `PermissionDenied` where the
/// kernel or a filter refuses the call.
pub fn wait_ns(epoll: RawFd, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
    /// The kernel's timespec of this call: 64 bits on every architecture.
    #[repr(C)]
    struct Timespec {
        tv_sec: i64,
        tv_nsec: i64,
    }
    events.clear();
    let timespec = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(timeout.subsec_nanos()),
    });
    let timespec_ptr = timespec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    let room = libc::c_int::try_from(events.capacity()).unwrap_or(libc::c_int::MAX);
    // `events` has room for so many, `timespec` lives until the end of the function, and no signal
    // mask is passed.
    let count = syscall!(libc::syscall(
        libc::SYS_epoll_pwait2,
        epoll,
        events.as_mut_ptr(),
        room,
        timespec_ptr,
        std::ptr::null::<libc::sigset_t>(),
        0usize,
    ))?;
    // SAFETY: the kernel has initialised `count` events, and `count <= room <= capacity`.
    unsafe { events.set_len(count as usize) };
    Ok(())
}

fn millis_rounded_up(timeout: Duration) -> libc::c_int {
    libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn milliseconds_are_rounded_up_and_saturate() {
        assert_eq!(millis_rounded_up(Duration::ZERO), 0);
        assert_eq!(millis_rounded_up(Duration::from_nanos(1)), 1);
        assert_eq!(millis_rounded_up(Duration::from_millis(3)), 3);
        assert_eq!(millis_rounded_up(Duration::from_nanos(3_000_001)), 4);
        assert_eq!(millis_rounded_up(Duration::MAX), libc::c_int::MAX);
    }

    #[test]
    fn a_registration_reports_its_number() {
        let epoll = create().unwrap();
        let event = crate::sys::eventfd::create().unwrap();
        ctl(epoll.as_raw_fd(), Ctl::Add, event.as_raw_fd(), IN, 7 << 40).unwrap();
        crate::sys::eventfd::add_one(event.as_raw_fd()).unwrap();
        let mut events = Vec::with_capacity(4);
        wait(epoll.as_raw_fd(), &mut events, None).unwrap();
        let seen: Vec<u64> = events.iter().map(|event| event.u64).collect();
        assert_eq!(seen, [7 << 40]);
    }
}
