//! One end of a connection: a stream and its descriptor, and what its plan makes of them.
//!
//! The rules are those of the extension's transports: the descriptor is closed after the driver let
//! go, the loss is a job and never happens inside a call, and an error ends the connection. Checked
//! here: bytes (each once, in order, nobody else's; all of them before an end of stream), nothing
//! after a pause or close, pauses and resumes in turn, and buffers within their limits.

use oxloop_core::Sent;
use oxloop_core::{Descriptor, Outcome, ReadEvent, ReadMode, Stream, Token, WriteQueue};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;

use crate::app::{App, Chunk, SimulatedDriver, Source, Work};
use crate::payload::{self, Origin};
use crate::program::{Ending, Side};

/// How long a transport may take to send what is left when it is closed.
const CLOSE_NS_MAX: i64 = 60_000_000_000;

/// See the module's text.
pub struct Transport {
    number: usize,
    side: usize,
    plan: Side,
    fd: Option<Descriptor>,
    token: Token,
    stream: Stream<Chunk>,
    is_flow_paused: bool,
    is_write_queued: bool,
    is_done_writing: bool,
    is_loss_queued: bool,
    is_failed: bool,
    saw_end: bool,
}

impl Transport {
    pub fn is_lost(&self) -> bool {
        self.fd.is_none()
    }

    pub fn describe(&self) -> String {
        format!(
            "connection {} side {} ({} bytes buffered, flow paused {}, reading paused {}, done \
             writing {}, saw the end {}, closing {})",
            self.number,
            self.side,
            self.stream.buffered_bytes(),
            self.is_flow_paused,
            self.stream.is_paused(),
            self.is_done_writing,
            self.saw_end,
            self.stream.is_closing()
        )
    }

    fn origin(&self, side: usize) -> Origin {
        Origin { connection: self.number as u16, side: side as u8 }
    }
}

impl<D: SimulatedDriver> App<D> {
    /// Takes over a connected descriptor.
    pub fn open(&self, number: usize, side: usize, fd: Descriptor) {
        if std::mem::replace(&mut self.records.borrow_mut()[number][side].began, true) {
            self.violation(format!("connection {number} side {side} was made twice"));
            return;
        }
        let place = self.transports.borrow().len();
        let Ok(token) = self.event_loop.add_source(fd.as_raw_fd(), Source::Transport(place)) else {
            return;
        };
        let plan = self.program.plans[number].sides[side].clone();
        let mut stream = Stream::new(token);
        let _ = stream.set_limits(plan.high_water_bytes, plan.high_water_bytes / 4);
        self.began();
        self.transports.borrow_mut().push(Transport {
            number,
            side,
            plan,
            fd: Some(fd),
            token,
            stream,
            is_flow_paused: false,
            is_write_queued: false,
            is_done_writing: false,
            is_loss_queued: false,
            is_failed: false,
            saw_end: false,
        });
        self.push(Work::Begin(place));
    }

    /// Runs `body` with a transport and the driver.
    fn with<R>(&self, place: usize, body: impl FnOnce(&mut Transport, &mut D) -> R) -> R {
        let mut transports = self.transports.borrow_mut();
        body(&mut transports[place], &mut self.event_loop.driver.borrow_mut())
    }

    fn record<R>(&self, place: usize, body: impl FnOnce(&mut crate::app::Record) -> R) -> R {
        let transports = self.transports.borrow();
        let transport = &transports[place];
        body(&mut self.records.borrow_mut()[transport.number][transport.side])
    }

    pub fn begin(&self, place: usize) {
        let is_paused_first = self.chance(500);
        let started = self.with(place, |transport, driver| {
            if is_paused_first {
                transport.stream.pause_reading(driver);
            }
            let mode = transport.plan.read_mode;
            transport.stream.start_reading(driver, mode)
        });
        if started.is_err() {
            self.fail(place);
            return;
        }
        if is_paused_first {
            self.resume_later(place);
        }
        self.queue_write(place);
    }

    fn queue_write(&self, place: usize) {
        let pause_ns = self.with(place, |transport, _| {
            let may_write = !transport.is_write_queued && !transport.is_done_writing;
            transport.is_write_queued |= may_write;
            may_write.then_some(transport.plan.write_pause_ns)
        });
        match pause_ns {
            Some(0) => self.push(Work::Write(place)),
            Some(pause_ns) => self.add_timer_in(pause_ns, Work::Write(place)),
            None => {}
        }
    }

