//! Socket addresses as the kernel gives them, and taken apart.
//!
//! Only libc's structures say where a field lies. Unix names are byte strings whose end is given by
//! the length that the kernel reports: a path may fill all of its 108 bytes without a closing NUL,
//! and an abstract name starts with a NUL and may hold more of them.

use std::fmt;
use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// A socket address as the kernel gave it.
#[derive(Clone, Copy)]
pub struct SockAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

/// A socket address, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddressParts {
    /// IPv4 address and port.
    V4(Ipv4Addr, u16),
    /// IPv6 address.
    V6 {
        /// The address.
        ip: Ipv6Addr,
        /// The port.
        port: u16,
        /// The flow label, in the host's byte order.
        flowinfo: u32,
        /// The interface, 0 if none.
        scope_id: u32,
    },
    /// A path without its closing NUL; an abstract name with its leading NUL.
    Unix(Vec<u8>),
    /// A Unix socket without a name, or no address at all.
    Unnamed,
    /// Another family, by number.
    Other(u16),
}

impl SockAddr {
    /// Lets a system call fill in an address: `call` gets the room for it and its length in bytes.
    pub(super) fn fill(
        call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> io::Result<()>,
    ) -> io::Result<SockAddr> {
        // SAFETY: all zero is a valid `sockaddr_storage`: an address of family AF_UNSPEC.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let room = mem::size_of_val(&storage) as libc::socklen_t;
        let mut len = room;
        call((&raw mut storage).cast(), &mut len)?;
        Ok(SockAddr { storage, len: len.min(room) })
    }

    /// The address, taken apart. One that is shorter than its family needs is `Unnamed`.
    pub fn parts(&self) -> AddressParts {
        let len = self.len as usize;
        if len < mem::size_of::<libc::sa_family_t>() {
            return AddressParts::Unnamed;
        }
        let address = (&raw const self.storage).cast::<libc::sockaddr>();
        match i32::from(self.storage.ss_family) {
            libc::AF_INET if len >= mem::size_of::<libc::sockaddr_in>() => {
                // SAFETY: the storage is larger than, and aligned for, every address type.
                let v4 = unsafe { *address.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                AddressParts::V4(ip, u16::from_be(v4.sin_port))
            }
            libc::AF_INET6 if len >= mem::size_of::<libc::sockaddr_in6>() => {
                // SAFETY: the storage is larger than, and aligned for, every address type.
                let v6 = unsafe { *address.cast::<libc::sockaddr_in6>() };
                AddressParts::V6 {
                    ip: Ipv6Addr::from(v6.sin6_addr.s6_addr),
                    port: u16::from_be(v6.sin6_port),
                    flowinfo: u32::from_be(v6.sin6_flowinfo),
                    scope_id: v6.sin6_scope_id,
                }
            }
            libc::AF_INET | libc::AF_INET6 | libc::AF_UNSPEC => AddressParts::Unnamed,
            libc::AF_UNIX => unix_parts(self.bytes()),
            _ => AddressParts::Other(self.storage.ss_family),
        }
    }

    /// The address as a system call wants it: where it begins, and its length in bytes.
    pub(super) fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.len)
    }

    /// The bytes of the address, family first.
    fn bytes(&self) -> &[u8] {
        let first = (&raw const self.storage).cast::<u8>();
        // SAFETY: `len` is at most the size of the storage, all of which is initialised: it was
        // zeroed before the kernel wrote to it.
        unsafe { std::slice::from_raw_parts(first, self.len as usize) }
    }
}

impl From<SocketAddr> for SockAddr {
    /// The kernel's form of an internet address.
    fn from(address: SocketAddr) -> SockAddr {
        // SAFETY: all zero is a valid `sockaddr_storage`: an address of family AF_UNSPEC.
        let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let first = &raw mut storage;
        let len = match address {
            SocketAddr::V4(v4) => {
                // SAFETY: the storage is larger than, and aligned for, every address type, and all
                // zero is a valid address.
                let place = unsafe { &mut *first.cast::<libc::sockaddr_in>() };
                place.sin_family = libc::AF_INET as libc::sa_family_t;
                place.sin_port = v4.port().to_be();
                place.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                mem::size_of_val(place)
            }
            SocketAddr::V6(v6) => {
                // SAFETY: as above.
                let place = unsafe { &mut *first.cast::<libc::sockaddr_in6>() };
                place.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                place.sin6_port = v6.port().to_be();
                place.sin6_addr.s6_addr = v6.ip().octets();
                place.sin6_flowinfo = v6.flowinfo().to_be();
                place.sin6_scope_id = v6.scope_id();
                mem::size_of_val(place)
            }
        };
        SockAddr { storage, len: len as libc::socklen_t }
    }
}

