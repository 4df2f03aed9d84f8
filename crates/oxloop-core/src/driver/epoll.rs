//! The epoll driver: readiness, made to look like completions.
//!
//! Level-triggered: an event that is not answered comes again with the next wait, so nothing is
//! lost when a callback pauses, closes or raises between two completions. The calls that an event
//! asks for are made in `next_completion`, one per completion, so that what a callback did to a
//! source holds for everything after it.
//!
//! A Send is tried when it is submitted; most fit into the socket's buffer and never touch epoll.
//! After a send that was cut short the next one would only be refused, so it is armed untried. A
//! receive is not tried at submission: the peer has usually not answered yet.
//!
//! EPOLLERR and EPOLLHUP are reported whether asked for or not and count for both sides: the call
//! that follows fetches the error or the end. Which interest the kernel holds, and when it is
//! changed, is `registration.rs`'s subject; `wakeup.rs` has the wakeup.
//!
//! What can still go wrong: a descriptor that was duplicated and closed without `release` goes on
//! reporting under a dead token, and epoll has no way to unhook it. Owners release first.

mod registration;
mod transfer;
mod wakeup;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use self::registration::{ReadOp, Registrations, WriteOp};
use self::wakeup::{EventFdWake, WAKEUP};
use super::kernel::{Kernel, Linux};
use super::{Driver, Wake};
use crate::buf::WriteQueue;
use crate::completion::{Completion, Outcome};
use crate::limits::{
    ACCEPTS_PER_WAKE_MAX, DATAGRAMS_PER_WAKE_MAX, EVENTS_PER_WAIT_MAX, READ_BUFFER_BYTES,
    READ_BYTES_PER_WAKE_MAX,
};
use crate::mutant::planted;
use crate::op::{Op, Side, Submitted};
use crate::slab::Token;
use crate::sys::socket::SockAddr;
use crate::sys::{epoll, socket};

const READ_EVENTS: u32 = epoll::IN | epoll::RDHUP | epoll::HUP | epoll::ERR;
const WRITE_EVENTS: u32 = epoll::OUT | epoll::HUP | epoll::ERR;

/// A [`Driver`] over epoll.
#[derive(Debug)]
pub struct EpollDriver<C, K: Kernel = Linux> {
    kernel: K,
    /// `None` once closed.
    epoll: Option<Arc<K::Fd>>,
    wake: Arc<EventFdWake<K>>,
    registrations: Registrations<C>,
    /// Sources for which the kernel may watch for too much; set right before the next wait.
    stale: Vec<Token>,
    /// `None` while the loop has it out to block.
    wait: Option<EpollWait<K>>,
    /// Events of the last wait before this one are dealt with.
    cursor: usize,
    current: Option<Current>,
    /// Of `buffer_bytes`, made when something is received first: many loops never receive.
    buffer: Box<[u8]>,
    buffer_bytes: usize,
    received_bytes: usize,
    has_acted: bool,
}

/// What an epoll wait owns: the descriptor and room for the events.
#[derive(Debug)]
pub struct EpollWait<K: Kernel = Linux> {
    kernel: K,
    /// `None` if the driver was closed.
    epoll: Option<Arc<K::Fd>>,
    events: Vec<epoll::Event>,
    /// Whether the kernel has a wait with nanoseconds, as far as known.
    has_wait_ns: bool,
}

