//! The pump: ciphertext in, plaintext up; plaintext in, ciphertext down.

use super::{Ends, Failure, Phase, ReadEnd, Session};

impl Session {
    /// The engine was given ciphertext: goes on with whatever the session is at.
    ///
    /// # Errors
    /// Those of the ends that are no matter of this connection alone.
    #[inline]
    pub fn received<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        match self.phase.get() {
            Phase::Wrapped => self.read(ends).map(drop),
            Phase::Handshake => self.shake_hands(ends),
            Phase::Flushing => self.flush(ends),
            Phase::Shutdown => self.shut_down(ends),
            Phase::Unwrapped => Ok(()),
        }
    }

    /// What [`Ends::read_soon`] has scheduled.
    ///
    /// # Errors
    /// As for [`received`](Self::received).
    pub fn resumed<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        match self.phase.get() {
            Phase::Handshake => Ok(()),
            // It was closed meanwhile, and all is done.
            Phase::Shutdown if self.transport_ended.get() => Ok(()),
            _ => self.received(ends),
        }
    }

    /// The application has written: the bytes stand in the backlog.
    ///
    /// # Errors
    /// As for [`received`](Self::received).
    #[inline]
    pub fn written<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        if self.phase.get() != Phase::Wrapped {
            return Ok(());
        }
        match self.write(ends) {
            Ok(()) => Ok(()),
            Err(error) => ends.fatal(error, Failure::Data),
        }
    }

    /// The transport's peer sends no more. Whether the transport is to stay open.
    ///
    /// # Errors
    /// As for [`received`](Self::received).
    pub fn transport_ended<E: Ends>(&self, ends: &E) -> Result<bool, E::Error> {
        self.transport_ended.set(true);
        match self.phase.get() {
            Phase::Handshake => self.refused(ends, ends.reset_error())?,
            Phase::Wrapped => {
                self.phase.set(Phase::Flushing);
                if self.reading_paused.get() {
                    // What has come before the end waits for the application.
                    return Ok(true);
                }
                self.flush(ends)?;
                // Still there: the application gets the rest piece by piece.
                return Ok(self.phase.get() == Phase::Flushing);
            }
            Phase::Flushing => {
                self.write(ends)?;
                self.phase.set(Phase::Shutdown);
                self.shut_down(ends)?;
            }
            Phase::Shutdown => self.shut_down(ends)?,
            Phase::Unwrapped => {}
        }
        Ok(false)
    }

    /// Delivers the plaintext that has come. A failure ends the connection.
    pub(super) fn read<E: Ends>(&self, ends: &E) -> Result<ReadEnd, E::Error> {
        if !matches!(self.phase.get(), Phase::Wrapped | Phase::Flushing) {
            return Ok(ReadEnd::Drained);
        }
        match self.read_and_answer(ends) {
            Ok(end) => Ok(end),
            Err(error) => ends.fatal(error, Failure::Data).map(|()| ReadEnd::Drained),
        }
    }

    fn read_and_answer<E: Ends>(&self, ends: &E) -> Result<ReadEnd, E::Error> {
        let mut end = ReadEnd::Drained;
        let is_paused = self.reading_paused.get();
        if !is_paused {
            end = ends.read()?;
            match end {
                ReadEnd::Drained => {}
                ReadEnd::More => ends.read_soon(),
                ReadEnd::Closed => {
                    self.end_of_plaintext(ends)?;
                    self.close(ends)?;
                }
            }
            // The engine may have answered by itself, or taken no plaintext before it had read.
            if ends.has_backlog() { self.write(ends)? } else { self.send(ends)? }
        }
        let is_drained = !is_paused && end == ReadEnd::Drained;
        if !is_drained || self.transport_reading_paused.get() {
            self.control_reading(ends)?;
        }
        Ok(end)
    }

    /// Encrypts the backlog and sends it.
    pub(super) fn write<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        ends.encrypt()?;
        self.send(ends)
    }

    /// Gives the transport what the engine has for the peer, if the transport wants it.
    pub(super) fn send<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        if !self.transport_writing_paused.get() {
            ends.send_encrypted()?;
        }
        self.control_writing(ends)
    }
}
