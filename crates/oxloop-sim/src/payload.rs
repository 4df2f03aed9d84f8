//! Bytes that say where they belong: connection, side and offset.
//!
//! Every eight bytes are a word that names its connection, its side and its place, with a check. A
//! receiver compares each byte with the one that must stand there; if another does, the words around
//! it say whose it is: lost bytes show as a later place, doubled ones as an earlier, stray ones as
//! another connection.

const WORD_BYTES: usize = 8;

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The number of the connection.
    pub connection: u16,
    /// 0 for the client, 1 for the server.
    pub side: u8,
}

fn word(origin: Origin, place: u32) -> [u8; WORD_BYTES] {
    let [connection_low, connection_high] = origin.connection.to_le_bytes();
    let [a, b, c, d] = place.to_le_bytes();
    let side = origin.side;
    let body = [connection_low, connection_high, side, a, b, c, d];
    let check = body.iter().fold(0x5au8, |check, byte| check.rotate_left(3) ^ byte);
    [check, d, a, side, connection_low, b, connection_high, c]
}

/// The origin and offset that eight bytes name, if their check holds.
pub fn decode(bytes: [u8; WORD_BYTES]) -> Option<(Origin, usize)> {
    let [_, d, a, side, connection_low, b, connection_high, c] = bytes;
    let connection = u16::from_le_bytes([connection_low, connection_high]);
    let origin = Origin { connection, side };
    let place = u32::from_le_bytes([a, b, c, d]);
    (side < 2 && word(origin, place) == bytes).then_some((origin, place as usize * WORD_BYTES))
}

/// The bytes of a sender from an offset on.
pub fn make(origin: Origin, offset: usize, len_bytes: usize) -> Vec<u8> {
    let first = offset / WORD_BYTES;
    let last = (offset + len_bytes).div_ceil(WORD_BYTES);
    let mut bytes = Vec::with_capacity((last - first) * WORD_BYTES);
    for place in first..last {
        bytes.extend(word(origin, place as u32));
    }
    bytes.drain(..offset % WORD_BYTES);
    bytes.truncate(len_bytes);
    bytes
}

/// Whether these are the bytes of `origin` from `offset` on; if not, what they are.
///
/// # Errors
/// A sentence that names the first byte that is wrong and whose it is.
pub fn check(origin: Origin, offset: usize, bytes: &[u8]) -> Result<(), String> {
    let expected = make(origin, offset, bytes.len());
    let Some(wrong) = (0..bytes.len()).find(|&place| bytes[place] != expected[place]) else {
        return Ok(());
    };
    let nearby = wrong.saturating_sub(WORD_BYTES - 1)..bytes.len();
    let found =
        bytes[nearby.clone()].windows(WORD_BYTES).zip(nearby).find_map(|(window, start)| {
            let (found, word_offset) = decode(window.try_into().ok()?)?;
            let whose = (found, word_offset + wrong.saturating_sub(start));
            (start + WORD_BYTES > wrong && whose != (origin, offset + wrong)).then_some(whose)
        });
    let is = match found {
        Some((found, found_offset)) if found == origin => {
            format!("that of offset {found_offset}")
        }
        Some((found, found_offset)) => {
            let (connection, side) = (found.connection, found.side);
            format!("offset {found_offset} of connection {connection} side {side}")
        }
        None => "nobody's".to_owned(),
    };
    Err(format!(
        "connection {} from side {}: the byte at offset {} is {is}",
        origin.connection,
        origin.side,
        offset + wrong
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin { connection: 300, side: 1 };

    #[test]
    fn pieces_make_the_whole() {
        let whole = make(ORIGIN, 0, 1_000);
        let mut offset = 0;
        for len_bytes in [1, 7, 8, 9, 0, 64, 911] {
            let piece = make(ORIGIN, offset, len_bytes);
            assert_eq!(piece, whole[offset..offset + len_bytes]);
            check(ORIGIN, offset, &piece).unwrap();
            offset += len_bytes;
        }
        assert_eq!(offset, 1_000);
    }

    #[test]
    fn wrong_bytes_are_named() {
        let later = check(ORIGIN, 16, &make(ORIGIN, 40, 32)).unwrap_err();
        assert!(later.ends_with("the byte at offset 16 is that of offset 40"), "{later}");
        let other = Origin { connection: 7, side: 0 };
        let stray = check(ORIGIN, 16, &make(other, 800, 32)).unwrap_err();
        assert!(stray.ends_with("is offset 800 of connection 7 side 0"), "{stray}");
        let noise = check(ORIGIN, 16, &[0xee; 24]).unwrap_err();
        assert!(noise.ends_with("is nobody's"), "{noise}");
    }
}