impl<K: Kernel> EpollWait<K> {
    fn new(kernel: K, epoll: Option<Arc<K::Fd>>) -> Self {
        let events = Vec::with_capacity(EVENTS_PER_WAIT_MAX);
        EpollWait { kernel, epoll, events, has_wait_ns: true }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the driver is closed")
}

/// The buffer, made at its first use.
#[inline]
fn made(buffer: &mut Box<[u8]>, buffer_bytes: usize) -> &mut [u8] {
    if buffer.is_empty() {
        *buffer = vec![0; buffer_bytes].into_boxed_slice();
    }
    buffer
}

/// The event that is being answered.
#[derive(Debug)]
struct Current {
    token: Token,
    /// Whether each side is still to be looked at.
    read: bool,
    write: bool,
    accepts_left: usize,
    datagrams_left: usize,
    datagram_bytes_left: usize,
}

impl<C> EpollDriver<C> {
    /// A driver with its epoll instance and wakeup descriptor.
    ///
    /// # Errors
    /// The process or the system has no descriptors left, or the system no memory.
    pub fn new() -> io::Result<Self> {
        Self::over(Linux, READ_BUFFER_BYTES)
    }
}

impl<C, K: Kernel> EpollDriver<C, K> {
    /// A driver over a kernel, with a read buffer of `buffer_bytes`, at most `READ_BUFFER_BYTES`.
    ///
    /// # Errors
    /// As for [`new`](EpollDriver::new).
    pub fn over(kernel: K, buffer_bytes: usize) -> io::Result<Self> {
        let epoll = Arc::new(kernel.epoll_create()?);
        let wake = Arc::new(EventFdWake::new(kernel.clone(), epoll.as_raw_fd())?);
        Ok(EpollDriver {
            wait: Some(EpollWait::new(kernel.clone(), Some(epoll.clone()))),
            epoll: Some(epoll),
            wake,
            registrations: Registrations::new(kernel.first_fd()),
            kernel,
            stale: Vec::new(),
            cursor: 0,
            current: None,
            buffer: Box::default(),
            buffer_bytes: buffer_bytes.clamp(1, READ_BUFFER_BYTES),
            received_bytes: 0,
            has_acted: false,
        })
    }

    fn epoll_fd(&self) -> io::Result<RawFd> {
        self.epoll.as_ref().map(|epoll| epoll.as_raw_fd()).ok_or_else(closed)
    }

    fn next_event(&mut self) -> Option<Current> {
        let event = *self.wait.as_ref()?.events.get(self.cursor)?;
        self.cursor += 1;
        let bits = event.events;
        Some(Current {
            token: Token::from_u64(event.u64),
            read: event.u64 != WAKEUP && bits & READ_EVENTS != 0,
            write: event.u64 != WAKEUP && bits & WRITE_EVENTS != 0,
            accepts_left: ACCEPTS_PER_WAKE_MAX,
            datagrams_left: DATAGRAMS_PER_WAKE_MAX,
            datagram_bytes_left: READ_BYTES_PER_WAKE_MAX,
        })
    }

    /// Notes that the kernel may watch this source for more than is wanted.
    fn mark_stale(&mut self, token: Token) {
        if let Some(registration) = self.registrations.get(token) {
            if !registration.is_stale && registration.has_unwanted_interest() {
                registration.is_stale = true;
                self.stale.push(token);
            }
        }
    }

    fn drop_stale_interest(&mut self) {
        let Ok(epoll) = self.epoll_fd() else { return };
        if planted!(StaleInterestStays) {
            return;
        }
        for token in self.stale.drain(..) {
            if let Some(registration) = self.registrations.get(token) {
                registration.is_stale = false;
                if registration.has_unwanted_interest() {
                    // The kernel refuses if the descriptor was closed behind our back; then it does
                    // not watch it either.
                    let _ = registration.set_interest(&self.kernel, epoll);
                }
            }
        }
    }
}

impl<C: AsRef<[u8]>, K: Kernel> EpollDriver<C, K> {
    fn submit_read(&mut self, token: Token, op: ReadOp) -> io::Result<Submitted<C>> {
        let epoll = self.epoll_fd()?;
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        registration.read = Some(op);
        registration.add_interest(&self.kernel, epoll).inspect_err(|_| registration.read = None)?;
        Ok(Submitted::Pending)
    }

    fn submit_write(&mut self, token: Token, op: WriteOp<C>) -> io::Result<Submitted<C>> {
        let epoll = self.epoll_fd()?;
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        if matches!(registration.write, Some(WriteOp::Send(_))) {
            let message = "a Send is in flight on this source";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        registration.write = None;
        let done = |left, result| {
            Ok(Submitted::Done(Completion { token, outcome: Outcome::Sent(left, result) }))
        };
        let op = match op {
            WriteOp::Send(queue) if queue.is_empty() => return done(queue, Ok(0)),
            WriteOp::Send(mut queue) if !registration.send_is_full => {
                match registration.send_queue(&self.kernel, &mut queue) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return done(queue, result),
                }
                WriteOp::Send(queue)
            }
            op => op,
        };
        registration.write = Some(op);
        match registration.add_interest(&self.kernel, epoll) {
            Ok(()) => Ok(Submitted::Pending),
            Err(error) => match registration.write.take() {
                Some(WriteOp::Send(queue)) => done(queue, Err(error)),
                _ => Err(error),
            },
        }
    }

