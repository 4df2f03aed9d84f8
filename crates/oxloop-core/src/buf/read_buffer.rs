//! Bytes received and not read yet, as the pieces in which they came.
//!
//! Facts: most reads take exactly what one receive brought, and most readers of lines take many small
//! parts of one piece. A peer may also send single bytes, and a piece per byte would cost tens of
//! times what it holds.
//! Decision: a piece is kept as it came and can be handed on whole, without a copy; small pieces that
//! arrive while others wait are gathered into one. A search walks the pieces and looks at each byte
//! once per separator; where a separator may lie across a border, a window of the bytes around it is
//! searched. Nothing is ever moved to make the bytes contiguous.
//! What can still go wrong: the rest of a large piece keeps all of it in memory until it is read.
//!
//! Dropping a shared piece must not run foreign code that reaches the buffer: the pieces are exact
//! `bytes` objects, or memory.

use std::collections::VecDeque;

use memchr::{memchr, memmem};

/// Pieces below this many bytes are gathered when others wait already.
const SMALL_PIECE_BYTES: usize = 512;

/// A gathered piece is not grown beyond this, so that it is freed as it is read.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
enum Piece<C> {
    /// As it came.
    Shared(C),
    /// A copy, which can grow.
    Gathered(Vec<u8>),
}

impl<C: AsRef<[u8]>> Piece<C> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Shared(piece) => piece.as_ref(),
            Self::Gathered(bytes) => bytes,
        }
    }
}

/// Where a separator lies, in bytes from the front of the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its first byte.
    pub start: usize,
    /// The byte after its last.
    pub end: usize,
}

/// Received bytes in order; read from the front, in any portions.
#[derive(Debug)]
pub struct ReadBuffer<C> {
    pieces: VecDeque<Piece<C>>,
    /// Bytes of the first piece that are read already; 0 if there is none.
    offset: usize,
    len_bytes: usize,
}

impl<C> Default for ReadBuffer<C> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), offset: 0, len_bytes: 0 }
    }
}

impl<C> ReadBuffer<C> {
    /// Bytes that wait to be read.
    #[inline]
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Whether there is nothing to read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// The contents; the buffer is empty afterwards.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl<C: AsRef<[u8]>> ReadBuffer<C> {
    /// Adds a piece at the end, copied if it is small and others wait.
    #[inline]
    pub fn push(&mut self, piece: C) {
        let count = piece.as_ref().len();
        if count == 0 {
            return;
        }
        if count < SMALL_PIECE_BYTES && !self.is_empty() {
            return self.gather(piece.as_ref());
        }
        self.len_bytes += count;
        self.pieces.push_back(Piece::Shared(piece));
    }

    /// Adds a copy of `bytes` at the end.
    pub fn gather(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.len_bytes += bytes.len();
        if let Some(Piece::Gathered(last)) = self.pieces.back_mut() {
            if last.len() + bytes.len() <= GATHERED_BYTES_MAX {
                last.extend_from_slice(bytes);
                return;
            }
        }
        self.pieces.push_back(Piece::Gathered(bytes.to_vec()));
    }

    /// The first piece, if it is whole, came as it is, and has exactly `count` bytes.
    #[inline]
    pub fn take_piece(&mut self, count: usize) -> Option<C> {
        if self.offset > 0 {
            return None;
        }
        match self.pieces.front() {
            Some(Piece::Shared(piece)) if piece.as_ref().len() == count => {}
            _ => return None,
        }
        self.len_bytes -= count;
        match self.pieces.pop_front() {
            Some(Piece::Shared(piece)) => Some(piece),
            _ => None,
        }
    }

