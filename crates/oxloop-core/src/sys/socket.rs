//! Sockets: the calls that move bytes, accept, and set options.
//!
//! Sends carry MSG_NOSIGNAL: a peer that is gone is an error of this call and not a signal to the
//! process. Accepted descriptors are close-on-exec and non-blocking from birth.

use std::io::{self, IoSlice};
use std::mem::{self, MaybeUninit};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

pub use super::address::{AddressParts, SockAddr};

/// Receives into `buf`; 0 is the end of a byte stream.
pub fn recv(fd: RawFd, buf: &mut [u8]) -> io::Result<usize> {
    // `buf` is valid for writes of its length.
    syscall!(libc::recv(fd, buf.as_mut_ptr().cast(), buf.len(), 0)).map(|n| n as usize)
}

/// Receives into memory that nobody has written yet; so many of its first bytes are written then.
pub fn recv_uninit(fd: RawFd, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
    // `room` is valid for writes of its length.
    syscall!(libc::recv(fd, room.as_mut_ptr().cast(), room.len(), 0)).map(|n| n as usize)
}

/// Bytes that wait to be received (FIONREAD); of datagrams, those of the first.
pub fn waiting_bytes(fd: RawFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // `count` is valid for a write of an int.
    syscall!(libc::ioctl(fd, libc::FIONREAD, &raw mut count))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The first byte that waits to be received, left where it is; 0 is the end of a byte stream.
pub fn peek(fd: RawFd) -> io::Result<usize> {
    let mut byte = 0_u8;
    let start = (&raw mut byte).cast();
    // `byte` is valid for a write of its length.
    syscall!(libc::recv(fd, start, 1, libc::MSG_PEEK | libc::MSG_DONTWAIT)).map(|n| n as usize)
}

/// Sends a prefix of `bytes`.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // `bytes` is valid for reads of its length.
    syscall!(libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL))
        .map(|n| n as usize)
}

/// Sends a prefix of the slices' bytes as one message.
pub fn send_vectored(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: all zero is a valid `msghdr`: no address, no buffers, no control data.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    // `IoSlice` has the layout of `iovec`; the kernel only reads it and the bytes, which are
    // borrowed for the call.
    syscall!(libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL)).map(|n| n as usize)
}

/// Receives one datagram into `buf`, and who sent it. What has no room in `buf` is lost.
pub fn recv_from(fd: RawFd, buf: &mut [u8]) -> io::Result<(usize, SockAddr)> {
    let mut received_bytes = 0;
    let sender = SockAddr::fill(|storage, len| {
        let start = buf.as_mut_ptr().cast();
        // `buf` is valid for writes of its length, and `storage` of `*len` bytes.
        let result = syscall!(libc::recvfrom(fd, start, buf.len(), 0, storage, len))?;
        received_bytes = result as usize;
        Ok(())
    })?;
    Ok((received_bytes, sender))
}

/// Sends one datagram to an address.
pub fn send_to(fd: RawFd, bytes: &[u8], to: &SockAddr) -> io::Result<usize> {
    let (address, len) = to.as_raw();
    let start = bytes.as_ptr().cast();
    // `bytes` is valid for reads of its length, and `address` of `len` bytes.
    syscall!(libc::sendto(fd, start, bytes.len(), libc::MSG_NOSIGNAL, address, len))
        .map(|n| n as usize)
}

/// Accepts one connection, close-on-exec and non-blocking.
pub fn accept(fd: RawFd) -> io::Result<(OwnedFd, SockAddr)> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let mut accepted = -1;
    let address = SockAddr::fill(|storage, len| {
        // `storage` is valid for writes of `*len` bytes.
        accepted = syscall!(libc::accept4(fd, storage, len, flags))?;
        Ok(())
    })?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(accepted) }, address))
}

/// Tells the peer that no more bytes follow.
pub fn shutdown_write(fd: RawFd) -> io::Result<()> {
    // The arguments are plain numbers.
    syscall!(libc::shutdown(fd, libc::SHUT_WR)).map(|_| ())
}

/// The socket's own address.
pub fn getsockname(fd: RawFd) -> io::Result<SockAddr> {
    SockAddr::fill(|storage, len| {
        // `storage` is valid for writes of `*len` bytes.
        syscall!(libc::getsockname(fd, storage, len)).map(|_| ())
    })
}

/// The peer's address. `NotConnected` if there is none.
pub fn getpeername(fd: RawFd) -> io::Result<SockAddr> {
    SockAddr::fill(|storage, len| {
        // `storage` is valid for writes of `*len` bytes.
        syscall!(libc::getpeername(fd, storage, len)).map(|_| ())
    })
}

/// Sets or clears TCP_NODELAY. An error on sockets that are not TCP.
pub fn set_nodelay(fd: RawFd, nodelay: bool) -> io::Result<()> {
    set_int_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, nodelay.into())
}

