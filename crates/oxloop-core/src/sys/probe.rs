//! Calls that are made only to learn whether the kernel, or a filter in front of it, allows them.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// `Ok` if epoll_pwait2 is there.
pub fn epoll_pwait2(epoll: RawFd) -> io::Result<()> {
    let mut events = Vec::with_capacity(1);
    super::epoll::wait_ns(epoll, &mut events, Some(std::time::Duration::ZERO))
}

/// `Ok` if pidfd_open is there.
pub fn pidfd_open() -> io::Result<()> {
    // The arguments are plain numbers.
    let fd = syscall!(libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0))?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    Ok(())
}

/// `Ok` if an io_uring can be made. It is closed at once.
pub fn io_uring_setup() -> io::Result<()> {
    /// Room for the kernel's `io_uring_params`, which is 120 bytes of plain numbers.
    #[repr(C, align(8))]
    struct Params([u8; 120]);
    let mut params = Params([0; 120]);
    let entries = 1u32;
    // `params` is valid for reads and writes of the kernel's structure; all zero asks for nothing.
    let fd = syscall!(libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params.0))?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    Ok(())
}
