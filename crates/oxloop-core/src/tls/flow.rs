//! Flow control: four valves, two for each direction.
//!
//! Ciphertext that the application does not take piles up before the engine; above high water the
//! transport stops reading. Ciphertext that the transport does not take piles up behind the engine;
//! above high water the application is asked to pause. Unlike a plain transport's, these marks
//! count as reached when the size equals them; that is asyncio's way for TLS.

use super::{Ends, Session};
use crate::limits::low_water_bytes;

/// High and low water, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// From here on the sender is paused.
    pub high_bytes: usize,
    /// From here down it may go on.
    pub low_bytes: usize,
}

/// What a size means for a sender.
enum Change {
    Pause,
    Resume,
    Nothing,
}

impl Marks {
    /// The marks that go with a high water if no low one is given.
    pub const fn below(high_bytes: usize) -> Self {
        Marks { high_bytes, low_bytes: low_water_bytes(high_bytes) }
    }

    fn change(self, size_bytes: usize, is_paused: bool) -> Change {
        if size_bytes >= self.high_bytes && !is_paused {
            Change::Pause
        } else if size_bytes <= self.low_bytes && is_paused {
            Change::Resume
        } else {
            Change::Nothing
        }
    }
}

impl Session {
    /// Whether the application has paused reading.
    pub fn reading_paused(&self) -> bool {
        self.reading_paused.get()
    }

    /// Whether the application was asked to pause writing.
    pub fn writing_paused(&self) -> bool {
        self.writing_paused.get()
    }

    /// Whether the transport has asked for a pause.
    pub fn transport_writing_paused(&self) -> bool {
        self.transport_writing_paused.get()
    }

    /// The marks of the application's writing.
    pub fn write_marks(&self) -> Marks {
        self.write_marks.get()
    }

    /// Sets the marks of the application's writing; they hold at once.
    ///
    /// # Errors
    /// Those of the ends.
    pub fn set_write_marks<E: Ends>(&self, ends: &E, marks: Marks) -> Result<(), E::Error> {
        self.write_marks.set(marks);
        self.control_writing(ends)
    }

    /// The marks of the transport's reading.
    pub fn read_marks(&self) -> Marks {
        self.read_marks.get()
    }

    /// Sets the marks of the transport's reading; they hold at once.
    ///
    /// # Errors
    /// Those of the ends.
    pub fn set_read_marks<E: Ends>(&self, ends: &E, marks: Marks) -> Result<(), E::Error> {
        self.read_marks.set(marks);
        self.control_reading(ends)
    }

    /// The application wants no plaintext until [`resume_reading`](Self::resume_reading).
    pub fn pause_reading(&self) {
        self.reading_paused.set(true);
    }

    /// The application wants plaintext again; what has come meanwhile is delivered soon.
    pub fn resume_reading<E: Ends>(&self, ends: &E) {
        if self.reading_paused.replace(false) {
            ends.read_soon();
        }
    }

    /// The transport wants no more ciphertext for now.
    pub fn transport_full(&self) {
        self.transport_writing_paused.set(true);
    }

    /// The transport has room again.
    ///
    /// # Errors
    /// Those of the ends.
    pub fn transport_has_room<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        self.transport_writing_paused.set(false);
        self.send(ends)
    }

    /// Asks the application to pause or resume writing, if it is time to.
    pub(super) fn control_writing<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        let is_paused = self.writing_paused.get();
        match self.write_marks.get().change(ends.unsent_bytes()?, is_paused) {
            Change::Pause => self.writing_paused.set(true),
            Change::Resume => self.writing_paused.set(false),
            Change::Nothing => return Ok(()),
        }
        ends.pause_writing(!is_paused)
    }

    /// Asks the transport to pause or resume reading, if it is time to.
    pub(super) fn control_reading<E: Ends>(&self, ends: &E) -> Result<(), E::Error> {
        let is_paused = self.transport_reading_paused.get();
        match self.read_marks.get().change(ends.incoming_bytes()?, is_paused) {
            Change::Pause => self.transport_reading_paused.set(true),
            Change::Resume => self.transport_reading_paused.set(false),
            Change::Nothing => return Ok(()),
        }
        ends.pause_transport(!is_paused)
    }
}
