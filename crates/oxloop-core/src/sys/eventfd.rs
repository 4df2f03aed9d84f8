//! The eventfd that ends a wait.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A new eventfd, close-on-exec and non-blocking, its counter at 0.
pub fn create() -> io::Result<OwnedFd> {
    // The arguments are plain numbers.
    let fd = syscall!(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Adds 1 to the counter. `WouldBlock`: the counter is full.
pub fn add_one(fd: RawFd) -> io::Result<()> {
    super::fd::write(fd, &1u64.to_ne_bytes()).map(|_| ())
}

/// Sets the counter to 0 and gives what it was. `WouldBlock`: it was 0.
pub fn take(fd: RawFd) -> io::Result<u64> {
    let mut counter = [0; 8];
    super::fd::read(fd, &mut counter)?;
    Ok(u64::from_ne_bytes(counter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn counts_and_is_taken() {
        let fd = create().unwrap();
        assert_eq!(take(fd.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        add_one(fd.as_raw_fd()).unwrap();
        add_one(fd.as_raw_fd()).unwrap();
        assert_eq!(take(fd.as_raw_fd()).unwrap(), 2);
        assert!(crate::sys::fd::is_close_on_exec(fd.as_raw_fd()).unwrap());
    }
}
