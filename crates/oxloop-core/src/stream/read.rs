//! Reading: when the read side is armed, and what its completions mean.
//!
//! The op is armed exactly while `is_armed` says so; every change of the flags is followed by a
//! submit or a cancel. After a cancel the driver delivers nothing for the side, so bytes are never
//! received that nobody wants. Bytes that the owner fetched itself, in [`ReadMode::Poll`], are
//! reported even if its buffer callback has paused reading meanwhile: they cannot be put back.

use std::io;

use super::{Phase, Stream};
use crate::driver::Driver;
use crate::mutant::planted;
use crate::op::{Op, Side};

/// Who receives the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadMode {
    /// The driver: completions are `Received`.
    Recv,
    /// The owner, with `Driver::try_recv` into its own buffer: completions are `Readable`.
    Poll,
    /// Nobody: completions are `Readable` when the peer of a socket has ended its stream.
    HangUp,
}

impl ReadMode {
    fn op<C>(self) -> Op<C> {
        match self {
            ReadMode::Recv => Op::Recv,
            ReadMode::Poll => Op::PollRead,
            ReadMode::HangUp => Op::PollHangUp,
        }
    }
}

/// What the owner makes of a receive.
#[derive(Debug)]
pub enum ReadEvent {
    /// So many bytes came.
    Data(usize),
    /// The peer sends no more. The read side is not armed any more.
    Eof,
    /// Reading failed. The read side is not armed any more.
    Error(io::Error),
    /// Nothing to do.
    Ignored,
}

impl<C: AsRef<[u8]>> Stream<C> {
    /// Begins to read, unless it was paused before. Again: changes the mode.
    ///
    /// # Errors
    /// Those of `Driver::submit`; the stream does not read then.
    pub fn start_reading<D: Driver<C>>(&mut self, d: &mut D, mode: ReadMode) -> io::Result<()> {
        let is_new = !self.is_read_started || self.read_mode != mode;
        self.is_read_started = true;
        self.read_mode = mode;
        if is_new { self.arm(d) } else { Ok(()) }
    }

    /// Changes who receives the bytes (the protocol was replaced).
    ///
    /// # Errors
    /// Those of `Driver::submit`.
    pub fn set_read_mode<D: Driver<C>>(&mut self, d: &mut D, mode: ReadMode) -> io::Result<()> {
        if self.is_read_started {
            return self.start_reading(d, mode);
        }
        self.read_mode = mode;
        Ok(())
    }

    /// Stops reading until `resume_reading`. Whether that changed anything.
    pub fn pause_reading<D: Driver<C>>(&mut self, d: &mut D) -> bool {
        if !self.is_reading() {
            return false;
        }
        self.is_read_paused = true;
        if !planted!(PauseIgnored) {
            self.disarm(d);
        }
        true
    }

    /// Goes on reading after `pause_reading`. Whether that changed anything.
    ///
    /// # Errors
    /// Those of `Driver::submit`; the stream stays paused then.
    pub fn resume_reading<D: Driver<C>>(&mut self, d: &mut D) -> io::Result<bool> {
        if !self.is_paused() {
            return Ok(false);
        }
        self.is_read_paused = false;
        self.arm(d).inspect_err(|_| self.is_read_paused = true)?;
        Ok(true)
    }

    /// Whether bytes are wanted: not closing, not paused, no end seen. True before the start too.
    pub fn is_reading(&self) -> bool {
        self.phase == Phase::Open && !self.is_read_paused && !self.is_read_ended
    }

    /// Whether `pause_reading` is in force and `resume_reading` would change that.
    pub fn is_paused(&self) -> bool {
        self.phase == Phase::Open && self.is_read_paused && !self.is_read_ended
    }

    /// Takes the result of a receive, the driver's or the owner's own.
    pub fn on_received<D: Driver<C>>(&mut self, d: &mut D, result: io::Result<usize>) -> ReadEvent {
        if self.phase != Phase::Open || self.is_read_ended {
            return ReadEvent::Ignored;
        }
        let event = match result {
            Ok(0) => ReadEvent::Eof,
            Ok(received_bytes) => return ReadEvent::Data(received_bytes),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {
                    return ReadEvent::Ignored;
                }
                _ => ReadEvent::Error(error),
            },
        };
        self.is_read_ended = true;
        if !planted!(EndStaysArmed) {
            self.disarm(d);
        }
        event
    }

    pub(super) fn disarm<D: Driver<C>>(&mut self, d: &mut D) {
        if self.is_read_started {
            // Only a Send brings bytes back, and this is the read side.
            d.cancel(self.token, Side::Read);
        }
    }

    fn arm<D: Driver<C>>(&mut self, d: &mut D) -> io::Result<()> {
        if self.is_read_started && self.is_reading() {
            d.submit(self.token, self.read_mode.op())?;
        }
        Ok(())
    }
}
