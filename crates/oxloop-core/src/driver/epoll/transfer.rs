//! The immediate calls: receive and send on a registered descriptor.
//!
//! Sockets are the rule; a pipe or a terminal is found out by the first socket call, which says
//! that it is none, and is read and written from then on. EINTR cannot tell anybody anything here,
//! since these calls do not block: they are made again.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use super::registration::Registration;
use crate::buf::WriteQueue;
use crate::driver::kernel::Kernel;
use crate::limits::IOVECS_PER_SEND_MAX;
use crate::mutant::planted;
use crate::sys::fd;
use crate::sys::socket::{self, SockAddr};

impl<C> Registration<C> {
    /// Makes a call, told whether by socket calls, until it is answered.
    fn call(
        &mut self,
        mut make: impl FnMut(RawFd, bool) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            match make(self.fd, self.is_socket) {
                Err(error)
                    if error.kind() == io::ErrorKind::Interrupted
                        && !planted!(InterruptedIsTold) => {}
                Err(error) if self.is_socket && socket::is_not_a_socket(&error) => {
                    self.is_socket = false;
                }
                result => return result,
            }
        }
    }

    pub(super) fn recv<K: Kernel>(&mut self, kernel: &K, buf: &mut [u8]) -> io::Result<usize> {
        self.call(
            |raw, is_socket| {
                if is_socket { kernel.recv(raw, buf) } else { kernel.read(raw, buf) }
            },
        )
    }

    pub(super) fn recv_uninit<K: Kernel>(
        &mut self,
        kernel: &K,
        room: &mut [MaybeUninit<u8>],
    ) -> io::Result<usize> {
        self.call(|raw, is_socket| match is_socket {
            true => kernel.recv_uninit(raw, room),
            false => kernel.read(raw, fd::zeroed(room)),
        })
    }

    pub(super) fn send<K: Kernel>(&mut self, kernel: &K, bytes: &[u8]) -> io::Result<usize> {
        let result =
            self.call(
                |raw, is_socket| {
                    if is_socket { kernel.send(raw, bytes) } else { kernel.write(raw, bytes) }
                },
            );
        self.note_room(&result, bytes.len());
        result
    }

    pub(super) fn send_vectored<K: Kernel>(
        &mut self,
        kernel: &K,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let slices = &slices[..slices.len().min(IOVECS_PER_SEND_MAX)];
        if let [one] = slices {
            return self.send(kernel, one);
        }
        let asked_bytes = slices.iter().map(|slice| slice.len()).sum();
        let result = self.call(|raw, is_socket| match is_socket {
            true => kernel.send_vectored(raw, slices),
            false => kernel.write_vectored(raw, slices),
        });
        self.note_room(&result, asked_bytes);
        result
    }

    pub(super) fn recv_from<K: Kernel>(
        &mut self,
        kernel: &K,
        buf: &mut [u8],
    ) -> io::Result<(usize, SockAddr)> {
        loop {
            match kernel.recv_from(self.fd, buf) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    pub(super) fn send_to<K: Kernel>(
        &mut self,
        kernel: &K,
        bytes: &[u8],
        to: &SockAddr,
    ) -> io::Result<usize> {
        self.call(|raw, _| kernel.send_to(raw, bytes, to))
    }

    fn note_room(&mut self, result: &io::Result<usize>, asked_bytes: usize) {
        self.send_is_full = match result {
            Ok(sent_bytes) => *sent_bytes < asked_bytes,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
    }
}

impl<C: AsRef<[u8]>> Registration<C> {
    /// Sends from the front of a queue and takes off what was sent.
    pub(super) fn send_queue<K: Kernel>(
        &mut self,
        kernel: &K,
        queue: &mut WriteQueue<C>,
    ) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); IOVECS_PER_SEND_MAX];
        let filled = queue.as_io_slices(&mut slices);
        let sent_bytes = self.send_vectored(kernel, &slices[..filled])?;
        if !planted!(SentNotTakenOff) {
            queue.advance(sent_bytes);
        }
        Ok(sent_bytes)
    }
}
