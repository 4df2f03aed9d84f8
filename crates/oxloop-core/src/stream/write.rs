//! Writing: try at once, queue the rest, tell the protocol when there is too much.
//!
//! At most one Send is with the driver; what is written meanwhile waits in `queue` and goes with
//! the next. The protocol is paused when the buffered bytes rise above high water and resumed,
//! once, when they are at low water or below.

use std::io::{self, IoSlice};

use super::{Phase, Stream};
use crate::buf::WriteQueue;
use crate::completion::Outcome;
use crate::driver::Driver;
use crate::limits::IOVECS_PER_SEND_MAX;
use crate::mutant::planted;
use crate::op::{Op, Submitted};

/// What the owner does after a Send.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// Tell the protocol that it may write again.
    pub resume: bool,
    /// Nothing is left to send. Once the protocol was resumed, `finish` says whether that is still so
    /// and a stream that is closing is finished.
    pub drained: bool,
}

/// What the owner tells the protocol when the limits have changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PauseChange {
    /// It must pause writing.
    Pause,
}

impl<C: AsRef<[u8]>> Stream<C> {
    /// Writes bytes: what the socket takes at once is sent, the rest is queued as `keep(offset)`,
    /// the caller's owned form of `data[offset..]`. `true`: the protocol must pause writing.
    ///
    /// # Errors
    /// Those of the send; the stream sends nothing more then. `NotConnected`: it is finished.
    /// `InvalidInput`: `write_eof` was called before.
    pub fn write<D: Driver<C>>(
        &mut self,
        d: &mut D,
        data: &[u8],
        keep: impl FnOnce(usize) -> C,
    ) -> io::Result<bool> {
        self.check_writable()?;
        if data.is_empty() {
            return Ok(false);
        }
        let mut sent_bytes = 0;
        if self.buffered_bytes() == 0 {
            sent_bytes = self.sent_at_once(d.try_send(self.token, data))?;
            if sent_bytes == data.len() {
                return Ok(false);
            }
        }
        self.queue.push(keep(sent_bytes));
        self.send_queued(d)?;
        Ok(self.pause_if_above_high())
    }

    /// Writes chunks in order, joined into one send as far as possible. `true` as in `write`.
    ///
    /// # Errors
    /// As for `write`.
    pub fn write_chunks<D: Driver<C>>(&mut self, d: &mut D, chunks: Vec<C>) -> io::Result<bool> {
        self.check_writable()?;
        let mut added = WriteQueue::new();
        for chunk in chunks {
            added.push(chunk);
        }
        if added.is_empty() {
            return Ok(false);
        }
        if self.buffered_bytes() == 0 {
            let mut slices = [IoSlice::new(&[]); IOVECS_PER_SEND_MAX];
            let filled = added.as_io_slices(&mut slices);
            let result = d.try_send_vectored(self.token, &slices[..filled]);
            match self.sent_at_once(result) {
                Ok(sent_bytes) => added.advance(sent_bytes),
                Err(error) => {
                    // Kept, so that `abort` hands them out like all the rest.
                    self.queue.append(added);
                    return Err(error);
                }
            }
        }
        self.queue.append(added);
        self.send_queued(d)?;
        if planted!(ChunksForgetFlow) {
            return Ok(false);
        }
        Ok(self.pause_if_above_high())
    }

    /// Takes the completion of a Send and goes on with what is left.
    ///
    /// # Errors
    /// Those of the send, or of the shutdown that follows the last byte; the stream sends nothing
    /// more then. What was not sent stays with the stream, for `abort` or `lose` to hand out.
    pub fn on_sent<D: Driver<C>>(
        &mut self,
        d: &mut D,
        left: WriteQueue<C>,
        result: io::Result<usize>,
    ) -> io::Result<Sent> {
        self.in_flight_bytes = 0;
        self.take_back(left, result)?;
        self.send_queued(d)?;
        let drained = self.buffered_bytes() == 0;
        if drained && self.is_eof_requested && self.phase == Phase::Open {
            d.shutdown_write(self.token)?;
        }
        let resume = self.is_protocol_paused
            && self.buffered_bytes() <= self.low_water_bytes
            && !planted!(NeverResumes);
        if resume {
            self.is_protocol_paused = planted!(ResumesAgain);
        }
        Ok(Sent { resume, drained })
    }