    pub fn write(&self, place: usize) {
        let is_over = self.with(place, |transport, _| {
            transport.is_write_queued = false;
            transport.stream.is_closing() || transport.is_failed || transport.is_lost()
        });
        if is_over {
            return;
        }
        let written = self.record(place, |record| record.written);
        self.change_limits(place);
        let plan = self.with(place, |transport, _| transport.plan.clone());
        let left = plan.send_bytes.saturating_sub(written);
        if left == 0 {
            self.finish_writing(place);
            return;
        }
        let len_bytes = 1 + self.below(plan.write_bytes_max.min(left) as u64) as usize;
        let len_bytes = len_bytes.min(left);
        let is_chunked = self.chance(plan.chunked);
        let origin = self.with(place, |transport, _| transport.origin(transport.side));
        let data = payload::make(origin, written, len_bytes);
        let chunks = is_chunked.then(|| self.cut(&data));
        let (before, result, after, was_paused) = self.with(place, |transport, driver| {
            let before = transport.stream.buffered_bytes();
            let result = match chunks {
                Some(chunks) => transport.stream.write_chunks(driver, chunks),
                None => transport.stream.write(driver, &data, |offset| data[offset..].to_vec()),
            };
            let after = transport.stream.buffered_bytes();
            let was_paused = transport.is_flow_paused;
            transport.is_flow_paused |= matches!(result, Ok(true));
            (before, result, after, was_paused)
        });
        match result {
            Ok(pauses) => {
                self.record(place, |record| record.written += len_bytes);
                if pauses && was_paused {
                    self.violation("the protocol was paused twice");
                }
                let high = plan.high_water_bytes;
                if !pauses && !was_paused && after > high {
                    self.violation(format!("flow control: {after} bytes above {high}, no pause"));
                }
                if !(pauses || was_paused) || plan.ignores_flow {
                    self.queue_write(place);
                }
            }
            Err(error) => {
                self.check_error(place, error.kind());
                // Of chunks everything is kept; of one write, what was not refused at once.
                if is_chunked || after > before {
                    self.record(place, |record| record.written += len_bytes);
                }
                self.fail(place);
                return;
            }
        }
        self.abort_if_planned(place);
    }

    /// Sometimes new limits; they may pause the protocol at once and never resume it.
    fn change_limits(&self, place: usize) {
        if !self.chance(self.program.changes) {
            return;
        }
        let high = self.random.borrow_mut().magnitude(0, 16_384) as usize;
        let (change, was_paused, buffered) = self.with(place, |transport, _| {
            transport.plan.high_water_bytes = high;
            let change = transport.stream.set_limits(high, high / 4);
            let was_paused = transport.is_flow_paused;
            transport.is_flow_paused |= change.is_some();
            (change, was_paused, transport.stream.buffered_bytes())
        });
        if change.is_some() != (!was_paused && buffered > high) {
            self.violation(format!("limits of {high} with {buffered} bytes: {change:?}"));
        }
    }

    /// Sometimes somebody else receives from now on, as when a protocol is replaced.
    fn change_reader(&self, place: usize) {
        if !self.chance(self.program.changes) {
            return;
        }
        let changed = self.with(place, |transport, driver| {
            let mode = match transport.plan.read_mode {
                ReadMode::Recv => ReadMode::Poll,
                _ => ReadMode::Recv,
            };
            transport.plan.read_mode = mode;
            transport.stream.set_read_mode(driver, mode)
        });
        if changed.is_err() {
            self.fail(place);
        }
    }

    /// Cuts bytes into chunks, some of them empty.
    fn cut(&self, data: &[u8]) -> Vec<Chunk> {
        let mut random = self.random.borrow_mut();
        let mut chunks = Vec::new();
        let mut rest = data;
        while !rest.is_empty() {
            let taken = random.size(0, rest.len());
            chunks.push(rest[..taken].to_vec());
            rest = &rest[taken..];
        }
        chunks
    }

    fn finish_writing(&self, place: usize) {
        let (ending, saw_end) = self.with(place, |transport, _| {
            transport.is_done_writing = true;
            (transport.plan.ending, transport.saw_end)
        });
        if ending == Ending::HalfClose && !saw_end {
            self.record(place, |record| record.ended = true);
            let shut = self.with(place, |transport, driver| transport.stream.write_eof(driver));
            if shut.is_err() {
                self.fail(place);
            }
        } else {
            self.close(place);
        }
    }

