//! Closing: softly, hard, and for good.
//!
//! `close` lets what is queued go out first; `abort` drops it; `lose` is the last step of both,
//! after which the owner may close the descriptor. Unsent chunks are handed out and never dropped
//! here, because their drop may run foreign code while the owner holds borrows.

use super::{Phase, Stream};
use crate::buf::WriteQueue;
use crate::driver::Driver;
use crate::mutant::planted;
use crate::op::Side;

impl<C: AsRef<[u8]>> Stream<C> {
    /// Stops reading, and ends the stream once everything is sent. `true`: nothing is left to send,
    /// the owner may end it now; else `finish` will say when. A second call returns `false`.
    pub fn close<D: Driver<C>>(&mut self, d: &mut D) -> bool {
        if self.phase != Phase::Open {
            return false;
        }
        self.disarm(d);
        let is_drained = self.buffered_bytes() == 0 || planted!(CloseDropsQueue);
        self.phase = if is_drained { Phase::Finished } else { Phase::Closing };
        is_drained
    }

    /// Ends a stream that is closing and has nothing left to send; `true` if it just did. Called when
    /// a Send has drained the stream and the protocol, if it had to be resumed, has written or not.
    pub fn finish(&mut self) -> bool {
        let is_over = self.phase == Phase::Closing && self.buffered_bytes() == 0;
        if is_over {
            self.phase = Phase::Finished;
        }
        is_over
    }

    /// Whether the stream was closed, aborted or lost.
    pub fn is_closing(&self) -> bool {
        self.phase != Phase::Open
    }

    /// Ends the stream now. The bytes that were not sent are returned. Idempotent.
    pub fn abort<D: Driver<C>>(&mut self, d: &mut D) -> WriteQueue<C> {
        if self.phase == Phase::Lost {
            return WriteQueue::new();
        }
        self.disarm(d);
        self.phase = Phase::Finished;
        let in_flight = match self.in_flight_bytes {
            0 => None,
            _ if planted!(AbortForgetsSend) => None,
            _ => d.cancel(self.token, Side::Write),
        };
        self.take_unsent(in_flight)
    }

    /// Lets go of the descriptor; after this the owner may close it. The bytes that were not sent
    /// are returned. Idempotent.
    pub fn lose<D: Driver<C>>(&mut self, d: &mut D) -> WriteQueue<C> {
        if self.phase == Phase::Lost {
            return WriteQueue::new();
        }
        self.phase = Phase::Lost;
        let in_flight = d.release(self.token);
        self.take_unsent(in_flight)
    }

    fn take_unsent(&mut self, in_flight: Option<WriteQueue<C>>) -> WriteQueue<C> {
        self.in_flight_bytes = 0;
        let mut unsent = in_flight.unwrap_or_default();
        unsent.append(self.queue.take());
        unsent
    }
}
