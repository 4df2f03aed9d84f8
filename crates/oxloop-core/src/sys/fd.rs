//! Descriptors that are not sockets: pipes, terminals, and what is common to all.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Reads into `buf`; 0 is the end.
pub fn read(fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
    // `buf` is valid for writes of its length.
    syscall!(libc::read(fd, buf.as_mut_ptr().cast(), buf.len())).map(|n| n as usize)
}

/// Memory that nobody has written yet, filled with zeros.
pub fn zeroed(room: &mut [MaybeUninit<u8>]) -> &mut [u8] {
    room.fill(MaybeUninit::new(0));
    // SAFETY: all of it has just been written; the layouts are the same.
    unsafe { &mut *(std::ptr::from_mut(room) as *mut [u8]) }
}

/// Writes a prefix of `bytes`. A pipe without readers raises SIGPIPE unless that is ignored.
pub fn write(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // `bytes` is valid for reads of its length.
    syscall!(libc::write(fd, bytes.as_ptr().cast(), bytes.len())).map(|n| n as usize)
}

/// Writes a prefix of the slices' bytes. At most 1024 slices; more are `InvalidInput`.
pub fn write_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let count = libc::c_int::try_from(slices.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // `IoSlice` has the layout of `iovec`, and its bytes are borrowed for the call.
    syscall!(libc::writev(fd, slices.as_ptr().cast(), count)).map(|n| n as usize)
}

/// A pipe, close-on-exec and non-blocking: (read end, write end).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // `ends` is valid for writes of two descriptors.
    syscall!(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK))?;
    // SAFETY: the call succeeded, so both are new descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Sets or clears O_NONBLOCK.
pub fn set_nonblocking(fd: RawFd, nonblocking: bool) -> io::Result<()> {
    // F_GETFL takes no argument.
    let flags = syscall!(libc::fcntl(fd, libc::F_GETFL))?;
    let wanted = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // F_SETFL takes an int.
        syscall!(libc::fcntl(fd, libc::F_SETFL, wanted))?;
    }
    Ok(())
}

/// Whether the descriptor is closed on exec.
pub fn is_close_on_exec(fd: RawFd) -> io::Result<bool> {
    // F_GETFD takes no argument.
    Ok(syscall!(libc::fcntl(fd, libc::F_GETFD))? & libc::FD_CLOEXEC != 0)
}

/// What a descriptor refers to, as far as event loops tell apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A pipe, with a name or without.
    Pipe,
    /// A socket.
    Socket,
    /// A terminal or another character device.
    CharacterDevice,
    /// A regular file, a directory, a block device, …: always ready, so of no use to an event loop.
    Other,
}

/// What `fd` refers to.
pub fn kind(fd: RawFd) -> io::Result<Kind> {
    let mut status = std::mem::MaybeUninit::<libc::stat>::uninit();
    // `status` is valid for writes of a `stat`.
    syscall!(libc::fstat(fd, status.as_mut_ptr()))?;
    // SAFETY: the call succeeded, so the kernel has filled it.
    let mode = unsafe { status.assume_init() }.st_mode;
    Ok(match mode & libc::S_IFMT {
        libc::S_IFIFO => Kind::Pipe,
        libc::S_IFSOCK => Kind::Socket,
        libc::S_IFCHR => Kind::CharacterDevice,
        _ => Kind::Other,
    })
}

/// Whether the error says that the other end of a terminal is gone.
pub fn is_hung_up_terminal(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// A second, close-on-exec number for what `fd` refers to.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // F_DUPFD_CLOEXEC takes the least number wanted.
    let copy = syscall!(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0))?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes `target` refer to what `source` refers to. The number stays; what it was before is closed.
pub fn duplicate_onto(source: BorrowedFd<'_>, target: &mut OwnedFd) -> io::Result<()> {
    // Both are open, and the caller owns the one whose meaning changes.
    syscall!(libc::dup3(source.as_raw_fd(), target.as_raw_fd(), libc::O_CLOEXEC)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn bytes_go_through_a_pipe_without_blocking() {
        let (read_end, write_end) = pipe().unwrap();
        let mut buf = [0; 8];
        let error = read(read_end.as_raw_fd(), &mut buf).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let slices = [IoSlice::new(b"a"), IoSlice::new(b"bc")];
        assert_eq!(write_vectored(write_end.as_raw_fd(), &slices).unwrap(), 3);
        assert_eq!(read(read_end.as_raw_fd(), &mut buf).unwrap(), 3);
        assert_eq!(&buf[..3], b"abc");
        drop(write_end);
        set_nonblocking(read_end.as_raw_fd(), false).unwrap();
        assert_eq!(read(read_end.as_raw_fd(), &mut buf).unwrap(), 0);
    }

    #[test]
    fn a_number_changes_its_meaning() {
        let (read_end, write_end) = pipe().unwrap();
        let (mut other, _other_write_end) = pipe().unwrap();
        duplicate_onto(read_end.as_fd(), &mut other).unwrap();
        assert_eq!(write(write_end.as_raw_fd(), b"x").unwrap(), 1);
        assert_eq!(read(other.as_raw_fd(), &mut [0]).unwrap(), 1);
        assert!(is_close_on_exec(other.as_raw_fd()).unwrap());
    }

    #[test]
    fn kinds_are_told_apart() {
        let (read_end, write_end) = pipe().unwrap();
        assert_eq!(kind(read_end.as_raw_fd()).unwrap(), Kind::Pipe);
        assert_eq!(kind(write_end.as_raw_fd()).unwrap(), Kind::Pipe);
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(kind(socket.as_raw_fd()).unwrap(), Kind::Socket);
        let device = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(kind(device.as_raw_fd()).unwrap(), Kind::CharacterDevice);
        let folder = std::fs::File::open(".").unwrap();
        assert_eq!(kind(folder.as_raw_fd()).unwrap(), Kind::Other);
        assert_eq!(kind(-1).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn a_duplicate_outlives_the_original() {
        let (read_end, write_end) = pipe().unwrap();
        let copy = duplicate(write_end.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), write_end.as_raw_fd());
        assert!(is_close_on_exec(copy.as_raw_fd()).unwrap());
        drop(write_end);
        assert_eq!(write(copy.as_raw_fd(), b"x").unwrap(), 1);
        assert_eq!(read(read_end.as_raw_fd(), &mut [0]).unwrap(), 1);
    }
}
