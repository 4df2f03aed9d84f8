//! What a connection sends and what it must get back.
//!
//! An echo message is a pseudo-random stream that depends on the connection and on the position,
//! with the connection's number and the request's number written over its first 8 bytes. So a
//! reply that was lost, doubled, cut, shifted, or meant for another connection or request differs
//! from the expected bytes (messages under 8 bytes carry only a part of this). An HTTP request
//! carries the same two numbers in its path, and the reply's body must be exactly that path.

use std::io::Write;
use std::ops::Range;

use crate::args::Mode;

const HEAD_END: &[u8] = b"\r\n\r\n";
/// Where the path stands in an HTTP request.
const PATH: Range<usize> = 4..22;
/// A reply's head that is longer than this is an error: no server here sends one.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What the bytes of a reply have come to so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    Partial,
    Complete,
}

pub struct Request {
    mode: Mode,
    connection: u32,
    number: u32,
    /// The bytes to send.
    message: Vec<u8>,
    /// Echo: bytes of the reply that have been compared.
    compared: usize,
    /// HTTP: the reply so far.
    reply: Vec<u8>,
}

impl Request {
    /// Makes request number 0 of a connection; `size` is the length of an echo message.
    pub fn new(mode: Mode, connection: u32, size: usize) -> Request {
        let mut message = Vec::new();
        if mode == Mode::Echo {
            message.reserve_exact(size + 8);
            let mut position = 0u64;
            while message.len() < size {
                let word = mix((u64::from(connection) << 32) ^ position);
                message.extend_from_slice(&word.to_le_bytes());
                position += 1;
            }
            message.truncate(size);
        }
        let mut request =
            Request { mode, connection, number: 0, message, compared: 0, reply: Vec::new() };
        request.write_numbers();
        request
    }

    /// Turns this into the connection's next request.
    pub fn advance(&mut self) {
        self.number = self.number.wrapping_add(1);
        self.compared = 0;
        self.reply.clear();
        self.write_numbers();
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Compares the next `bytes` of the reply, of which `sent` bytes of request had been sent.
    ///
    /// # Errors
    /// Says what is wrong with the reply.
    pub fn check(&mut self, bytes: &[u8], sent: usize) -> Result<Progress, String> {
        match self.mode {
            Mode::Echo => self.check_echo(bytes, sent),
            Mode::Http => self.check_http(bytes),
        }
    }

    fn check_echo(&mut self, bytes: &[u8], sent: usize) -> Result<Progress, String> {
        let end = self.compared + bytes.len();
        if end > sent {
            return Err(format!("{end} bytes came back when {sent} had been sent"));
        }
        let expected = &self.message[self.compared..end];
        if expected != bytes {
            let first = expected.iter().zip(bytes).position(|(a, b)| a != b).unwrap_or(0);
            return Err(format!(
                "connection {}, request {}: wrong byte at offset {}",
                self.connection,
                self.number,
                self.compared + first
            ));
        }
        self.compared = end;
        Ok(if end == self.message.len() { Progress::Complete } else { Progress::Partial })
    }

    fn check_http(&mut self, bytes: &[u8]) -> Result<Progress, String> {
        self.reply.extend_from_slice(bytes);
        let Some(head_end) = self.reply.windows(HEAD_END.len()).position(|w| w == HEAD_END) else {
            if self.reply.len() > HEAD_BYTES_MAX {
                return Err("the reply's head does not end".to_string());
            }
            return Ok(Progress::Partial);
        };
        let head = std::str::from_utf8(&self.reply[..head_end])
            .map_err(|_| "the reply's head is not text".to_string())?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 200") {
            return Err(format!("status {status:?}"));
        }
        let length: usize = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse().ok())
            .ok_or("the reply has no usable Content-Length")?;
        let body = &self.reply[head_end + HEAD_END.len()..];
        if body.len() < length {
            return Ok(Progress::Partial);
        }
        if body.len() > length {
            return Err("bytes after the reply's body".to_string());
        }
        if body != &self.message[PATH] {
            return Err(format!(
                "connection {}, request {}: the body is not the request's path",
                self.connection, self.number
            ));
        }
        Ok(Progress::Complete)
    }

    fn write_numbers(&mut self) {
        match self.mode {
            Mode::Echo => {
                let mut head = [0; 8];
                head[..4].copy_from_slice(&self.number.to_le_bytes());
                head[4..].copy_from_slice(&self.connection.to_le_bytes());
                let length = self.message.len().min(8);
                self.message[..length].copy_from_slice(&head[..length]);
            }
            Mode::Http => {
                self.message.clear();
                write!(
                    self.message,
                    "GET /{:08x}/{:08x} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
                    self.connection, self.number
                )
                .expect("writing to a Vec does not fail");
            }
        }
    }
}

/// One step of a 64-bit mixing function: neighbouring inputs give unrelated outputs.
fn mix(input: u64) -> u64 {
    let mut word = input.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_may_come_in_pieces() {
        let mut request = Request::new(Mode::Echo, 3, 1000);
        let message = request.message().to_vec();
        assert_eq!(request.check(&message[..1], 1000), Ok(Progress::Partial));
        assert_eq!(request.check(&message[1..999], 1000), Ok(Progress::Partial));
        assert_eq!(request.check(&message[999..], 1000), Ok(Progress::Complete));
    }

    #[test]
    fn every_wrong_byte_is_seen() {
        for offset in 0..100 {
            let mut request = Request::new(Mode::Echo, 3, 100);
            let mut reply = request.message().to_vec();
            reply[offset] ^= 1;
            let problem = request.check(&reply, 100).unwrap_err();
            assert!(problem.ends_with(&format!("offset {offset}")), "{problem}");
        }
    }

    #[test]
    fn other_connections_requests_and_positions_differ() {
        let mut request = Request::new(Mode::Echo, 1, 64);
        let first = request.message().to_vec();
        assert!(request.check(Request::new(Mode::Echo, 2, 64).message(), 64).is_err());
        assert!(Request::new(Mode::Echo, 1, 64).check(&first[1..], 64).is_err());
        request.advance();
        assert!(request.check(&first, 64).is_err());
        assert_ne!(first[16..24], first[24..32]);
    }

    #[test]
    fn bytes_before_they_were_sent_are_an_error() {
        let mut request = Request::new(Mode::Echo, 1, 64);
        let message = request.message().to_vec();
        assert!(request.check(&message[..20], 10).is_err());
    }

    #[test]
    fn http_replies() {
        let reply = |head: &str, body: &str| format!("{head}\r\n\r\n{body}").into_bytes();
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 18";
        let new = || Request::new(Mode::Http, 1, 0);
        let right = reply(ok, "/00000001/00000000");
        assert_eq!(new().check(&right, 0), Ok(Progress::Complete));
        let mut request = new();
        for (at, byte) in right.iter().enumerate() {
            let want = if at + 1 == right.len() { Progress::Complete } else { Progress::Partial };
            assert_eq!(request.check(&[*byte], 0), Ok(want));
        }
        assert!(new().check(&reply(ok, "/00000002/00000000"), 0).is_err());
        assert!(new().check(&reply(ok, "/00000001/00000000x"), 0).is_err());
        assert!(new().check(&reply("HTTP/1.1 500 no\r\nContent-Length: 0", ""), 0).is_err());
        assert!(new().check(&reply("HTTP/1.1 200 OK", ""), 0).is_err());
        let mut second = new();
        second.advance();
        assert!(second.check(&right, 0).is_err());
    }
}