/// Sets or clears SO_KEEPALIVE.
pub fn set_keepalive(fd: RawFd, keepalive: bool) -> io::Result<()> {
    set_int_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, keepalive.into())
}

/// Asks for a send buffer of about so many bytes (SO_SNDBUF; the kernel has a least value).
pub fn set_send_buffer_bytes(fd: RawFd, bytes: i32) -> io::Result<()> {
    set_int_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)
}

/// Whether `TCP_NODELAY` is set.
pub fn nodelay(fd: RawFd) -> io::Result<bool> {
    int_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY).map(|value| value != 0)
}

/// Fetches and clears the pending error of a socket (SO_ERROR): how a connect ended.
pub fn take_error(fd: RawFd) -> io::Result<Option<io::Error>> {
    let code = int_option(fd, libc::SOL_SOCKET, libc::SO_ERROR)?;
    Ok((code != 0).then(|| io::Error::from_raw_os_error(code)))
}

/// Whether a call failed because descriptors or memory ran out.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// Whether an error of accept concerns one lost connection only, so that accepting goes on at once.
pub fn is_connection_aborted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECONNABORTED)
}

/// Whether the error says that a descriptor is not a socket.
pub fn is_not_a_socket(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOTSOCK)
}

fn set_int_option(fd: RawFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = mem::size_of::<libc::c_int>() as libc::socklen_t;
    let value_ptr = (&raw const value).cast();
    // `value_ptr` is valid for reads of `len` bytes.
    syscall!(libc::setsockopt(fd, level, option, value_ptr, len)).map(|_| ())
}

fn int_option(fd: RawFd, level: i32, option: i32) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = mem::size_of::<libc::c_int>() as libc::socklen_t;
    let value_ptr = (&raw mut value).cast();
    // `value_ptr` is valid for writes of `len` bytes.
    syscall!(libc::getsockopt(fd, level, option, value_ptr, &mut len))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_gone_peer_is_an_error_and_not_a_signal() {
        let (left, right) = UnixStream::pair().unwrap();
        drop(right);
        let error = send(left.as_raw_fd(), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let error = send_vectored(left.as_raw_fd(), &[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn slices_are_sent_in_order() {
        let (left, right) = UnixStream::pair().unwrap();
        let slices = [IoSlice::new(b"ab"), IoSlice::new(b""), IoSlice::new(b"cde")];
        assert_eq!(send_vectored(left.as_raw_fd(), &slices).unwrap(), 5);
        let mut buf = [0; 8];
        assert_eq!(recv(right.as_raw_fd(), &mut buf).unwrap(), 5);
        assert_eq!(&buf[..5], b"abcde");
    }

    #[test]
    fn datagrams_know_who_sent_them() {
        let left = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let right = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = getsockname(right.as_raw_fd()).unwrap();
        assert_eq!(send_to(left.as_raw_fd(), b"abc", &to).unwrap(), 3);
        assert_eq!(send_to(left.as_raw_fd(), b"", &to).unwrap(), 0);
        let mut buf = [0; 8];
        let (received_bytes, sender) = recv_from(right.as_raw_fd(), &mut buf).unwrap();
        assert_eq!(&buf[..received_bytes], b"abc");
        assert_eq!(sender, getsockname(left.as_raw_fd()).unwrap());
        assert_eq!(recv_from(right.as_raw_fd(), &mut buf).unwrap(), (0, sender));

        let (left, right) = std::os::unix::net::UnixDatagram::pair().unwrap();
        assert_eq!(send(left.as_raw_fd(), b"x").unwrap(), 1);
        let (received_bytes, sender) = recv_from(right.as_raw_fd(), &mut buf).unwrap();
        assert_eq!((received_bytes, sender.parts()), (1, AddressParts::Unnamed));
    }

    #[test]
    fn accepted_sockets_are_close_on_exec_and_know_their_peer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = accept(listener.as_raw_fd()).unwrap();
        let fd = accepted.as_raw_fd();
        assert!(crate::sys::fd::is_close_on_exec(fd).unwrap());
        let error = recv(fd, &mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(peer.parts(), getsockname(client.as_raw_fd()).unwrap().parts());
        assert_eq!(peer.parts(), getpeername(fd).unwrap().parts());
        set_keepalive(fd, true).unwrap();
        set_nodelay(fd, true).unwrap();
        assert!(nodelay(fd).unwrap());
        assert!(take_error(fd).unwrap().is_none());
    }

    #[test]
    fn what_is_no_socket_says_so() {
        let (read_end, _write_end) = crate::sys::fd::pipe().unwrap();
        assert!(is_not_a_socket(&recv(read_end.as_raw_fd(), &mut [0]).unwrap_err()));
    }
}
