//! The handshake: from the first byte until both sides have agreed, or one of them gives up.

use super::{Ends, Failure, Phase, Session, Step, Timer, Told};

impl Session {
    /// Begins: the transport is there. Without effect on a session that has begun.
    ///
    /// # Errors
    /// Those of the ends.
    pub fn start<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        if self.phase.get() != Phase::Unwrapped || self.told.get() == Told::Lost {
            return Ok(());
        }
        self.phase.set(Phase::Handshake);
        ends.start_timer(Timer::Handshake)?;
        self.shake_hands(ends)
    }

    /// One step of the handshake.
    pub(super) fn shake_hands<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        let step = ends.handshake()?;
        if self.phase.get() != Phase::Handshake {
            // A callback of the engine has aborted the connection.
            return Ok(());
        }
        match step {
            Step::Again => self.send(ends),
            Step::Done => self.agreed(ends),
            Step::Failed(error) => self.refused(ends, error),
        }
    }

    /// Both sides have agreed.
    fn agreed<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        ends.stop_timer(Timer::Handshake)?;
        self.phase.set(Phase::Wrapped);
        if let Err(error) = ends.established() {
            return self.refused(ends, error);
        }
        if self.told.get() == Told::Nothing {
            self.told.set(Told::Made);
            ends.connection_made()?;
        }
        ends.handshake_done()?;
        if self.reading_paused.get() {
            // The peer waits for the last message of the handshake, which a read would have sent.
            self.send(ends)?;
        }
        self.read(ends).map(drop)
    }

    /// One of the sides has not.
    pub(super) fn refused<E: Ends>(&self, ends: &E, error: E::Error) -> Result<(), E::Error> {
        ends.stop_timer(Timer::Handshake)?;
        self.phase.set(Phase::Unwrapped);
        ends.handshake_failed(error)
    }

    /// A timer has run out.
    ///
    /// # Errors
    /// Those of the ends.
    pub fn timed_out<E: Ends>(&self, ends: &E, timer: Timer) -> Result<(), E::Error> {
        match (timer, self.phase.get()) {
            (Timer::Handshake, Phase::Handshake) => {
                ends.fatal(ends.timeout_error(timer), Failure::Timeout)
            }
            (Timer::Shutdown, Phase::Flushing | Phase::Shutdown) => {
                ends.abort_transport(Some(ends.timeout_error(timer)))
            }
            _ => Ok(()),
        }
    }
}