    /// The unread bytes, in order.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().enumerate().map(|(index, piece)| {
            let skip = if index == 0 { self.offset } else { 0 };
            &piece.bytes()[skip..]
        })
    }

    /// The first `count` bytes, if they lie in one piece.
    #[inline]
    pub fn front(&self, count: usize) -> Option<&[u8]> {
        self.pieces.front()?.bytes().get(self.offset..self.offset + count)
    }

    /// The bytes up to the first `byte` and with it, if they lie in one piece.
    #[inline]
    pub fn front_through(&self, byte: u8) -> Option<&[u8]> {
        let unread = self.pieces.front()?.bytes().get(self.offset..)?;
        unread.get(..=memchr(byte, unread)?)
    }

    /// Copies the first bytes into `target`; returns how many there were.
    pub fn copy_to(&self, target: &mut [u8]) -> usize {
        let mut copied = 0;
        for slice in self.slices() {
            let count = slice.len().min(target.len() - copied);
            target[copied..copied + count].copy_from_slice(&slice[..count]);
            copied += count;
            if copied == target.len() {
                break;
            }
        }
        copied
    }

    /// Takes `count` bytes, or all that there are, from the front.
    #[inline]
    pub fn advance(&mut self, count: usize) {
        let count = count.min(self.len_bytes);
        self.len_bytes -= count;
        let mut rest_bytes = self.offset + count;
        while let Some(first) = self.pieces.front() {
            let first_bytes = first.bytes().len();
            if rest_bytes < first_bytes {
                break;
            }
            rest_bytes -= first_bytes;
            self.pieces.pop_front();
        }
        self.offset = rest_bytes;
    }

    /// The separator that ends first, of those that start at `from` or later.
    ///
    /// `separators` are not empty and sorted by length: if two end together, the shortest is found.
    #[inline]
    pub fn find(&self, separators: &[&[u8]], from: usize) -> Option<Found> {
        let mut first: Option<Found> = None;
        for separator in separators {
            let found = match separator {
                [byte] => self.find_byte(*byte, from),
                _ => self.find_bytes(separator, from),
            };
            if let Some(start) = found {
                let end = start + separator.len();
                if first.is_none_or(|first| end < first.end) {
                    first = Some(Found { start, end });
                }
            }
        }
        first
    }

    /// The first `byte` at `from` or later.
    #[inline]
    pub fn find_byte(&self, byte: u8, from: usize) -> Option<usize> {
        if let Some(first) = self.pieces.front() {
            // Where most lines are.
            let unread = &first.bytes()[self.offset..];
            let found = unread.get(from..).and_then(|unread| memchr(byte, unread));
            if let Some(index) = found {
                return Some(from + index);
            }
        }
        let mut start = 0;
        for slice in self.slices() {
            let skip = from.saturating_sub(start);
            if start > 0 && skip < slice.len() {
                if let Some(index) = memchr(byte, &slice[skip..]) {
                    return Some(start + skip + index);
                }
            }
            start += slice.len();
        }
        None
    }

    fn find_bytes(&self, separator: &[u8], from: usize) -> Option<usize> {
        let finder = memmem::Finder::new(separator);
        let overlap = separator.len().saturating_sub(1);
        // The last bytes before the present slice, at most `overlap`.
        let mut before: Vec<u8> = Vec::new();
        let mut window: Vec<u8> = Vec::new();
        let mut start = 0;
        for slice in self.slices() {
            let skip = from.saturating_sub(start);
            let end = start + slice.len();
            if skip < slice.len() {
                let slice = &slice[skip..];
                let start = start + skip;
                if !before.is_empty() {
                    window.clear();
                    window.extend_from_slice(&before);
                    window.extend_from_slice(&slice[..overlap.min(slice.len())]);
                    if let Some(index) = finder.find(&window) {
                        return Some(start - before.len() + index);
                    }
                }
                if let Some(index) = finder.find(slice) {
                    return Some(start + index);
                }
                if end < self.len_bytes {
                    before.extend_from_slice(&slice[slice.len().saturating_sub(overlap)..]);
                    before.drain(..before.len().saturating_sub(overlap));
                }
            }
            start = end;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contents(buffer: &ReadBuffer<Vec<u8>>) -> Vec<u8> {
        buffer.slices().flat_map(<[u8]>::to_vec).collect()
    }

    /// What `find` promises, in the plainest way.
    fn first_end(bytes: &[u8], separators: &[&[u8]], from: usize) -> Option<Found> {
        (from..=bytes.len())
            .flat_map(|end| separators.iter().map(move |separator| (end, separator)))
            .find(|(end, separator)| {
                end.checked_sub(separator.len()).is_some_and(|start| start >= from)
                    && bytes[..*end].ends_with(separator)
            })
            .map(|(end, separator)| Found { start: end - separator.len(), end })
    }

    #[test]
    fn a_whole_piece_is_handed_on() {
        let mut buffer = ReadBuffer::default();
        let piece = vec![7u8; 1000];
        let address = piece.as_ptr();
        buffer.push(piece);
        buffer.push(vec![8u8; 1000]);
        assert!(buffer.take_piece(999).is_none());
        let whole = buffer.take_piece(1000).expect("nothing was read of it");
        assert_eq!(whole.as_ptr(), address);
        buffer.advance(1);
        assert!(buffer.take_piece(999).is_none());
        assert_eq!(buffer.len_bytes(), 999);
    }

    #[test]
    fn single_bytes_are_gathered() {
        let mut buffer = ReadBuffer::default();
        for _ in 0..100_000 {
            buffer.push(vec![1u8]);
        }
        assert_eq!(buffer.len_bytes(), 100_000);
        assert!(buffer.slices().count() < 10);
    }

    #[test]
    fn a_separator_across_many_pieces_is_found() {
        let mut buffer = ReadBuffer::default();
        buffer.push(vec![b'-'; SMALL_PIECE_BYTES]);
        buffer.pieces.push_back(Piece::Shared(b"-A".to_vec()));
        for byte in b"BCDEF-" {
            buffer.pieces.push_back(Piece::Shared(vec![*byte]));
        }
        buffer.len_bytes += 8;
        let start = SMALL_PIECE_BYTES + 1;
        assert_eq!(buffer.find(&[b"ABCDEF"], 0), Some(Found { start, end: start + 6 }));
        assert_eq!(buffer.find(&[b"ABCDEF"], start), Some(Found { start, end: start + 6 }));
        assert_eq!(buffer.find(&[b"ABCDEF"], start + 1), None);
    }

    proptest! {
        #[test]
        fn behaves_like_one_string(
            steps in proptest::collection::vec(
                (0..5u8, proptest::collection::vec(0..3u8, 0..6), any::<usize>()),
                0..60,
            ),
            separators in proptest::collection::vec(
                proptest::collection::vec(0..3u8, 1..5), 1..3,
            ),
        ) {
            let mut buffer: ReadBuffer<Vec<u8>> = ReadBuffer::default();
            let mut model: Vec<u8> = Vec::new();
            let mut separators: Vec<&[u8]> = separators.iter().map(Vec::as_slice).collect();
            separators.sort_by_key(|separator| separator.len());
            for (kind, bytes, number) in steps {
                match kind {
                    0 => {
                        model.extend(&bytes);
                        buffer.push(bytes);
                    }
                    1 if !bytes.is_empty() => {
                        model.extend(&bytes);
                        buffer.len_bytes += bytes.len();
                        buffer.pieces.push_back(Piece::Shared(bytes));
                    }
                    2 => {
                        model.extend(&bytes);
                        buffer.gather(&bytes);
                    }
                    3 => {
                        let count = number % (model.len() + 1);
                        let mut target = vec![0; count];
                        prop_assert_eq!(buffer.copy_to(&mut target), count);
                        prop_assert_eq!(&target, &model[..count]);
                        if let Some(front) = buffer.front(count) {
                            prop_assert_eq!(front, &model[..count]);
                        }
                        buffer.advance(count);
                        model.drain(..count);
                    }
                    _ => {
                        if let Some(piece) = buffer.take_piece(number % 6) {
                            prop_assert_eq!(&piece, &model[..piece.len()]);
                            model.drain(..piece.len());
                        }
                    }
                }
                prop_assert_eq!(buffer.len_bytes(), model.len());
                prop_assert_eq!(contents(&buffer), model.clone());
                let line = model.iter().position(|byte| *byte == 2).map(|last| &model[..=last]);
                match buffer.front_through(2) {
                    Some(found) => prop_assert_eq!(Some(found), line),
                    None => prop_assert!(line.is_none_or(|line| buffer.front(line.len()).is_none())),
                }
                let from = number % (model.len() + 2);
                prop_assert_eq!(
                    buffer.find(&separators, from),
                    first_end(&model, &separators, from)
                );
            }
        }
    }
}
