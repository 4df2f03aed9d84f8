//! TLS between a transport and an application: when to shake hands, read, write and shut down.
//!
//! Facts. A TLS library turns ciphertext into plaintext and back, and now and then must send when
//! it was asked to read, or read when it was asked to write. It may run the program's code in the
//! middle of a call (certificate and server name callbacks), and so may everything that is given to
//! the application. Whoever is called may close, abort or write.
//! Decision. A [`Session`] holds what is known of one connection in cells and decides what comes
//! next; the acts themselves are those of [`Ends`]: the engine, the transport below, the application
//! above, the timers. No borrow of the session lives across an act, and after each act the session
//! looks at its phase again. [`handshake`](Session::start), [`pump`](Session::received) and
//! [`shutdown`](Session::close) are a file each.
//! What can still go wrong: an end of the transport without a close_notify cannot be told from one
//! that an attacker made; asyncio reports both as an end, and so does this.
//!
//! ```text
//! Unwrapped → Handshake → Wrapped → Flushing → Shutdown → Unwrapped
//! ```
//!
//! Every phase may go to `Unwrapped` at once: the transport is aborted or lost.

mod flow;
mod handshake;
mod pump;
mod shutdown;

use std::cell::Cell;

pub use flow::Marks;

use crate::limits::{TLS_READ_HIGH_WATER_BYTES, TLS_WRITE_HIGH_WATER_BYTES};

/// Where a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Not begun, or over.
    Unwrapped,
    /// The handshake is under way.
    Handshake,
    /// Plaintext goes both ways.
    Wrapped,
    /// No more plaintext is taken; what has come is still delivered.
    Flushing,
    /// The close_notify was sent, or is about to be; the peer's is awaited.
    Shutdown,
}

/// What the application has been told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Nothing yet.
    Nothing,
    /// `connection_made`.
    Made,
    /// `eof_received`.
    Eof,
    /// `connection_lost`, or that it is on its way.
    Lost,
}

/// What the engine made of a call.
#[derive(Debug)]
pub enum Step<E> {
    /// It is done.
    Done,
    /// It needs more bytes of the peer, or has bytes for it.
    Again,
    /// The peer or its certificate is not acceptable.
    Failed(E),
}

/// Why reading plaintext has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReadEnd {
    /// Everything that has come was read.
    Drained,
    /// The application's buffer is full, there may be more.
    More,
    /// The peer's close_notify came.
    Closed,
}

/// The two times that a peer is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// For the whole handshake.
    Handshake,
    /// From `close` to the peer's close_notify.
    Shutdown,
}

/// In what a connection failed, for the report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Reading, writing, or the application's own methods.
    Data,
    /// The application's `eof_received`.
    EofReceived,
    /// The shutdown.
    Shutdown,
    /// The handshake took too long.
    Timeout,
}

/// What a session stands between. Each method may run code that calls the session again.
///
/// An `Err` of any method leaves the session at once and goes to its caller, unless stated.
pub trait Ends {
    /// What goes wrong here.
    type Error;

    // The engine.

    /// Goes on with the handshake.
    fn handshake(&self) -> Result<Step<Self::Error>, Self::Error>;
    /// Sends the close_notify, and looks for the peer's.
    fn shut_down(&self) -> Result<Step<Self::Error>, Self::Error>;
    /// Gives the application the plaintext that has come.
    fn read(&self) -> Result<ReadEnd, Self::Error>;
    /// Gives the engine what the application has written, as far as it takes it.
    fn encrypt(&self) -> Result<(), Self::Error>;
    /// Gives the transport what the engine has for the peer.
    fn send_encrypted(&self) -> Result<(), Self::Error>;
    /// Ciphertext that came and that the engine has not looked at.
    fn incoming_bytes(&self) -> Result<usize, Self::Error>;
    /// What the application has written and the transport was not given.
    fn unsent_bytes(&self) -> Result<usize, Self::Error>;
    /// Whether the engine has not taken everything that the application has written.
    fn has_backlog(&self) -> bool;

    // The application.

