//! Bytes waiting to be sent, as the chunks that hold them.
//!
//! A send takes any prefix, so the queue knows how far into its first chunk it is. The total is
//! kept and not summed, because flow control asks for it on every write. Chunks are dropped by
//! whoever owns them: the drop of a chunk may run foreign code (it may be a Python object), so
//! `clear` and the queue itself hand chunks out and the caller decides where they die. `advance`
//! drops the chunks that were sent in full, at once.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::mutant::planted;

/// A FIFO of byte chunks with an offset into the first.
#[derive(Debug)]
pub struct WriteQueue<C> {
    chunks: VecDeque<C>,
    /// Bytes of the first chunk that are gone already; 0 if there is none.
    offset: usize,
    /// Bytes that are left in all chunks.
    len_bytes: usize,
}

impl<C> Default for WriteQueue<C> {
    fn default() -> Self {
        WriteQueue { chunks: VecDeque::new(), offset: 0, len_bytes: 0 }
    }
}

impl<C> WriteQueue<C> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes left to send.
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Whether nothing is left to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// Empties the queue; the chunks are returned so that the caller drops them where it is safe.
    pub fn clear(&mut self) -> VecDeque<C> {
        self.offset = 0;
        self.len_bytes = 0;
        std::mem::take(&mut self.chunks)
    }

    /// The queue's contents; the queue is empty afterwards.
    pub fn take(&mut self) -> WriteQueue<C> {
        std::mem::take(self)
    }
}

impl<C: AsRef<[u8]>> WriteQueue<C> {
    /// Adds a chunk at the end. An empty chunk is dropped.
    pub fn push(&mut self, chunk: C) {
        let len_bytes = chunk.as_ref().len();
        if len_bytes > 0 {
            self.len_bytes += len_bytes;
            self.chunks.push_back(chunk);
        }
    }

    /// Puts an unsent remainder back in front. `self` must not have been sent from since.
    ///
    /// # Panics
    /// If `self` has been sent from: its first chunk would be sent in full again.
    pub fn push_front(&mut self, mut front: WriteQueue<C>) {
        front.append(self.take());
        *self = front;
    }

    /// Adds another queue, that was not sent from, at the end.
    ///
    /// # Panics
    /// If `back` has been sent from and `self` is not empty.
    pub fn append(&mut self, mut back: WriteQueue<C>) {
        if self.is_empty() {
            *self = back;
        } else if !back.is_empty() {
            assert_eq!(back.offset, 0, "only the first chunk of a queue may be sent in part");
            self.chunks.append(&mut back.chunks);
            self.len_bytes += back.len_bytes;
        }
    }

    /// Takes `sent_bytes` from the front.
    ///
    /// # Panics
    /// If that is more than there is: a driver that says so has lost count, and going on would send
    /// wrong bytes.
    pub fn advance(&mut self, sent_bytes: usize) {
        assert!(sent_bytes <= self.len_bytes, "sent {sent_bytes} of {} bytes", self.len_bytes);
        self.len_bytes -= sent_bytes;
        let mut rest_bytes = self.offset + sent_bytes;
        while let Some(first) = self.chunks.front() {
            let first_bytes = first.as_ref().len();
            if rest_bytes < first_bytes {
                break;
            }
            rest_bytes -= first_bytes;
            self.chunks.pop_front();
        }
        self.offset = if planted!(OffsetForgotten) { 0 } else { rest_bytes };
    }

    /// Fills `slices` with what is to be sent next; returns how many were filled.
    pub fn as_io_slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (chunk, slice) in self.chunks.iter().zip(slices.iter_mut()) {
            let skip = if filled == 0 { self.offset } else { 0 };
            *slice = IoSlice::new(&chunk.as_ref()[skip..]);
            filled += 1;
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contents(queue: &WriteQueue<Vec<u8>>) -> Vec<u8> {
        let mut slices = vec![IoSlice::new(&[]); queue.chunk_count()];
        let filled = queue.as_io_slices(&mut slices);
        assert_eq!(filled, queue.chunk_count());
        slices.iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn fills_no_more_slices_than_there_are() {
        let mut queue = WriteQueue::new();
        for byte in 0..5u8 {
            queue.push(vec![byte]);
        }
        let mut slices = [IoSlice::new(&[]); 3];
        assert_eq!(queue.as_io_slices(&mut slices), 3);
        assert_eq!(&*slices[2], [2]);
    }

    #[test]
    fn clear_hands_the_chunks_out() {
        let mut queue = WriteQueue::new();
        queue.push(b"ab".to_vec());
        queue.push(b"".to_vec());
        queue.push(b"c".to_vec());
        queue.advance(1);
        assert_eq!(queue.clear(), [b"ab".to_vec(), b"c".to_vec()]);
        assert!(queue.is_empty());
        queue.push(b"d".to_vec());
        assert_eq!(contents(&queue), b"d");
    }

    #[test]
    #[should_panic(expected = "sent 2 of 1 bytes")]
    fn more_sent_than_there_was_is_noticed() {
        let mut queue = WriteQueue::new();
        queue.push(b"a".to_vec());
        queue.advance(2);
    }

    proptest! {
        #[test]
        fn behaves_like_one_string(
            steps in proptest::collection::vec(
                (0..4u8, proptest::collection::vec(any::<u8>(), 0..20), any::<usize>()),
                0..100,
            )
        ) {
            let mut queue = WriteQueue::new();
            let mut model: Vec<u8> = Vec::new();
            for (kind, bytes, number) in steps {
                match kind {
                    0 | 1 => {
                        model.extend(&bytes);
                        queue.push(bytes);
                    }
                    2 => {
                        let sent_bytes = number % (model.len() + 1);
                        model.drain(..sent_bytes);
                        queue.advance(sent_bytes);
                    }
                    _ => {
                        // A send takes the queue, more is written meanwhile, the rest comes back.
                        let mut left = queue.take();
                        queue.push(bytes.clone());
                        let sent_bytes = number % (model.len() + 1);
                        left.advance(sent_bytes);
                        queue.push_front(left);
                        model.drain(..sent_bytes);
                        model.extend(&bytes);
                    }
                }
                prop_assert_eq!(queue.len_bytes(), model.len());
                prop_assert_eq!(queue.is_empty(), model.is_empty());
                prop_assert_eq!(contents(&queue), model.clone());
            }
        }
    }
}
