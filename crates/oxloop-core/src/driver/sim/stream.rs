//! Byte streams of the simulated kernel: TCP connections, socket pairs and pipes.
//!
//! A connection has two ends and a direction each way. Bytes that are sent lie in the send buffer
//! until the link and the receiver's window take them, travel as segments, and lie in the receive
//! buffer until they are received. What follows is what Linux does, as far as a program can tell:
//! - an end of stream comes after every byte that was sent before it;
//! - closing with unread bytes, or sending to a closed end, resets the connection;
//! - what arrived before a reset can still be received, then the error comes, once, then the end;
//! - a send after that is a broken pipe.
//!
//! What is left out: segments are not lost (the link delays them instead), there is no urgent data,
//! and acknowledgements take no time.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::Link;
use super::fault::{Fault, Faults};
use super::random::Random;
use super::timeline::{EndId, Happening, Timeline};
use crate::sys::epoll;

/// How long an end waits for a peer that is silent before it gives the connection up.
const GIVES_UP_NS: i64 = 900_000_000_000;

/// Chance, and what it decides over.
#[derive(Debug)]
pub(super) struct Chance {
    pub(super) random: Random,
    pub(super) faults: Faults,
}

impl Chance {
    #[inline]
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        self.random.chance(self.faults.rate(fault))
    }
}

/// What kind of descriptor the ends are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Socket,
    /// Side 0 writes, side 1 reads.
    Pipe,
}

#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    is_end: bool,
}

/// Bytes from one end to the other.
#[derive(Debug, Default)]
struct Direction {
    unsent: VecDeque<u8>,
    wire: VecDeque<Segment>,
    wire_bytes: usize,
    arrived: VecDeque<u8>,
    end_requested: bool,
    end_sent: bool,
    end_arrived: bool,
    /// When the link has taken everything that was given to it.
    link_free_ns: i64,
    last_arrival_ns: i64,
}

#[derive(Debug)]
struct End {
    address: SocketAddr,
    /// A descriptor, or a listener's queue, holds it.
    is_open: bool,
    is_connected: bool,
    /// The connection is over for this end: it was reset, or it gave up.
    is_dead: bool,
    /// Told once, by whichever call comes first.
    error: Option<i32>,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) kind: Kind,
    number: u64,
    link: Link,
    ends: [End; 2],
    /// By the side that sends.
    directions: [Direction; 2],
    /// Nothing travels any more, and nobody is told.
    is_cut: bool,
}

impl Connection {
    /// A connection that stands, or one that side 0 asks for and nobody holds at the other end yet.
    pub(super) fn new(
        number: u64,
        kind: Kind,
        addresses: [SocketAddr; 2],
        link: Link,
        is_connected: bool,
    ) -> Self {
        let end =
            |address, is_open| End { address, is_open, is_connected, is_dead: false, error: None };
        let ends = [end(addresses[0], true), end(addresses[1], is_connected)];
        let directions = [Direction::default(), Direction::default()];
        Connection { kind, number, link, ends, directions, is_cut: false }
    }

    pub(super) fn address(&self, side: usize) -> SocketAddr {
        self.ends[side].address
    }

    pub(super) fn is_connected(&self, side: usize) -> bool {
        self.ends[side].is_connected
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }

    pub(super) fn set_send_buffer(&mut self, bytes: usize) {
        self.link.send_buffer_bytes = bytes.max(1);
    }

    pub(super) fn set_connected(&mut self, side: usize) {
        self.ends[side].is_connected = !self.ends[side].is_dead;
    }

    /// Somebody holds the end from now on: a descriptor, or a listener's queue.
    pub(super) fn set_open(&mut self, side: usize) {
        self.ends[side].is_open = true;
    }

    /// Nobody has a descriptor of it.
    pub(super) fn is_gone(&self) -> bool {
        !self.ends[0].is_open && !self.ends[1].is_open
    }