/// Equal when the kernel gave the same bytes.
impl PartialEq for SockAddr {
    fn eq(&self, other: &SockAddr) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for SockAddr {}

fn unix_parts(address: &[u8]) -> AddressParts {
    let name = address.get(mem::offset_of!(libc::sockaddr_un, sun_path)..).unwrap_or_default();
    match name {
        [] => AddressParts::Unnamed,
        [0, ..] => AddressParts::Unix(name.to_vec()),
        _ => AddressParts::Unix(name.iter().copied().take_while(|&byte| byte != 0).collect()),
    }
}

impl fmt::Debug for SockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::getsockname;
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};

    #[test]
    fn internet_addresses() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let parts = getsockname(socket.as_raw_fd()).unwrap().parts();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(parts, AddressParts::V4(Ipv4Addr::LOCALHOST, port));
        // A machine without IPv6 has nothing to check here.
        if let Ok(socket) = UdpSocket::bind("[::1]:0") {
            let parts = getsockname(socket.as_raw_fd()).unwrap().parts();
            let port = socket.local_addr().unwrap().port();
            let ip = Ipv6Addr::LOCALHOST;
            assert_eq!(parts, AddressParts::V6 { ip, port, flowinfo: 0, scope_id: 0 });
        }
    }

    #[test]
    fn unix_names_end_where_the_kernel_says() {
        let (left, _right) = UnixStream::pair().unwrap();
        let unnamed = getsockname(left.as_raw_fd()).unwrap();
        assert_eq!(unnamed.parts(), AddressParts::Unnamed);

        let name = format!("oxloop\0{}", std::process::id());
        let address = UnixAddr::from_abstract_name(name.as_bytes()).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let expected = [b"\0", name.as_bytes()].concat();
        let parts = getsockname(listener.as_raw_fd()).unwrap().parts();
        assert_eq!(parts, AddressParts::Unix(expected));
    }

    #[test]
    fn unix_paths_may_lack_the_closing_nul() {
        let address = |path: &[u8]| [b"\x01\x00", path].concat();
        let unix = |path: &[u8]| AddressParts::Unix(path.to_vec());
        assert_eq!(unix_parts(&address(b"/a\0")), unix(b"/a"));
        assert_eq!(unix_parts(&address(&[b'a'; 108])), unix(&[b'a'; 108]));
        assert_eq!(unix_parts(&address(b"")), AddressParts::Unnamed);
    }

    #[test]
    fn internet_addresses_are_made_as_they_are_taken_apart() {
        let made = SockAddr::from("192.0.2.1:258".parse::<SocketAddr>().unwrap());
        assert_eq!(made.parts(), AddressParts::V4(Ipv4Addr::new(192, 0, 2, 1), 258));
        let ip: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let v6 = std::net::SocketAddrV6::new(ip, 258, 0x12345, 7);
        let made = SockAddr::from(SocketAddr::V6(v6));
        let expected = AddressParts::V6 { ip, port: 258, flowinfo: 0x12345, scope_id: 7 };
        assert_eq!(made.parts(), expected);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let own = getsockname(socket.as_raw_fd()).unwrap();
        assert_eq!(own, SockAddr::from(socket.local_addr().unwrap()));
        assert_ne!(own, made);
    }

    #[test]
    fn short_addresses_have_no_parts() {
        let short = SockAddr::fill(|_, len| {
            // SAFETY: `fill` passes a valid pointer.
            unsafe { *len = 1 };
            Ok(())
        });
        assert_eq!(short.unwrap().parts(), AddressParts::Unnamed);
    }
}
