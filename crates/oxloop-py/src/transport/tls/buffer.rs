//! The buffer that all TLS connections of a loop share, one at a time.
//!
//! Plaintext that is not much is decrypted into it before its size is known, and ciphertext is fetched
//! into it on its way to the socket. It is taken out while it is used: whoever comes meanwhile gets
//! another one. No plaintext stays behind.

use std::cell::Cell;

/// More than the plaintext of what one receive can bring.
const BUFFER_BYTES: usize = oxloop_core::limits::READ_BUFFER_BYTES;

/// A place for the buffer.
#[derive(Default)]
pub struct TlsBuffer(Cell<Option<Box<[u8]>>>);

impl TlsBuffer {
    /// The buffer, or a new one. Its contents are zero.
    #[inline]
    pub fn lend(&self) -> Box<[u8]> {
        self.0.take().unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
    }

    /// Takes the buffer back, of which the first `used` bytes were written.
    #[inline]
    pub fn give_back(&self, mut buffer: Box<[u8]>, used: usize) {
        buffer[..used].fill(0);
        self.0.set(Some(buffer));
    }
}