    /// Answers the read side of the current event, if there is anything to say.
    fn complete_read(&mut self, current: &mut Current) -> Option<Outcome<C>> {
        let registration = self.registrations.get(current.token)?;
        current.read = false;
        let Some(op) = registration.read else {
            self.mark_stale(current.token);
            return None;
        };
        match op {
            ReadOp::Poll | ReadOp::HangUp => Some(Outcome::Readable),
            ReadOp::Recv => {
                let buffer = made(&mut self.buffer, self.buffer_bytes);
                let result = registration.recv(&self.kernel, buffer);
                self.received_bytes = *result.as_ref().unwrap_or(&0);
                match result {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                    result => Some(Outcome::Received(result)),
                }
            }
            ReadOp::RecvFrom => {
                let buffer = made(&mut self.buffer, self.buffer_bytes);
                let result = registration.recv_from(&self.kernel, buffer);
                self.received_bytes = result.as_ref().map_or(0, |(received_bytes, _)| {
                    current.datagrams_left -= 1;
                    current.datagram_bytes_left =
                        current.datagram_bytes_left.saturating_sub(*received_bytes);
                    current.read = current.datagrams_left > 0 && current.datagram_bytes_left > 0;
                    *received_bytes
                });
                match result {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
                    result => Some(Outcome::ReceivedFrom(
                        result.map(|(received_bytes, from)| (received_bytes, Box::new(from))),
                    )),
                }
            }
            ReadOp::Accept => {
                while current.accepts_left > 0 {
                    current.accepts_left -= 1;
                    match self.kernel.accept(registration.fd) {
                        Ok(accepted) => {
                            current.read = true;
                            let (accepted, peer) = accepted;
                            return Some(Outcome::Accepted(Ok((accepted.into(), Box::new(peer)))));
                        }
                        Err(error) if socket::is_connection_aborted(&error) => {}
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                        Err(error) => {
                            current.read = planted!(AcceptErrorGoesOn);
                            return Some(Outcome::Accepted(Err(error)));
                        }
                    }
                }
                None
            }
        }
    }

    /// Answers the write side of the current event, if there is anything to say.
    fn complete_write(&mut self, current: &mut Current) -> Option<Outcome<C>> {
        let registration = self.registrations.get(current.token)?;
        current.write = false;
        let Some(op) = registration.write.take() else {
            self.mark_stale(current.token);
            return None;
        };
        match op {
            WriteOp::Poll => {
                registration.write = Some(WriteOp::Poll);
                Some(Outcome::Writable)
            }
            WriteOp::Send(mut queue) => match registration.send_queue(&self.kernel, &mut queue) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if planted!(NoRoomForgetsSend) {
                        return None;
                    }
                    registration.write = Some(WriteOp::Send(queue));
                    None
                }
                result => {
                    self.mark_stale(current.token);
                    Some(Outcome::Sent(queue, result))
                }
            },
        }
    }
}

impl<C: AsRef<[u8]>, K: Kernel> Driver<C> for EpollDriver<C, K> {
    type Wait = EpollWait<K>;