    fn end_id(&self, side: usize) -> EndId {
        EndId { connection: self.number, side }
    }

    /// Bytes for which the send buffer has room.
    fn room(&self, side: usize) -> usize {
        let sending = &self.directions[side];
        self.link.send_buffer_bytes.saturating_sub(sending.unsent.len() + sending.wire_bytes)
    }

    /// What epoll reports.
    pub(super) fn readiness(&self, side: usize) -> u32 {
        let (end, receiving) = (&self.ends[side], &self.directions[1 - side]);
        let mut mask = 0;
        let is_over = end.is_dead || end.error.is_some();
        let (reads, writes) = (self.reads(side), self.writes(side));
        if reads && (!receiving.arrived.is_empty() || receiving.end_arrived || is_over) {
            mask |= epoll::IN;
        }
        if reads && (receiving.end_arrived || is_over) {
            mask |= epoll::RDHUP;
        }
        let has_room = self.room(side) * 3 >= self.link.send_buffer_bytes;
        if writes && (is_over || end.is_connected && has_room) {
            mask |= epoll::OUT;
        }
        if end.error.is_some() || self.kind == Kind::Pipe && writes && end.is_dead {
            mask |= epoll::ERR;
        }
        let write_ended = self.directions[side].end_requested || !writes;
        if end.is_dead || receiving.end_arrived && write_ended {
            mask |= epoll::HUP;
        }
        mask
    }

    fn reads(&self, side: usize) -> bool {
        self.kind == Kind::Socket || side == 1
    }

    fn writes(&self, side: usize) -> bool {
        self.kind == Kind::Socket || side == 0
    }

    /// FIONREAD.
    pub(super) fn waiting_bytes(&self, side: usize) -> usize {
        self.directions[1 - side].arrived.len()
    }

    /// recv.
    pub(super) fn receive(
        &mut self,
        side: usize,
        buf: &mut [u8],
        timeline: &mut Timeline,
        chance: &mut Chance,
    ) -> Result<usize, i32> {
        if !self.reads(side) {
            return Err(libc::EBADF);
        }
        let receiving = &mut self.directions[1 - side];
        let mut count = receiving.arrived.len().min(buf.len());
        if count > 0 {
            if chance.strikes(Fault::ShortReceive) {
                count = chance.random.size(1, count);
            }
            for (place, byte) in buf.iter_mut().zip(receiving.arrived.drain(..count)) {
                *place = byte;
            }
            self.pump(1 - side, timeline, chance);
            return Ok(count);
        }
        let end = &mut self.ends[side];
        match end.error.take() {
            Some(code) => Err(code),
            None if buf.is_empty() || end.is_dead || receiving.end_arrived => Ok(0),
            None => Err(libc::EAGAIN),
        }
    }

    /// send, of all slices' bytes as far as there is room.
    pub(super) fn send(
        &mut self,
        side: usize,
        slices: &[&[u8]],
        timeline: &mut Timeline,
        chance: &mut Chance,
    ) -> Result<usize, i32> {
        let room = self.room(side);
        if !self.writes(side) {
            return Err(libc::EBADF);
        }
        let (end, sending) = (&mut self.ends[side], &mut self.directions[side]);
        if let Some(code) = end.error.take() {
            return Err(code);
        }
        if end.is_dead || sending.end_requested {
            return Err(libc::EPIPE);
        }
        let asked_bytes: usize = slices.iter().map(|slice| slice.len()).sum();
        if asked_bytes == 0 {
            return Ok(0);
        }
        let mut count = room.min(asked_bytes);
        if count == 0 || !end.is_connected {
            return Err(libc::EAGAIN);
        }
        if chance.strikes(Fault::ShortSend) {
            count = chance.random.size(1, count);
        }
        let mut left = count;
        for slice in slices {
            let taken = left.min(slice.len());
            sending.unsent.extend(&slice[..taken]);
            left -= taken;
        }
        self.pump(side, timeline, chance);
        self.misfortune(side, timeline, chance);
        Ok(count)
    }

