//! A driver that works asynchronously, on the simulated kernel.
//!
//! The contract was made for kernels that take an op and answer later (io_uring); this driver keeps
//! the core honest about it, long before there is one. It differs from the epoll driver where such a
//! kernel does: a Send is never done at once; a cancel or release may come too late, so that fewer
//! bytes come back than were given; completions come in any order, late, and even for tokens that
//! were released, which the promises forbid and the event loop must survive all the same.
//!
//! It waits by looking at the kernel's sockets directly; the wakeup is an eventfd of that kernel.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::fault::{Fault, error};
use super::world::{File, World};
use super::{SimFd, SimKernel};
use crate::buf::WriteQueue;
use crate::completion::{Completion, Outcome};
use crate::driver::kernel::Kernel;
use crate::driver::{Driver, Wake};
use crate::limits::{
    ACCEPTS_PER_WAKE_MAX, DATAGRAMS_PER_WAKE_MAX, IOVECS_PER_SEND_MAX, READ_BUFFER_BYTES,
    READ_BYTES_PER_WAKE_MAX,
};
use crate::op::{Op, Side, Submitted};
use crate::slab::Token;
use crate::sys::epoll;
use crate::sys::socket::{self, SockAddr};

/// The op on the read side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReadOp {
    Recv,
    RecvFrom,
    Poll,
    HangUp,
    Accept,
}

#[derive(Debug)]
enum WriteOp<C> {
    Poll,
    Send(WriteQueue<C>),
}

#[derive(Debug)]
struct RingSource<C> {
    token: Token,
    /// -1 once another source was registered for the same number.
    fd: RawFd,
    read: Option<ReadOp>,
    write: Option<WriteOp<C>>,
}

/// A side of a source that a wait found ready, and what it may still get for that.
#[derive(Clone, Copy, Debug)]
struct Ready {
    token: Token,
    side: Side,
    /// The source was released when this was on its way.
    is_stale: bool,
    accepts_left: usize,
    datagrams_left: usize,
    datagram_bytes_left: usize,
}

impl Ready {
    fn new(token: Token, side: Side, is_stale: bool) -> Self {
        Ready {
            token,
            side,
            is_stale,
            accepts_left: ACCEPTS_PER_WAKE_MAX,
            datagrams_left: DATAGRAMS_PER_WAKE_MAX,
            datagram_bytes_left: READ_BYTES_PER_WAKE_MAX,
        }
    }
}

#[derive(Debug)]
struct RingWake {
    kernel: SimKernel,
    fd: Mutex<Option<SimFd>>,
}

impl RingWake {
    fn number(&self) -> Option<RawFd> {
        let fd = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        fd.as_ref().map(SimFd::as_raw_fd)
    }
}

impl Wake for RingWake {
    fn wake(&self) -> io::Result<()> {
        let number = self.number().ok_or_else(closed)?;
        loop {
            match self.kernel.eventfd_add_one(number) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the driver is closed")
}

/// A side of a source that is waited for, and the readiness that counts.
type Interest = (RawFd, Token, Side, u32);

/// What a wait owns: which sides of which descriptors are waited for, and what was found.
#[derive(Debug)]
pub struct RingWait {
    kernel: SimKernel,
    wake: Arc<RingWake>,
    interests: Vec<Interest>,
    ready: Vec<(Token, Side)>,
}

/// See the module's text.
#[derive(Debug)]
pub struct RingDriver<C> {
    kernel: SimKernel,
    wake: Arc<RingWake>,
    /// By the index of the token.
    sources: Vec<Option<RingSource<C>>>,
    ready: VecDeque<Ready>,
    /// Released tokens for which something is still on its way.
    ghosts: Vec<(Token, Side)>,
    buffer: Box<[u8]>,
    received_bytes: usize,
    has_acted: bool,
}

impl<C> RingDriver<C> {
    /// A driver over a kernel, with a read buffer of `buffer_bytes`, at most `READ_BUFFER_BYTES`.
    ///
    /// # Errors
    /// The kernel has no descriptors left.
    pub fn over(kernel: SimKernel, buffer_bytes: usize) -> io::Result<Self> {
        let fd = Mutex::new(Some(kernel.eventfd()?));
        Ok(RingDriver {
            wake: Arc::new(RingWake { kernel: kernel.clone(), fd }),
            kernel,
            sources: Vec::new(),
            ready: VecDeque::new(),
            ghosts: Vec::new(),
            buffer: vec![0; buffer_bytes.clamp(1, READ_BUFFER_BYTES)].into_boxed_slice(),
            received_bytes: 0,
            has_acted: false,
        })
    }

    fn source(&mut self, token: Token) -> io::Result<&mut RingSource<C>> {
        let found = self.sources.get_mut(token.index()).and_then(Option::as_mut);
        found.filter(|source| source.token == token).ok_or(io::ErrorKind::NotFound.into())
    }

    fn number(&mut self, token: Token) -> io::Result<RawFd> {
        match self.source(token)?.fd {
            -1 => Err(error(libc::EBADF)),
            fd => Ok(fd),
        }
    }

    fn strikes(&self, fault: Fault) -> bool {
        self.kernel.lock().chance.strikes(fault)
    }
}

/// Makes a call, the socket's or else the other, until it is answered.
fn answered<R>(
    mut of_socket: impl FnMut() -> io::Result<R>,
    mut of_pipe: impl FnMut() -> io::Result<R>,
) -> io::Result<R> {
    let mut is_socket = true;
    loop {
        match if is_socket { of_socket() } else { of_pipe() } {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_socket && socket::is_not_a_socket(&error) => is_socket = false,
            result => return result,
        }
    }
}

impl<C: AsRef<[u8]>> RingDriver<C> {
    /// Lets the kernel send from the front of a queue.
    fn send_queue(&self, fd: RawFd, queue: &mut WriteQueue<C>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); IOVECS_PER_SEND_MAX];
        let filled = queue.as_io_slices(&mut slices);
        let slices = &slices[..filled];
        let sent_bytes = answered(
            || self.kernel.send_vectored(fd, slices),
            || self.kernel.write_vectored(fd, slices),
        )?;
        queue.advance(sent_bytes);
        Ok(sent_bytes)
    }

