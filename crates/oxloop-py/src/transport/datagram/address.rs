//! Where a datagram goes to, and where one came from.
//!
//! Facts: a server gets its peers' addresses as tuples and answers with the same tuples, so the
//! conversion both ways is on the path of every datagram. What the socket module accepts as an
//! address is much more than what is common: names to look up, short forms, scopes, paths, whole
//! families of their own, each with its own errors.
//! Decision: numeric internet addresses are converted here; everything else is given to the socket
//! object's own `sendto`, whose answer and errors are then asyncio's to the letter. The last sender
//! is remembered with its tuple, which saves both conversions in an exchange with one peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use oxloop_core::{AddressParts, SockAddr};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString, PyTuple};

use crate::convert;
use crate::ffi::Ref;

/// The address families whose datagrams are received natively.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Inet,
    Inet6,
    Unix,
    /// Only the socket module knows the form of its addresses.
    Other,
}

impl Family {
    /// The family of a socket object.
    pub(super) fn of(sock: &Bound<'_, PyAny>) -> PyResult<Self> {
        let module = sock.py().import("socket")?;
        let family = sock.getattr("family")?;
        for (name, known) in
            [("AF_INET", Self::Inet), ("AF_INET6", Self::Inet6), ("AF_UNIX", Self::Unix)]
        {
            if family.eq(module.getattr(name)?)? {
                return Ok(known);
            }
        }
        Ok(Self::Other)
    }
}

/// Where a datagram goes to.
#[derive(Clone)]
pub(super) enum Destination {
    /// The peer that the socket is connected to.
    Peer,
    /// An address in the kernel's form.
    Kernel(SockAddr),
    /// For the socket object to make sense of.
    Python(Ref),
}

/// An address as it was last seen, in both forms.
pub(super) struct LastSender {
    address: SockAddr,
    object: Ref,
}

impl LastSender {
    /// The sender as `datagram_received` gets it; `last` is the one before and becomes this one.
    pub(super) fn show<'py>(
        py: Python<'py>,
        last: &mut Option<LastSender>,
        sender: &SockAddr,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(last) = last.as_ref().filter(|last| last.address == *sender) {
            return Ok(last.object.bind(py).clone());
        }
        let object = match sender.parts() {
            // A Unix socket without a name sent it.
            AddressParts::Unnamed => return Ok(py.None().into_bound(py)),
            _ => convert::address(py, sender)?,
        };
        *last = Some(LastSender { address: *sender, object: Ref::from_borrowed(&object) });
        Ok(object)
    }

    /// The address of `object`, if it is the very tuple that was shown.
    pub(super) fn address_of(&self, object: &Bound<'_, PyAny>) -> Option<SockAddr> {
        self.object.is(object).then_some(self.address)
    }
}

/// The kernel's form of a numeric internet address; None: the socket object must say what it is.
pub(super) fn numeric(family: Family, address: &Bound<'_, PyAny>) -> Option<SockAddr> {
    let parts = address.cast_exact::<PyTuple>().ok()?;
    let host = parts.get_item(0).ok()?.cast_into_exact::<PyString>().ok()?;
    let host = host.to_str().ok()?;
    let number = |index: usize| -> Option<u32> {
        parts.get_item(index).ok()?.cast_into_exact::<PyInt>().ok()?.extract().ok()
    };
    let port = u16::try_from(number(1)?).ok()?;
    match (family, parts.len()) {
        (Family::Inet, 2) => {
            let ip: Ipv4Addr = host.parse().ok()?;
            Some(SocketAddr::new(IpAddr::V4(ip), port).into())
        }
        (Family::Inet6, count @ 2..=4) => {
            let ip: Ipv6Addr = host.parse().ok()?;
            let flowinfo = if count > 2 { number(2)? } else { 0 };
            let scope_id = if count > 3 { number(3)? } else { 0 };
            // Larger ones are an error that the socket module words.
            let valid = flowinfo <= 0xf_ffff;
            valid.then(|| SocketAddr::V6(SocketAddrV6::new(ip, port, flowinfo, scope_id)).into())
        }
        _ => None,
    }
}