    /// What may befall a connection in mid-stream.
    fn misfortune(&mut self, side: usize, timeline: &mut Timeline, chance: &mut Chance) {
        if self.kind == Kind::Pipe {
            return;
        }
        let soon_ns = timeline.now_ns() + chance.random.below(2_000_000) as i64;
        if chance.strikes(Fault::Reset) {
            timeline.schedule(soon_ns, Happening::Breaks(self.end_id(side), libc::ECONNRESET));
            timeline.schedule(soon_ns, Happening::Breaks(self.end_id(1 - side), libc::ECONNRESET));
        }
        if chance.strikes(Fault::TimedOut) {
            let first = chance.random.size(0, 1);
            let late_ns = soon_ns + GIVES_UP_NS;
            timeline.schedule(soon_ns, Happening::Breaks(self.end_id(first), libc::ETIMEDOUT));
            timeline.schedule(late_ns, Happening::Breaks(self.end_id(1 - first), libc::ETIMEDOUT));
        }
        if chance.strikes(Fault::Vanish) {
            self.vanish(timeline);
        }
    }

    /// The path between the ends is gone. Both give up in the end, as a kernel does.
    pub(super) fn vanish(&mut self, timeline: &mut Timeline) {
        self.is_cut = true;
        self.give_up(timeline, GIVES_UP_NS);
    }

    /// If the path, or one end, is gone, both ends learn of it after so long.
    pub(super) fn give_up(&mut self, timeline: &mut Timeline, after_ns: i64) {
        if self.is_cut || self.ends.iter().any(|end| end.is_dead) {
            for side in 0..2 {
                let at_ns = timeline.now_ns() + after_ns;
                timeline.schedule(at_ns, Happening::Breaks(self.end_id(side), libc::ETIMEDOUT));
            }
        }
    }

    /// shutdown of the write direction.
    pub(super) fn shutdown_write(
        &mut self,
        side: usize,
        timeline: &mut Timeline,
        chance: &mut Chance,
    ) -> Result<(), i32> {
        if self.ends[side].is_dead || !self.ends[side].is_connected {
            return Err(libc::ENOTCONN);
        }
        self.directions[side].end_requested = true;
        self.pump(side, timeline, chance);
        Ok(())
    }

    /// The last descriptor of an end is closed.
    pub(super) fn close(&mut self, side: usize, timeline: &mut Timeline, chance: &mut Chance) {
        self.ends[side].is_open = false;
        if self.ends[side].is_dead {
            return;
        }
        let is_unread = !self.directions[1 - side].arrived.is_empty();
        let was_connecting = !self.ends[side].is_connected;
        if is_unread || was_connecting || self.kind == Kind::Pipe && side == 1 {
            let code = if self.kind == Kind::Pipe { libc::EPIPE } else { libc::ECONNRESET };
            self.ends[side].is_dead = true;
            self.directions[side].unsent.clear();
            self.tell_reset(side, code, timeline, chance);
            return;
        }
        self.directions[side].end_requested = true;
        self.pump(side, timeline, chance);
    }

    /// A reset travels from this side behind what it has sent.
    fn tell_reset(&mut self, from: usize, code: i32, timeline: &mut Timeline, chance: &mut Chance) {
        if self.is_cut {
            return;
        }
        if self.link.is_instant() {
            self.break_end(1 - from, code);
        } else {
            let at_ns = self.arrival_ns(from, 0, timeline, chance);
            timeline.schedule(at_ns, Happening::Breaks(self.end_id(1 - from), code));
        }
    }

