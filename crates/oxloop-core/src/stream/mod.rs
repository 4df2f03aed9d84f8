//! The byte transport as a state machine. It asks a driver, which is passed in; it never blocks,
//! never owns a descriptor and never calls user code: methods answer with what the owner must do.
//!
//! Phases, and what each method does in them:
//!
//! | | Open | Closing (bytes left) | Finished (closed, aborted) | Lost (released) |
//! |---|---|---|---|---|
//! | reading | if started, not paused, no end seen | never | never | never |
//! | `write` | sends or queues | queues | error | error |
//! | `write_eof` | now, or once drained | nothing | nothing | nothing |
//! | `on_sent` | goes on sending | same | nothing | nothing |
//! | `finish` | nothing | drained → Finished | nothing | nothing |
//! | `close` | → Closing or Finished | nothing | nothing | nothing |
//! | `abort` | → Finished | → Finished | nothing | nothing |
//! | `lose` | → Lost | → Lost | → Lost | nothing |
//!
//! After a failed write the stream sends nothing more; its owner aborts it. Owners then `lose` it,
//! and only after that close the descriptor.
//!
//! Invariant: the bytes of the Send that is with the driver, plus those of `queue`, are
//! `buffered_bytes`. Every byte is in exactly one of these places, and a Send brings back what it
//! did not send; so none is lost or sent twice.
//!
//! What can still go wrong: what the kernel accepted and the peer's kernel did not get before a
//! reset is gone, without a word to either side. That is TCP.

mod close;
mod read;
mod write;

use crate::buf::WriteQueue;
use crate::limits::{WRITE_HIGH_WATER_BYTES, WRITE_LOW_WATER_BYTES};
use crate::slab::Token;

pub use self::read::{ReadEvent, ReadMode};
pub use self::write::{PauseChange, Sent};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    Closing,
    Finished,
    Lost,
}

/// A byte transport.
#[derive(Debug)]
pub struct Stream<C> {
    token: Token,
    phase: Phase,

    read_mode: ReadMode,
    is_read_started: bool,
    is_read_paused: bool,
    /// The peer's end was seen, or reading failed.
    is_read_ended: bool,

    queue: WriteQueue<C>,
    /// Bytes of the Send that is with the driver; 0 if there is none.
    in_flight_bytes: usize,
    high_water_bytes: usize,
    low_water_bytes: usize,
    is_protocol_paused: bool,
    is_eof_requested: bool,
    is_write_failed: bool,
}

impl<C: AsRef<[u8]>> Stream<C> {
    /// A stream over a registered source. It does not read before it is told to.
    pub fn new(token: Token) -> Self {
        Stream {
            token,
            phase: Phase::Open,
            read_mode: ReadMode::Recv,
            is_read_started: false,
            is_read_paused: false,
            is_read_ended: false,
            queue: WriteQueue::new(),
            in_flight_bytes: 0,
            high_water_bytes: WRITE_HIGH_WATER_BYTES,
            low_water_bytes: WRITE_LOW_WATER_BYTES,
            is_protocol_paused: false,
            is_eof_requested: false,
            is_write_failed: false,
        }
    }

    /// The source's token.
    pub fn token(&self) -> Token {
        self.token
    }
}
