//! The virtual clock, and what will happen when.
//!
//! Time moves only when somebody waits or a call takes its time; then everything that is due happens,
//! in the order of its time and, at the same time, of its scheduling.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

/// One end of a connection: the connection's number and the side, 0 or 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct EndId {
    pub(super) connection: u64,
    pub(super) side: usize,
}

impl EndId {
    pub(super) fn other(self) -> EndId {
        EndId { connection: self.connection, side: 1 - self.side }
    }
}

/// What happens at some time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Happening {
    /// The next segment on its way to this end arrives.
    Arrives(EndId),
    /// The request for a connection reaches the listener's machine.
    Asks(EndId),
    /// The client learns that it is connected.
    Connects(EndId),
    /// This end learns of an error that ends the connection.
    Breaks(EndId, i32),
    /// A datagram arrives.
    Datagram { to: SocketAddr, from: SocketAddr, bytes: Vec<u8> },
    /// The sender of a datagram learns that nobody listens there.
    Unreachable(SocketAddr, SocketAddr),
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    at_ns: i64,
    sequence: u64,
    happening: Happening,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    now_ns: i64,
    entries: BinaryHeap<Reverse<Entry>>,
    next_sequence: u64,
}

impl Timeline {
    #[inline]
    pub(super) fn now_ns(&self) -> i64 {
        self.now_ns
    }

    /// Moves the clock; never back.
    pub(super) fn advance_to(&mut self, ns: i64) {
        self.now_ns = self.now_ns.max(ns);
    }

    pub(super) fn schedule(&mut self, at_ns: i64, happening: Happening) {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.entries.push(Reverse(Entry { at_ns, sequence, happening }));
    }

    /// When the next thing happens.
    pub(super) fn next_ns(&self) -> Option<i64> {
        self.entries.peek().map(|entry| entry.0.at_ns)
    }

    /// The next thing that is due.
    #[inline]
    pub(super) fn pop_due(&mut self) -> Option<Happening> {
        if self.entries.peek()?.0.at_ns > self.now_ns {
            return None;
        }
        self.entries.pop().map(|entry| entry.0.happening)
    }
}