    fn name(&self) -> &'static str {
        "epoll"
    }

    fn wake(&self) -> Arc<dyn Wake> {
        self.wake.clone()
    }

    fn register(&mut self, token: Token, fd: RawFd) -> io::Result<()> {
        self.has_acted = true;
        self.registrations.insert(token, fd)
    }

    fn release(&mut self, token: Token) -> Option<WriteQueue<C>> {
        self.has_acted = true;
        let epoll = self.epoll_fd().ok();
        match self.registrations.remove(&self.kernel, token, epoll)?.write {
            Some(WriteOp::Send(queue)) => Some(queue),
            _ => None,
        }
    }

    fn submit(&mut self, token: Token, op: Op<C>) -> io::Result<Submitted<C>> {
        self.has_acted = true;
        match op {
            Op::Recv => self.submit_read(token, ReadOp::Recv),
            Op::RecvFrom => self.submit_read(token, ReadOp::RecvFrom),
            Op::PollRead => self.submit_read(token, ReadOp::Poll),
            Op::PollHangUp => self.submit_read(token, ReadOp::HangUp),
            Op::Accept => self.submit_read(token, ReadOp::Accept),
            Op::PollWrite => self.submit_write(token, WriteOp::Poll),
            Op::Send(queue) => self.submit_write(token, WriteOp::Send(queue)),
        }
    }

    fn cancel(&mut self, token: Token, side: Side) -> Option<WriteQueue<C>> {
        let epoll = self.epoll_fd().ok();
        let registration = self.registrations.get(token)?;
        let (was_poll, queue) = match side {
            Side::Read if planted!(CancelKeepsOp) => (false, None),
            Side::Write if planted!(CancelLosesBytes) => {
                registration.write = None;
                (false, None)
            }
            Side::Read => {
                let read = registration.read.take();
                (matches!(read, Some(ReadOp::Poll | ReadOp::HangUp)), None)
            }
            Side::Write => match registration.write.take() {
                Some(WriteOp::Send(queue)) => (false, Some(queue)),
                poll => (poll.is_some(), None),
            },
        };
        match epoll {
            // The descriptor is somebody else's, who may close it as soon as this returns.
            Some(epoll)
                if was_poll
                    && registration.has_unwanted_interest()
                    && !planted!(PollCancelIsLate) =>
            {
                let _ = registration.set_interest(&self.kernel, epoll);
            }
            _ => self.mark_stale(token),
        }
        queue
    }

    fn try_send(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        self.has_acted = true;
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        registration.send(&self.kernel, bytes)
    }

    fn try_send_vectored(&mut self, token: Token, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.has_acted = true;
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        registration.send_vectored(&self.kernel, slices)
    }

    fn try_send_to(&mut self, token: Token, bytes: &[u8], to: &SockAddr) -> io::Result<usize> {
        self.has_acted = true;
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        registration.send_to(&self.kernel, bytes, to)
    }

    fn try_recv(&mut self, token: Token, buf: &mut [u8]) -> io::Result<usize> {
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        registration.recv(&self.kernel, buf)
    }

    fn try_recv_uninit(&mut self, token: Token, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        registration.recv_uninit(&self.kernel, room)
    }

    fn waiting_bytes(&mut self, token: Token) -> io::Result<usize> {
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        self.kernel.waiting_bytes(registration.fd)
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        self.has_acted = true;
        let registration = self.registrations.get(token).ok_or(io::ErrorKind::NotFound)?;
        self.kernel.shutdown_write(registration.fd)
    }

    fn begin_wait(&mut self) -> EpollWait<K> {
        self.has_acted = false;
        self.drop_stale_interest();
        let fresh = || EpollWait::new(self.kernel.clone(), self.epoll.clone());
        self.wait.take().unwrap_or_else(fresh)
    }

    fn block(wait: &mut EpollWait<K>, timeout: Option<Duration>) -> io::Result<()> {
        let epoll = wait.epoll.as_ref().map(|epoll| epoll.as_raw_fd()).ok_or_else(closed)?;
        let is_timed = timeout.is_some_and(|timeout| !timeout.is_zero());
        if is_timed && wait.has_wait_ns {
            match wait.kernel.epoll_wait_ns(epoll, &mut wait.events, timeout) {
                // An old kernel says that it lacks the call, an old container that it is forbidden.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied
                    ) =>
                {
                    wait.has_wait_ns = false;
                }
                result => return result,
            }
        }
        wait.kernel.epoll_wait(epoll, &mut wait.events, timeout)
    }

    fn end_wait(&mut self, wait: EpollWait<K>) {
        self.cursor = 0;
        self.current = None;
        if self.epoll.is_some() {
            self.wait = Some(wait);
        }
    }

    fn has_completions(&self) -> bool {
        self.current.is_some()
            || self.wait.as_ref().is_some_and(|wait| self.cursor < wait.events.len())
    }

    fn next_completion(&mut self) -> Option<Completion<C>> {
        loop {
            let mut current = match self.current.take() {
                Some(current) => current,
                None => self.next_event()?,
            };
            let token = current.token;
            let mut outcome = None;
            if current.read {
                outcome = self.complete_read(&mut current);
            }
            if outcome.is_none() && current.write {
                outcome = self.complete_write(&mut current);
            }
            if let Some(outcome) = outcome {
                if current.read || current.write {
                    self.current = Some(current);
                }
                return Some(Completion { token, outcome });
            }
        }
    }

    fn has_acted(&self) -> bool {
        self.has_acted
    }

    fn received(&self) -> &[u8] {
        &self.buffer[..self.received_bytes]
    }

    fn close(&mut self) {
        self.wake.close();
        self.epoll = None;
        self.wait = None;
        self.current = None;
    }
}
