//! The contract between the loop and a kernel.
//!
//! The loop submits ops and gets completions. A kernel that only knows readiness (epoll) makes the
//! calls itself when it is ready; one that works asynchronously is given the op as it is. The
//! reverse shape, readiness over an asynchronous kernel, would throw away what such a kernel is
//! good for.
//!
//! What a driver promises:
//!
//! 1. **Nothing late.** After `release` returns there is no completion for the token, after
//!    `cancel` none for the side, not even of an event that was fetched before.
//! 2. **One at a time.** Completions are made by `next_completion`, one per call, so that a pause
//!    or a close between two of them holds for the second. Bytes are received no earlier than that.
//! 3. **Descriptors are the owner's.** A driver never closes one. Owners `release` before they
//!    close; a number that was given out again meanwhile belongs to its last `register`.
//! 4. **Bytes are somewhere.** The bytes of a Send belong to the op until `Sent`, `cancel` or
//!    `release` gives back what was not sent. A failed `submit` of a Send is a `Done` with an
//!    error, so that they come back then too; `Err` is for programming errors.
//! 5. **Armed stays armed.** An op other than Send stays until it is cancelled or replaced. What is
//!    not taken by the answer to one wait is reported by the next (level-triggered).
//! 6. **No spin.** A wait does not return for something that no op wants.
//! 7. **Time.** A wait is never shorter than its timeout, except for an event, a wakeup or a
//!    signal. The signal surfaces as `Interrupted`; no other call surfaces it.
//! 8. **Wakeups.** `wake` ends the wait that is under way or the next one. Nobody sees them
//!    otherwise.
//! 9. **Fairness.** Per wait a source gets at most `READ_BYTES_PER_WAKE_MAX` bytes (the last
//!    datagram may exceed it), `DATAGRAMS_PER_WAKE_MAX` datagrams or `ACCEPTS_PER_WAKE_MAX`
//!    connections, and an error of accept or of a datagram ends its turn.
//! 10. **Ends and errors wake both sides** that are armed, whatever they wait for.
//! 11. **Datagrams whole.** RecvFrom gives one datagram per completion, cut only if it is longer
//!     than `READ_BUFFER_BYTES`; one of no bytes is a datagram and not an end.
//! 12. **What was done is known.** `has_acted` tells whether the caller registered, submitted, sent,
//!     shut down or released anything since the last `begin_wait`.
//! 13. **What waits stays.** `waiting_bytes` tells no more than a receive would find.
//!
//! What the caller promises: one op per side; a token is registered once; `begin_wait`, `block`,
//! `end_wait` in this order with nothing in between, and only when `has_completions` is false.
//!
//! `tests/driver_contract.rs`, `tests/datagrams.rs`, `tests/driver_acted.rs` and
//! `tests/driver_waiting.rs` run the same list of behaviours over every driver.

pub mod any_kernel;
pub mod descriptor;
pub mod epoll;
pub mod kernel;
pub mod probe;
pub mod sim;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use crate::buf::WriteQueue;
use crate::completion::Completion;
use crate::op::{Op, Side, Submitted};
use crate::slab::Token;
use crate::sys::socket::SockAddr;

/// Ends a driver's blocking wait from any thread.
pub trait Wake: Send + Sync {
    /// Makes the wait that is under way, or else the next one, return. An error means that it may
    /// not.
    fn wake(&self) -> io::Result<()>;
}

/// A way to do I/O; see the module's text for what it promises.
pub trait Driver<C: AsRef<[u8]>> {
    /// What the blocking call needs, owned: the driver is not borrowed while the loop blocks.
    type Wait: Send;
    /// The driver's name as users write it: `"epoll"`.
    fn name(&self) -> &'static str;
    /// The waker for this driver's waits.
    fn wake(&self) -> Arc<dyn Wake>;
    /// Makes a descriptor known under a live token. The first op arms it.
    fn register(&mut self, token: Token, fd: RawFd) -> io::Result<()>;
    /// Lets go of the descriptor, drops its ops, returns the bytes of a pending Send. Idempotent.
    fn release(&mut self, token: Token) -> Option<WriteQueue<C>>;
    /// Starts an op. `InvalidInput`: a Send is in flight on that side; `NotFound`: unknown token.
    fn submit(&mut self, token: Token, op: Op<C>) -> io::Result<Submitted<C>>;
    /// Ends the op of a side, returns the bytes of a pending Send.
    fn cancel(&mut self, token: Token, side: Side) -> Option<WriteQueue<C>>;
    /// Sends bytes at once. `WouldBlock`: none now.
    fn try_send(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize>;
    /// Sends several slices at once, as one send. `WouldBlock`: none now.
    fn try_send_vectored(&mut self, token: Token, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Sends one datagram to an address at once. `WouldBlock`: not now.
    fn try_send_to(&mut self, token: Token, bytes: &[u8], to: &SockAddr) -> io::Result<usize>;
    /// Receives into the caller's buffer at once. `WouldBlock`: nothing there.
    fn try_recv(&mut self, token: Token, buf: &mut [u8]) -> io::Result<usize>;
    /// Receives at once into memory that nobody has written yet; so many of its first bytes are
    /// written then. `WouldBlock`: nothing there.
    fn try_recv_uninit(&mut self, token: Token, room: &mut [MaybeUninit<u8>]) -> io::Result<usize>;
    /// Bytes that wait to be received from a byte stream; more may have come when they are.
    fn waiting_bytes(&mut self, token: Token) -> io::Result<usize>;
    /// Tells the peer that no more bytes follow.
    fn shutdown_write(&mut self, token: Token) -> io::Result<()>;
    /// Takes out what the blocking call needs.
    fn begin_wait(&mut self) -> Self::Wait;
    /// Blocks until something happens or the timeout has passed (rounded up; `None`: for ever).
    /// `Interrupted`: a signal came.
    fn block(wait: &mut Self::Wait, timeout: Option<Duration>) -> io::Result<()>;
    /// Gives back what `begin_wait` took, with what was learnt.
    fn end_wait(&mut self, wait: Self::Wait);
    /// Whether `next_completion` must be called before the next wait; it may still give nothing.
    fn has_completions(&self) -> bool;
    /// Makes the next completion, or says that there are no more of this wait.
    fn next_completion(&mut self) -> Option<Completion<C>>;
    /// The bytes of the last `Received` or `ReceivedFrom`.
    fn received(&self) -> &[u8];
    /// Whether something was registered, submitted, sent, shut down or released since the last
    /// `begin_wait`: the next wait may find what the program itself has brought about.
    fn has_acted(&self) -> bool;
    /// Closes the driver's own descriptors; every later call that needs them fails. Idempotent.
    fn close(&mut self);
}