    fn close(&self, place: usize) {
        self.record(place, |record| record.ended = true);
        let is_drained = self.with(place, |transport, driver| transport.stream.close(driver));
        if is_drained {
            self.queue_loss(place);
        } else {
            self.add_timer_in(CLOSE_NS_MAX, Work::GiveUp(place));
        }
    }

    /// Two ends that close and have bytes left, of which the other reads none, would wait for ever.
    pub fn give_up(&self, place: usize) {
        let is_open = self.with(place, |transport, _| !transport.is_loss_queued);
        if is_open {
            self.fail(place);
        }
    }

    /// An error that has a cause: nobody breaks a pipe whose other end is open.
    fn check_error(&self, place: usize, kind: ErrorKind) {
        let (number, side) = self.with(place, |transport, _| (transport.number, transport.side));
        let peer = self.records.borrow()[number][1 - side];
        if kind == ErrorKind::BrokenPipe && peer.began && !peer.ended && !self.is_tortured.get() {
            self.violation(format!("connection {number} side {side}: a pipe broken by nobody"));
        }
    }

    /// An error: what is left is dropped, and the transport is lost.
    fn fail(&self, place: usize) {
        self.record(place, |record| record.ended = true);
        let (unsent, buffered) = self.with(place, |transport, driver| {
            transport.is_failed = true;
            let buffered = transport.stream.buffered_bytes();
            (transport.stream.abort(driver), buffered)
        });
        self.drop_unsent(place, unsent, buffered);
        self.queue_loss(place);
    }

    fn drop_unsent(&self, place: usize, unsent: WriteQueue<Chunk>, most: usize) {
        let dropped = unsent.len_bytes();
        // A cancel may come too late; then less is left than was buffered.
        if dropped > most {
            self.violation(format!("{dropped} bytes came back of {most}"));
        }
        self.record(place, |record| record.dropped += dropped);
    }

    fn abort_if_planned(&self, place: usize) {
        let done = self.record(place, |record| record.written + record.received);
        let ending = self.with(place, |transport, _| transport.plan.ending);
        if let Ending::AbortAt(at) = ending {
            let is_open = self.with(place, |transport, _| !transport.stream.is_closing());
            if done >= at && is_open {
                self.fail(place);
            }
        }
    }

    fn queue_loss(&self, place: usize) {
        let is_first = self
            .with(place, |transport, _| !std::mem::replace(&mut transport.is_loss_queued, true));
        if is_first {
            self.push(Work::Lose(place));
        }
    }

    pub fn lose(&self, place: usize) {
        let (unsent, buffered, is_failed, token) = self.with(place, |transport, driver| {
            let buffered = transport.stream.buffered_bytes();
            let unsent = transport.stream.lose(driver);
            (unsent, buffered, transport.is_failed, transport.token)
        });
        if !is_failed && buffered > 0 {
            self.violation(format!("a graceful close dropped {buffered} bytes"));
        }
        self.drop_unsent(place, unsent, buffered);
        if self.event_loop.remove_source(token).is_none() {
            self.violation("a source was gone before it was removed");
        }
        let fd = self.with(place, |transport, _| transport.fd.take());
        match fd {
            Some(fd) => drop(fd),
            None => self.violation("a transport was lost twice"),
        }
        self.ended();
    }

    fn resume_later(&self, place: usize) {
        let pause_ns = self.with(place, |transport, _| transport.plan.pause_ns);
        self.add_timer_in(pause_ns, Work::Resume(place));
    }

    pub fn resume_reading(&self, place: usize) {
        if self.with(place, |transport, driver| transport.stream.resume_reading(driver)).is_err() {
            self.fail(place);
        }
    }