    /// Tells the peer, once everything is sent, that no more bytes follow. Idempotent.
    ///
    /// # Errors
    /// Those of the shutdown, if it is made at once.
    pub fn write_eof<D: Driver<C>>(&mut self, d: &mut D) -> io::Result<()> {
        if self.phase != Phase::Open || self.is_eof_requested {
            return Ok(());
        }
        self.is_eof_requested = true;
        let is_now = self.buffered_bytes() == 0 || planted!(EofBeforeBytes);
        if is_now { d.shutdown_write(self.token) } else { Ok(()) }
    }

    /// Whether `write_eof` was called; nothing may be written after it.
    pub fn eof_requested(&self) -> bool {
        self.is_eof_requested
    }

    /// Bytes that were written and that no send has taken.
    pub fn buffered_bytes(&self) -> usize {
        self.in_flight_bytes + self.queue.len_bytes()
    }

    /// Low water and high water, in bytes.
    pub fn limits(&self) -> (usize, usize) {
        (self.low_water_bytes, self.high_water_bytes)
    }

    /// Sets high water and low water, in bytes; what that means for the protocol. A protocol that
    /// is paused is not resumed by new limits but by the next send, as in asyncio.
    pub fn set_limits(&mut self, high: usize, low: usize) -> Option<PauseChange> {
        self.high_water_bytes = high;
        self.low_water_bytes = low;
        self.pause_if_above_high().then_some(PauseChange::Pause)
    }

    /// Whether the protocol was told to pause writing and not yet to resume.
    pub fn protocol_paused(&self) -> bool {
        self.is_protocol_paused
    }

    fn check_writable(&self) -> io::Result<()> {
        if matches!(self.phase, Phase::Finished | Phase::Lost) || self.is_write_failed {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the stream is closed"));
        }
        if self.is_eof_requested {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "write after write_eof"));
        }
        Ok(())
    }

    /// What an immediate send took; nothing if the socket has no room.
    fn sent_at_once(&mut self, result: io::Result<usize>) -> io::Result<usize> {
        match result {
            Err(error) if is_not_now(&error) => Ok(0),
            result => result.inspect_err(|_| self.is_write_failed = true),
        }
    }

    /// Submits the queue until a Send is pending or nothing is left.
    fn send_queued<D: Driver<C>>(&mut self, d: &mut D) -> io::Result<()> {
        let may_send = matches!(self.phase, Phase::Open | Phase::Closing) && !self.is_write_failed;
        while may_send && self.in_flight_bytes == 0 && !self.queue.is_empty() {
            let queue = self.queue.take();
            let len_bytes = queue.len_bytes();
            match d.submit(self.token, Op::Send(queue)) {
                Ok(Submitted::Pending) => self.in_flight_bytes = len_bytes,
                Ok(Submitted::Done(completion)) => match completion.outcome {
                    Outcome::Sent(left, result) => self.take_back(left, result)?,
                    _ => unreachable!("a Send is answered by Sent"),
                },
                Err(error) => {
                    self.is_write_failed = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Puts what a Send did not send back in front.
    fn take_back(&mut self, mut left: WriteQueue<C>, result: io::Result<usize>) -> io::Result<()> {
        let is_stuck = !left.is_empty() && matches!(result, Ok(0));
        if planted!(LeftGoesBehind) && left.chunk_count() > 0 && !self.queue.is_empty() {
            let newer = self.queue.take();
            self.queue.append(newer);
            left.clear().into_iter().for_each(|chunk| self.queue.push(chunk));
        } else if !(planted!(LeftLostOnError) && result.is_err()) {
            self.queue.push_front(left);
        }
        let result = if is_stuck { Err(io::ErrorKind::WriteZero.into()) } else { result };
        self.sent_at_once(result).map(|_| ())
    }

    fn pause_if_above_high(&mut self) -> bool {
        let pauses = !self.is_protocol_paused
            && self.buffered_bytes() > self.high_water_bytes
            && !(planted!(PausesTooLate) && self.buffered_bytes() <= 2 * self.high_water_bytes + 1);
        if pauses {
            self.is_protocol_paused = true;
        }
        pauses
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
