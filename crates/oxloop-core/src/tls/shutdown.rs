//! The end: what has come is delivered, what was written is sent, the close_notify goes and comes.

use super::{Ends, Failure, Phase, ReadEnd, Session, Step, Timer, Told};

impl Session {
    /// The application closes, or the peer's close_notify came. During the handshake: aborts.
    ///
    /// # Errors
    /// Those of the ends.
    pub fn close<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        match self.phase.get() {
            Phase::Unwrapped | Phase::Shutdown => Ok(()),
            Phase::Handshake => {
                ends.closing();
                self.abort(ends, None)
            }
            Phase::Wrapped => {
                ends.closing();
                self.phase.set(Phase::Flushing);
                ends.start_timer(Timer::Shutdown)?;
                self.flush(ends)
            }
            // The transport has ended before the application had read everything. It never will.
            Phase::Flushing if self.transport_ended.get() => {
                self.reading_paused.set(true);
                self.flush(ends)
            }
            Phase::Flushing => Ok(()),
        }
    }

    /// Ends the connection at once.
    ///
    /// # Errors
    /// Those of the ends.
    pub fn abort<E: Ends>(&self, ends: &E, error: Option<E::Error>) -> Result<(), E::Error> {
        self.phase.set(Phase::Unwrapped);
        ends.abort_transport(error)
    }

    /// Delivers and sends what there is, then shuts down.
    pub(super) fn flush<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        let end = self.read(ends)?;
        if end == ReadEnd::More && self.transport_ended.get() {
            // The application did not close; it gets the rest before it hears of the end.
            return Ok(());
        }
        if self.phase.get() == Phase::Flushing && ends.has_backlog() {
            if let Err(error) = self.write(ends) {
                return ends.fatal(error, Failure::Data);
            }
        }
        // The application may have aborted, or closed and come here by itself.
        if self.phase.get() != Phase::Flushing {
            return Ok(());
        }
        self.phase.set(Phase::Shutdown);
        self.shut_down(ends)
    }

    /// One step of the shutdown.
    pub(super) fn shut_down<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        let step = match self.transport_ended.get() {
            // Nobody is left who would answer.
            true => Step::Done,
            false => ends.shut_down()?,
        };
        if self.phase.get() != Phase::Shutdown {
            return Ok(());
        }
        match step {
            Step::Again => self.send(ends),
            Step::Failed(error) => {
                ends.stop_timer(Timer::Shutdown)?;
                ends.fatal(error, Failure::Shutdown)
            }
            Step::Done => {
                self.send(ends)?;
                self.end_of_plaintext(ends)?;
                // The transport sends what it is given before it closes, however much it has.
                ends.send_encrypted()?;
                ends.stop_timer(Timer::Shutdown)?;
                ends.close_transport_soon();
                Ok(())
            }
        }
    }

    /// Tells the application, once, that no more plaintext comes.
    pub(super) fn end_of_plaintext<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        if self.told.get() != Told::Made {
            return Ok(());
        }
        self.told.set(Told::Eof);
        match ends.eof_received() {
            Ok(()) => Ok(()),
            Err(error) => ends.fatal(error, Failure::EofReceived),
        }
    }
}