    /// What a Send that is taken back has left: the kernel may have been faster.
    fn taken_back(&self, fd: RawFd, op: Option<WriteOp<C>>) -> Option<WriteQueue<C>> {
        let Some(WriteOp::Send(mut queue)) = op else { return None };
        if fd >= 0 && self.strikes(Fault::LostCancel) {
            let _ = self.send_queue(fd, &mut queue);
        }
        Some(queue)
    }

    /// Answers the read side of a source, if there is anything to say.
    fn complete_read(&mut self, ready: &mut Ready) -> Option<Outcome<C>> {
        let source = self.source(ready.token).ok()?;
        let (op, fd) = (source.read?, source.fd);
        let mut is_again = false;
        let outcome = match op {
            ReadOp::Poll | ReadOp::HangUp => Some(Outcome::Readable),
            ReadOp::Recv => {
                let result = self.receive(fd);
                self.received_bytes = *result.as_ref().unwrap_or(&0);
                is_answer(&result).then_some(Outcome::Received(result))
            }
            ReadOp::RecvFrom => {
                let (kernel, buffer) = (&self.kernel, &mut self.buffer);
                let result = loop {
                    match kernel.recv_from(fd, buffer) {
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        result => break result,
                    }
                };
                self.received_bytes = result.as_ref().map_or(0, |(count, _)| *count);
                if result.is_ok() {
                    ready.datagrams_left -= 1;
                    ready.datagram_bytes_left =
                        ready.datagram_bytes_left.saturating_sub(self.received_bytes);
                    is_again = ready.datagrams_left > 0 && ready.datagram_bytes_left > 0;
                }
                is_answer(&result).then(|| {
                    Outcome::ReceivedFrom(result.map(|(count, from)| (count, Box::new(from))))
                })
            }
            ReadOp::Accept => loop {
                if ready.accepts_left == 0 {
                    break None;
                }
                ready.accepts_left -= 1;
                match self.kernel.accept(fd) {
                    Ok((accepted, peer)) => {
                        is_again = true;
                        break Some(Outcome::Accepted(Ok((accepted.into(), Box::new(peer)))));
                    }
                    Err(error) if socket::is_connection_aborted(&error) => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                    Err(error) => break Some(Outcome::Accepted(Err(error))),
                }
            },
        };
        if is_again {
            self.ready.push_front(*ready);
        }
        outcome
    }

    fn receive(&mut self, fd: RawFd) -> io::Result<usize> {
        let (kernel, buffer) = (&self.kernel, std::cell::RefCell::new(&mut self.buffer));
        answered(
            || kernel.recv(fd, &mut buffer.borrow_mut()),
            || kernel.read(fd, &mut buffer.borrow_mut()),
        )
    }

