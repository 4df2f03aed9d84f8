//! Descriptors that somebody else owns and the loop only watches, as `add_reader` and `add_writer` do.
//!
//! Their owner may close them as soon as both sides are cancelled, before the loop lets go of them:
//! the kernel must not watch them any more then.

use std::io;
use std::os::fd::AsRawFd;

use oxloop_core::driver::kernel::Kernel;
use oxloop_core::driver::sim::SimFd;
use oxloop_core::{Op, Outcome, Side, Submitted, Token};

use crate::app::{App, Chunk, SimulatedDriver, Source, Work};
use crate::payload::{self, Origin};

/// Connections of watched descriptors are numbered from here on.
const FIRST_CONNECTION: u16 = 40_000;

/// One watched descriptor, and who writes to it.
pub struct Watched {
    ours: Option<SimFd>,
    peer: Option<SimFd>,
    token: Token,
    is_reading: bool,
    is_writing: bool,
    writes_left: usize,
    written: usize,
    read: usize,
}

impl<D: SimulatedDriver> App<D> {
    /// Opens what is watched.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open_watched(&self, number: usize) -> io::Result<()> {
        let (ours, peer) = match self.chance(3_000) {
            true => self.kernel.pipe()?,
            false => self.kernel.pair(self.program.link)?,
        };
        let source = Source::Watched(number);
        let token = self.event_loop.add_source(ours.as_raw_fd(), source)?;
        self.began();
        self.watched.borrow_mut().push(Watched {
            ours: Some(ours),
            peer: Some(peer),
            token,
            is_reading: false,
            is_writing: false,
            writes_left: 1 + self.below(8) as usize,
            written: 0,
            read: 0,
        });
        self.watch(number, Side::Read);
        self.add_timer_in(self.below(10_000_000) as i64, Work::PeerWrites(number));
        Ok(())
    }

    fn with_watched<R>(&self, number: usize, body: impl FnOnce(&mut Watched) -> R) -> R {
        body(&mut self.watched.borrow_mut()[number])
    }

    /// Watches one side, if the descriptor is there still.
    pub fn watch(&self, number: usize, side: Side) {
        let token =
            self.with_watched(number, |watched| watched.ours.is_some().then_some(watched.token));
        let Some(token) = token else { return };
        let op = match side {
            Side::Read => Op::PollRead,
            Side::Write => Op::PollWrite,
        };
        let armed = self.event_loop.driver.borrow_mut().submit(token, op);
        match armed {
            Ok(Submitted::Pending) => self.with_watched(number, |watched| match side {
                Side::Read => watched.is_reading = true,
                Side::Write => watched.is_writing = true,
            }),
            Ok(done) => self.violation(format!("a watch was done at once: {done:?}")),
            // The kernel has no memory for it now.
            Err(_) => self.add_timer_in(1_000_000, Work::Watch(number, side)),
        }
    }

    fn unwatch(&self, number: usize, side: Side) {
        let token = self.with_watched(number, |watched| {
            match side {
                Side::Read => watched.is_reading = false,
                Side::Write => watched.is_writing = false,
            }
            watched.token
        });
        if self.event_loop.driver.borrow_mut().cancel(token, side).is_some() {
            self.violation("a watch brought bytes back");
        }
    }

    /// The other end writes, and closes after the last time.
    pub fn peer_writes(&self, number: usize) {
        let origin = Origin { connection: FIRST_CONNECTION + number as u16, side: 1 };
        let (raw, written, is_last) = self.with_watched(number, |watched| {
            watched.writes_left = watched.writes_left.saturating_sub(1);
            let raw = watched.peer.as_ref().map(SimFd::as_raw_fd);
            (raw, watched.written, watched.writes_left == 0)
        });
        let Some(raw) = raw else { return };
        let bytes = payload::make(origin, written, 1 + self.below(2_000) as usize);
        // What is refused now is never written.
        if let Ok(count) = self.kernel.write(raw, &bytes) {
            self.with_watched(number, |watched| watched.written += count);
        }
        if is_last {
            drop(self.with_watched(number, |watched| watched.peer.take()));
        } else {
            self.add_timer_in(self.below(10_000_000) as i64, Work::PeerWrites(number));
            if self.chance(5_000) && !self.with_watched(number, |watched| watched.is_writing) {
                self.watch(number, Side::Write);
            }
        }
    }

    /// A completion for a watched descriptor.
    pub fn watched_ready(&self, number: usize, outcome: &Outcome<Chunk>) {
        let (is_reading, is_writing, is_open) = self.with_watched(number, |watched| {
            (watched.is_reading, watched.is_writing, watched.ours.is_some())
        });
        match outcome {
            Outcome::Readable if is_reading && is_open => self.read_watched(number),
            Outcome::Writable if is_writing && is_open => {
                self.unwatch(number, Side::Write);
            }
            other => self.violation(format!("nobody watches for {other:?}")),
        }
    }

    fn read_watched(&self, number: usize) {
        let origin = Origin { connection: FIRST_CONNECTION + number as u16, side: 1 };
        let (token, read) = self.with_watched(number, |watched| (watched.token, watched.read));
        let mut buf = vec![0; 1 + self.below(1_000) as usize];
        let result = self.event_loop.driver.borrow_mut().try_recv(token, &mut buf);
        match result {
            Ok(0) => {
                let written = self.with_watched(number, |watched| watched.written);
                if read != written {
                    self.violation(format!("watched {number}: {read} bytes of {written}"));
                }
                self.close_watched(number);
            }
            Ok(count) => {
                if let Err(text) = payload::check(origin, read, &buf[..count]) {
                    self.violation(text);
                }
                self.with_watched(number, |watched| watched.read += count);
                if self.chance(2_000) {
                    self.unwatch(number, Side::Read);
                    let pause_ns = self.below(5_000_000) as i64;
                    self.add_timer_in(pause_ns, Work::Watch(number, Side::Read));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.close_watched(number),
        }
    }

    /// The owner closes it, sometimes before the loop lets go.
    fn close_watched(&self, number: usize) {
        self.unwatch(number, Side::Read);
        self.unwatch(number, Side::Write);
        let (token, fd) = self.with_watched(number, |watched| (watched.token, watched.ours.take()));
        let is_closed_first = self.chance(5_000);
        let mut fd = fd;
        if is_closed_first {
            drop(fd.take());
        }
        if self.event_loop.remove_source(token).is_none() {
            self.violation("a source was gone before it was removed");
        }
        drop(fd);
        self.ended();
    }

    /// What is left of what was watched, when a run ends early.
    pub fn drop_watched(&self) {
        for watched in self.watched.take() {
            if watched.ours.is_some() {
                let _ = self.event_loop.remove_source(watched.token);
            }
        }
    }
}