    /// A completion for a transport.
    pub fn transport_completed(&self, place: usize, token: Token, outcome: Outcome<Chunk>) {
        let (own, is_reading, is_lost, mode) = self.with(place, |transport, _| {
            let mode = transport.plan.read_mode;
            (transport.token, transport.stream.is_reading(), transport.is_lost(), mode)
        });
        if own != token || is_lost {
            self.violation("a completion reached another than its owner");
            return;
        }
        let is_read = matches!(outcome, Outcome::Received(_) | Outcome::Readable);
        if is_read && !is_reading {
            self.violation("something was received after a pause or a close");
        }
        let told = match &outcome {
            Outcome::Received(Err(error)) | Outcome::Sent(_, Err(error)) => Some(error.kind()),
            _ => None,
        };
        if let Some(ErrorKind::Interrupted | ErrorKind::WouldBlock) = told {
            self.violation("a call that was interrupted, or would block, was told");
        }
        match outcome {
            Outcome::Received(result) => {
                let event = self
                    .with(place, |transport, driver| transport.stream.on_received(driver, result));
                let bytes = match event {
                    ReadEvent::Data(count) => {
                        self.event_loop.driver.borrow().received()[..count].to_vec()
                    }
                    _ => Vec::new(),
                };
                self.read(place, event, &bytes);
            }
            Outcome::Readable if mode == ReadMode::Poll => {
                let mut buf = vec![0; 1 + self.below(4_096) as usize];
                let (event, is_right) = self.with(place, |transport, driver| {
                    // More may come between the two calls, but what waits does not vanish.
                    let waits = driver.waiting_bytes(token).is_ok_and(|count| count > 0);
                    let result = driver.try_recv(token, &mut buf);
                    let is_right = !(waits && matches!(result, Ok(0)));
                    (transport.stream.on_received(driver, result), is_right)
                });
                if !is_right {
                    self.violation("bytes that waited were not there");
                }
                let count = if let ReadEvent::Data(count) = event { count } else { 0 };
                self.read(place, event, &buf[..count]);
            }
            Outcome::Sent(left, result) => {
                let has_failed = result.is_err();
                let (sent, before, after) = self.with(place, |transport, driver| {
                    let before = transport.stream.buffered_bytes();
                    let sent = transport.stream.on_sent(driver, left, result);
                    (sent, before, transport.stream.buffered_bytes())
                });
                if has_failed && before != after {
                    self.violation(format!("a failed send left {after} bytes of {before}"));
                }
                match sent {
                    Ok(sent) => self.sent(place, sent),
                    Err(error) => {
                        self.check_error(place, error.kind());
                        self.fail(place);
                    }
                }
            }
            other => self.violation(format!("a transport got {other:?}")),
        }
    }

    fn read(&self, place: usize, event: ReadEvent, bytes: &[u8]) {
        match event {
            ReadEvent::Data(_) => self.data_received(place, bytes),
            ReadEvent::Eof => self.eof_received(place),
            ReadEvent::Error(_) => self.fail(place),
            ReadEvent::Ignored => {}
        }
    }

    fn data_received(&self, place: usize, bytes: &[u8]) {
        let origin = self.with(place, |transport, _| transport.origin(1 - transport.side));
        let offset = self.record(place, |record| record.received);
        if let Err(text) = payload::check(origin, offset, bytes) {
            self.violation(text);
        }
        self.record(place, |record| record.received += bytes.len());
        self.kernel.note(bytes.len() as u64);
        self.abort_if_planned(place);
        self.change_reader(place);
        let pauses = self.with(place, |transport, _| transport.plan.pauses);
        let is_paused = self.chance(pauses)
            && self.with(place, |transport, driver| transport.stream.pause_reading(driver));
        if is_paused {
            self.resume_later(place);
        }
    }

    fn eof_received(&self, place: usize) {
        let (number, side) = self.with(place, |transport, _| {
            transport.saw_end = true;
            (transport.number, transport.side)
        });
        let [ours, peer] = {
            let records = self.records.borrow();
            [records[number][side], records[number][1 - side]]
        };
        if ours.received != peer.written - peer.dropped {
            self.violation(format!(
                "connection {number} side {side}: the stream ended after {} bytes, and {} were \
                 written and {} of them dropped",
                ours.received, peer.written, peer.dropped
            ));
        }
        let goes_on = self
            .with(place, |transport, _| transport.plan.outlives_eof && !transport.is_done_writing);
        if !goes_on {
            self.close(place);
        }
    }

    fn sent(&self, place: usize, sent: Sent) {
        let (was_paused, is_over) = self.with(place, |transport, _| {
            let was_paused = transport.is_flow_paused;
            transport.is_flow_paused &= !sent.resume;
            (was_paused, transport.stream.finish())
        });
        if sent.resume && !was_paused {
            self.violation("the protocol was resumed and was not paused");
        }
        if sent.resume {
            self.queue_write(place);
        }
        if is_over {
            self.queue_loss(place);
        }
    }
}
