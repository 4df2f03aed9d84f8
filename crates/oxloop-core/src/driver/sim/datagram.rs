//! Datagram sockets of the simulated kernel.
//!
//! A datagram is one message, whole or not at all. The link delays it; faults lose, double or
//! reorder it. A full receive buffer loses it too, without a word, as UDP does.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::sys::epoll;

/// One socket.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    pub(super) address: SocketAddr,
    /// Whom it is connected to.
    pub(super) peer: Option<SocketAddr>,
    queue: VecDeque<(Vec<u8>, SocketAddr)>,
    queued_bytes: usize,
    room_bytes: usize,
    /// Told once, by whichever call comes first.
    pub(super) error: Option<i32>,
}

impl DatagramSocket {
    pub(super) fn new(
        address: SocketAddr,
        peer: Option<SocketAddr>,
        room_bytes: usize,
    ) -> DatagramSocket {
        let queue = VecDeque::new();
        DatagramSocket { address, peer, queue, queued_bytes: 0, room_bytes, error: None }
    }

    /// What epoll reports. There is always room to send: the network drops what is too much.
    pub(super) fn readiness(&self) -> u32 {
        let mut mask = epoll::OUT;
        if !self.queue.is_empty() {
            mask |= epoll::IN;
        }
        if self.error.is_some() {
            mask |= epoll::IN | epoll::ERR;
        }
        mask
    }

    /// A datagram arrives, if it is from whom the socket talks to and there is room.
    pub(super) fn arrive(&mut self, bytes: Vec<u8>, from: SocketAddr) {
        let is_welcome = self.peer.is_none_or(|peer| peer == from);
        if is_welcome && self.queued_bytes + bytes.len() <= self.room_bytes {
            self.queued_bytes += bytes.len();
            self.queue.push_back((bytes, from));
        }
    }

    /// recvfrom.
    pub(super) fn receive(&mut self, buf: &mut [u8]) -> Result<(usize, SocketAddr), i32> {
        if let Some(code) = self.error.take() {
            return Err(code);
        }
        let (bytes, from) = self.queue.pop_front().ok_or(libc::EAGAIN)?;
        self.queued_bytes -= bytes.len();
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        Ok((count, from))
    }
}