    /// Answers the write side of a source, if there is anything to say.
    fn complete_write(&mut self, token: Token) -> Option<Outcome<C>> {
        let source = self.source(token).ok()?;
        let fd = source.fd;
        match source.write.take()? {
            WriteOp::Poll => {
                source.write = Some(WriteOp::Poll);
                Some(Outcome::Writable)
            }
            WriteOp::Send(mut queue) => match self.send_queue(fd, &mut queue) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.source(token).ok()?.write = Some(WriteOp::Send(queue));
                    None
                }
                result => Some(Outcome::Sent(queue, result)),
            },
        }
    }
}

/// Whether there is something to tell: anything but that the call would block.
fn is_answer<R>(result: &io::Result<R>) -> bool {
    !matches!(result, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

impl World {
    /// Which of these sides are ready now; what is not a descriptor any more is.
    fn ready_sides(&mut self, interests: &[Interest], ready: &mut Vec<(Token, Side)>) {
        for &(fd, token, side, wanted) in interests {
            let wanted = wanted | epoll::ERR | epoll::HUP;
            let mask = self.place(fd).map_or(wanted, |place| self.readiness(place).0);
            if mask & wanted != 0 {
                ready.push((token, side));
            }
        }
        if !interests.is_empty() && self.chance.strikes(Fault::SpuriousReadiness) {
            let (_, token, side, _) = interests[self.chance.random.size(0, interests.len() - 1)];
            if !ready.contains(&(token, side)) {
                ready.push((token, side));
            }
        }
        if self.chance.strikes(Fault::Reorder) {
            self.chance.random.shuffle(ready);
        }
        if ready.len() > 1 && self.chance.strikes(Fault::Late) {
            ready.truncate(self.chance.random.size(1, ready.len() - 1));
        }
    }
}

impl<C: AsRef<[u8]>> Driver<C> for RingDriver<C> {
    type Wait = RingWait;

    fn name(&self) -> &'static str {
        "ring"
    }

    fn wake(&self) -> Arc<dyn Wake> {
        self.wake.clone()
    }

    fn register(&mut self, token: Token, fd: RawFd) -> io::Result<()> {
        self.has_acted = true;
        if fd < 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.sources.len() <= token.index() {
            self.sources.resize_with(token.index() + 1, || None);
        }
        if self.sources[token.index()].is_some() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut known = self.sources.iter_mut().flatten();
        if let Some(former) = known.find(|source| source.fd == fd) {
            former.fd = -1;
        }
        let source = RingSource { token, fd, read: None, write: None };
        self.sources[token.index()] = Some(source);
        Ok(())
    }

    fn release(&mut self, token: Token) -> Option<WriteQueue<C>> {
        self.has_acted = true;
        self.source(token).ok()?;
        let source = self.sources[token.index()].take()?;
        if self.strikes(Fault::Stale) {
            let side = if source.read.is_some() { Side::Read } else { Side::Write };
            self.ghosts.push((token, side));
        }
        self.taken_back(source.fd, source.write)
    }

    fn submit(&mut self, token: Token, op: Op<C>) -> io::Result<Submitted<C>> {
        self.has_acted = true;
        if self.wake.number().is_none() {
            return Err(closed());
        }
        let fd = self.number(token)?;
        if matches!(self.kernel.lock().file(fd), Ok(File::Regular)) {
            return Err(error(libc::EPERM));
        }
        let source = self.source(token)?;
        if op.side() == Side::Write && matches!(source.write, Some(WriteOp::Send(_))) {
            let message = "a Send is in flight on this source";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        match op {
            Op::Recv => source.read = Some(ReadOp::Recv),
            Op::RecvFrom => source.read = Some(ReadOp::RecvFrom),
            Op::PollRead => source.read = Some(ReadOp::Poll),
            Op::PollHangUp => source.read = Some(ReadOp::HangUp),
            Op::Accept => source.read = Some(ReadOp::Accept),
            Op::PollWrite => source.write = Some(WriteOp::Poll),
            Op::Send(queue) if queue.is_empty() => {
                let outcome = Outcome::Sent(queue, Ok(0));
                return Ok(Submitted::Done(Completion { token, outcome }));
            }
            Op::Send(queue) => source.write = Some(WriteOp::Send(queue)),
        }
        Ok(Submitted::Pending)
    }

    fn cancel(&mut self, token: Token, side: Side) -> Option<WriteQueue<C>> {
        let source = self.source(token).ok()?;
        let fd = source.fd;
        match side {
            Side::Read => {
                source.read = None;
                None
            }
            Side::Write => {
                let op = source.write.take();
                self.taken_back(fd, op)
            }
        }
    }

    fn try_send(&mut self, token: Token, bytes: &[u8]) -> io::Result<usize> {
        self.has_acted = true;
        let fd = self.number(token)?;
        answered(|| self.kernel.send(fd, bytes), || self.kernel.write(fd, bytes))
    }

    fn try_send_vectored(&mut self, token: Token, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.has_acted = true;
        let fd = self.number(token)?;
        let slices = &slices[..slices.len().min(IOVECS_PER_SEND_MAX)];
        let kernel = &self.kernel;
        answered(|| kernel.send_vectored(fd, slices), || kernel.write_vectored(fd, slices))
    }

    fn try_send_to(&mut self, token: Token, bytes: &[u8], to: &SockAddr) -> io::Result<usize> {
        self.has_acted = true;
        let fd = self.number(token)?;
        let send = || self.kernel.send_to(fd, bytes, to);
        answered(send, || Err(error(libc::ENOTSOCK)))
    }

    fn try_recv(&mut self, token: Token, buf: &mut [u8]) -> io::Result<usize> {
        let fd = self.number(token)?;
        let buf = std::cell::RefCell::new(buf);
        answered(
            || self.kernel.recv(fd, &mut buf.borrow_mut()),
            || self.kernel.read(fd, &mut buf.borrow_mut()),
        )
    }

    fn try_recv_uninit(&mut self, token: Token, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.try_recv(token, crate::sys::fd::zeroed(room))
    }

    fn waiting_bytes(&mut self, token: Token) -> io::Result<usize> {
        let fd = self.number(token)?;
        self.kernel.waiting_bytes(fd)
    }

    fn shutdown_write(&mut self, token: Token) -> io::Result<()> {
        self.has_acted = true;
        let fd = self.number(token)?;
        self.kernel.shutdown_write(fd)
    }

    fn begin_wait(&mut self) -> RingWait {
        self.has_acted = false;
        let mut interests = Vec::new();
        for source in self.sources.iter().flatten().filter(|source| source.fd >= 0) {
            if let Some(op) = source.read {
                let wanted = if op == ReadOp::HangUp { epoll::RDHUP } else { epoll::IN };
                interests.push((source.fd, source.token, Side::Read, wanted));
            }
            if source.write.is_some() {
                interests.push((source.fd, source.token, Side::Write, epoll::OUT));
            }
        }
        let (kernel, wake) = (self.kernel.clone(), self.wake.clone());
        RingWait { kernel, wake, interests, ready: Vec::new() }
    }

    fn block(wait: &mut RingWait, timeout: Option<Duration>) -> io::Result<()> {
        let wakeup = wait.wake.number().ok_or_else(closed)?;
        let RingWait { kernel, interests, ready, .. } = wait;
        ready.clear();
        kernel.sleep(timeout, |world| {
            world.ready_sides(interests, ready);
            let mut events = ready.len();
            if let File::Counter { value, .. } = world.file(wakeup)? {
                events += usize::from(std::mem::take(value) > 0);
            }
            for (token, side) in ready.iter() {
                world.note(token.to_u64() ^ (*side as u64) << 60);
            }
            Ok(events)
        })
    }

    fn end_wait(&mut self, wait: RingWait) {
        let found = wait.ready.iter().map(|(token, side)| Ready::new(*token, *side, false));
        self.ready.extend(found);
        for (token, side) in self.ghosts.drain(..) {
            self.ready.push_back(Ready::new(token, side, true));
        }
    }

    fn has_completions(&self) -> bool {
        !self.ready.is_empty()
    }

    fn next_completion(&mut self) -> Option<Completion<C>> {
        while let Some(mut ready) = self.ready.pop_front() {
            let token = ready.token;
            let outcome = match ready.side {
                Side::Read if ready.is_stale => Some(Outcome::Readable),
                Side::Write if ready.is_stale => Some(Outcome::Writable),
                Side::Read => self.complete_read(&mut ready),
                Side::Write => self.complete_write(token),
            };
            if let Some(outcome) = outcome {
                return Some(Completion { token, outcome });
            }
        }
        None
    }

    fn has_acted(&self) -> bool {
        self.has_acted
    }

    fn received(&self) -> &[u8] {
        &self.buffer[..self.received_bytes]
    }

    fn close(&mut self) {
        drop(self.wake.fd.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.ready.clear();
    }
}