    /// An error reaches an end and ends the connection for it. Whether that changed anything.
    pub(super) fn break_end(&mut self, side: usize, code: i32) -> bool {
        let saw_end = self.directions[1 - side].end_arrived;
        let end = &mut self.ends[side];
        if end.is_dead {
            return false;
        }
        end.is_dead = true;
        if end.is_open && !(self.kind == Kind::Pipe && code == libc::EPIPE) {
            let is_reset = code == libc::ECONNRESET;
            end.error = Some(if is_reset && saw_end { libc::EPIPE } else { code });
        }
        for direction in &mut self.directions {
            direction.wire.clear();
            direction.wire_bytes = 0;
        }
        self.directions[side].unsent.clear();
        true
    }

    /// Fetches and clears the error (SO_ERROR).
    pub(super) fn take_error(&mut self, side: usize) -> Option<i32> {
        self.ends[side].error.take()
    }

    /// Puts on the wire what the receiver's window takes.
    fn pump(&mut self, side: usize, timeline: &mut Timeline, chance: &mut Chance) {
        if self.is_cut || self.ends[side].is_dead || !self.ends[side].is_connected {
            return;
        }
        loop {
            let sending = &self.directions[side];
            let held_bytes = sending.arrived.len() + sending.wire_bytes;
            let window = self.link.receive_buffer_bytes.saturating_sub(held_bytes);
            let wanted = sending.unsent.len().min(self.link.segment_bytes);
            // A window of a few bytes is not worth a segment, unless it is all that there can be.
            if wanted == 0 || window < wanted.min(self.link.receive_buffer_bytes.div_ceil(2)) {
                break;
            }
            let count = wanted.min(window);
            let bytes = self.directions[side].unsent.drain(..count).collect();
            self.launch(side, Segment { bytes, is_end: false }, timeline, chance);
        }
        let sending = &mut self.directions[side];
        if sending.unsent.is_empty() && sending.end_requested && !sending.end_sent {
            sending.end_sent = true;
            let end = Segment { bytes: Vec::new(), is_end: true };
            self.launch(side, end, timeline, chance);
        }
    }

    fn launch(
        &mut self,
        side: usize,
        segment: Segment,
        timeline: &mut Timeline,
        chance: &mut Chance,
    ) {
        let len_bytes = segment.bytes.len();
        let sending = &mut self.directions[side];
        sending.wire_bytes += len_bytes;
        sending.wire.push_back(segment);
        if self.link.is_instant() {
            self.arrive(1 - side, timeline, chance);
        } else {
            let at_ns = self.arrival_ns(side, len_bytes, timeline, chance);
            timeline.schedule(at_ns, Happening::Arrives(self.end_id(1 - side)));
        }
    }

    /// When what is sent now arrives; nothing overtakes.
    fn arrival_ns(
        &mut self,
        side: usize,
        len_bytes: usize,
        timeline: &Timeline,
        chance: &mut Chance,
    ) -> i64 {
        let sending = &mut self.directions[side];
        let starts_ns = sending.link_free_ns.max(timeline.now_ns());
        sending.link_free_ns = starts_ns + self.link.takes_ns(len_bytes);
        let mut latency_ns = self.link.latency_ns;
        if chance.strikes(Fault::Jitter) {
            latency_ns += chance.random.below(4 * latency_ns.max(1_000) as u64) as i64;
        }
        sending.last_arrival_ns = (sending.link_free_ns + latency_ns).max(sending.last_arrival_ns);
        sending.last_arrival_ns
    }

    /// The next segment on its way to this end arrives.
    pub(super) fn arrive(&mut self, side: usize, timeline: &mut Timeline, chance: &mut Chance) {
        if self.is_cut {
            return;
        }
        let receiving = &mut self.directions[1 - side];
        let Some(segment) = receiving.wire.pop_front() else { return };
        receiving.wire_bytes -= segment.bytes.len();
        if segment.is_end {
            receiving.end_arrived = true;
        } else if self.ends[side].is_open && !self.ends[side].is_dead {
            receiving.arrived.extend(segment.bytes);
            self.pump(1 - side, timeline, chance);
        } else {
            self.ends[side].is_dead = true;
            self.tell_reset(side, libc::ECONNRESET, timeline, chance);
        }
    }
}