    /// Learns who the peer is; an error makes the handshake fail.
    fn established(&self) -> Result<(), Self::Error>;
    /// The handshake failed: the one who waits is told, and the transport aborted.
    fn handshake_failed(&self, error: Self::Error) -> Result<(), Self::Error>;
    /// The one who waits for the handshake is told that it is done.
    fn handshake_done(&self) -> Result<(), Self::Error>;
    /// `connection_made`.
    fn connection_made(&self) -> Result<(), Self::Error>;
    /// `eof_received`.
    fn eof_received(&self) -> Result<(), Self::Error>;
    /// `pause_writing` or `resume_writing`; their failures are reported, not returned.
    fn pause_writing(&self, pause: bool) -> Result<(), Self::Error>;
    /// The application's side is closed, by whomever.
    fn closing(&self);
    /// Schedules [`Session::resumed`].
    fn read_soon(&self);

    // The transport.

    /// Stops or resumes reading.
    fn pause_transport(&self, pause: bool) -> Result<(), Self::Error>;
    /// Schedules the end of the transport, after all it was given.
    fn close_transport_soon(&self);
    /// Ends the transport now, because of `error` or by request.
    fn abort_transport(&self, error: Option<Self::Error>) -> Result<(), Self::Error>;

    // Time and failure.

    /// Starts to count; [`Session::timed_out`] at the end.
    fn start_timer(&self, timer: Timer) -> Result<(), Self::Error>;
    /// Counts no more. Without effect if it does not count.
    fn stop_timer(&self, timer: Timer) -> Result<(), Self::Error>;
    /// The error for a peer that took too long.
    fn timeout_error(&self, timer: Timer) -> Self::Error;
    /// The error for a peer that hung up during the handshake.
    fn reset_error(&self) -> Self::Error;
    /// Reports `error` and aborts the transport; `Err` if the error is to leave the loop.
    fn fatal(&self, error: Self::Error, failure: Failure) -> Result<(), Self::Error>;
}

/// One TLS connection: its phase, what the application was told, and who is paused.
#[derive(Debug)]
pub struct Session {
    phase: Cell<Phase>,
    told: Cell<Told>,
    /// The transport's end was seen.
    transport_ended: Cell<bool>,
    /// The application wants no plaintext.
    reading_paused: Cell<bool>,
    /// The application was asked to stop writing.
    writing_paused: Cell<bool>,
    /// The transport was asked to stop reading.
    transport_reading_paused: Cell<bool>,
    /// The transport wants no ciphertext.
    transport_writing_paused: Cell<bool>,
    read_marks: Cell<Marks>,
    write_marks: Cell<Marks>,
}

impl Session {
    /// A session that has not begun. With `told` [`Told::Made`] the application knows its
    /// connection already (STARTTLS).
    pub fn new(told: Told) -> Self {
        Session {
            phase: Cell::new(Phase::Unwrapped),
            told: Cell::new(told),
            transport_ended: Cell::new(false),
            reading_paused: Cell::new(false),
            writing_paused: Cell::new(false),
            transport_reading_paused: Cell::new(false),
            transport_writing_paused: Cell::new(false),
            read_marks: Cell::new(Marks::below(TLS_READ_HIGH_WATER_BYTES)),
            write_marks: Cell::new(Marks::below(TLS_WRITE_HIGH_WATER_BYTES)),
        }
    }

    /// Where the session is.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether `write` takes bytes; they may have to wait for the handshake.
    pub fn takes_plaintext(&self) -> bool {
        matches!(self.phase.get(), Phase::Handshake | Phase::Wrapped)
    }

    /// The transport is gone. Whether the application is to be told `connection_lost`.
    pub fn lost(&self) -> bool {
        // Who waits for the handshake is told by other means.
        let in_handshake = self.phase.replace(Phase::Unwrapped) == Phase::Handshake;
        let knows = matches!(self.told.get(), Told::Made | Told::Eof);
        if in_handshake || !knows {
            return false;
        }
        self.told.set(Told::Lost);
        true
    }
}
