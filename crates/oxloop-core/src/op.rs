//! What is asked of a driver.
//!
//! An op names its side of a source (read or write); a source has at most one op per side. Recv,
//! RecvFrom, PollRead, PollHangUp, PollWrite and Accept stay armed until they are cancelled or
//! replaced; Send is one send. A Send owns its bytes until its completion, as a kernel that works
//! asynchronously must.

use crate::buf::WriteQueue;
use crate::completion::Completion;

/// One request to a driver.
#[derive(Debug)]
pub enum Op<C> {
    /// Receive into the driver's shared buffer, again and again until cancelled.
    Recv,
    /// Receive datagrams into the driver's shared buffer, one by one until cancelled.
    RecvFrom,
    /// Say when the descriptor is readable, again and again until cancelled.
    PollRead,
    /// Say when the peer of a socket has ended its stream, read or unread, again and again until
    /// cancelled. What it sends before does not count.
    PollHangUp,
    /// Say when the descriptor is writable, again and again until cancelled.
    PollWrite,
    /// Accept connections on a listener, again and again until cancelled.
    Accept,
    /// Send a prefix of these bytes once; the completion brings back what is left.
    Send(WriteQueue<C>),
}

impl<C> Op<C> {
    /// The side of the source that this op occupies.
    pub fn side(&self) -> Side {
        match self {
            Op::Recv | Op::RecvFrom | Op::PollRead | Op::PollHangUp | Op::Accept => Side::Read,
            Op::PollWrite | Op::Send(_) => Side::Write,
        }
    }
}

/// The two directions of a source; each holds at most one op.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// Recv, RecvFrom, PollRead, PollHangUp, Accept.
    Read,
    /// PollWrite, Send.
    Write,
}

/// What became of a submitted op.
#[derive(Debug)]
pub enum Submitted<C> {
    /// It is armed; completions follow.
    Pending,
    /// It was finished at once; no completion follows.
    Done(Completion<C>),
}
