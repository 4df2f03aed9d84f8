//! What a driver answers.
//!
//! The token says which source; the receiver checks its generation, so that an answer to a source
//! that is gone finds nobody. Received bytes are not in the completion: they lie in the driver's
//! shared buffer until the next call, because copying them once, to their final place, is enough.

use std::io;

use crate::buf::WriteQueue;
use crate::driver::descriptor::Descriptor;
use crate::slab::Token;
use crate::sys::socket::SockAddr;

/// One answer of a driver.
#[derive(Debug)]
pub struct Completion<C> {
    /// The source that it belongs to.
    pub token: Token,
    /// What happened.
    pub outcome: Outcome<C>,
}

/// What happened to an op.
#[derive(Debug)]
pub enum Outcome<C> {
    /// So many bytes are in `Driver::received()` until the driver is called again; 0 is the end.
    Received(io::Result<usize>),
    /// A datagram of so many bytes is in `Driver::received()` until the driver is called again, and
    /// who sent it. An error concerns one datagram, sent or received, and not the socket.
    ReceivedFrom(io::Result<(usize, Box<SockAddr>)>),
    /// A PollRead source can be read (or has hung up, or has an error to report).
    /// Of a PollHangUp source: the peer sends no more.
    Readable,
    /// A PollWrite source can be written (or has hung up, or has an error to report).
    Writable,
    /// One accepted connection, non-blocking and close-on-exec, and its peer's address.
    Accepted(io::Result<(Descriptor, Box<SockAddr>)>),
    /// The bytes of a Send that are left, and how many were sent.
    Sent(WriteQueue<C>, io::Result<usize>),
}

// One is moved several times for each message: addresses are boxed to keep it small.
const _: () = assert!(std::mem::size_of::<Outcome<Box<[u8]>>>() <= 80);
