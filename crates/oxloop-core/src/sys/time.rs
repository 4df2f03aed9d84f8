//! Clocks.

/// CLOCK_MONOTONIC in nanoseconds.
#[inline]
#[allow(clippy::unnecessary_cast)] // The fields are narrower on some architectures.
pub fn monotonic_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is valid for writes; CLOCK_MONOTONIC always exists, so the call cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as i64 * 1_000_000_000 + now.tv_nsec as i64
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_does_not_go_back() {
        let first = super::monotonic_ns();
        assert!(super::monotonic_ns() >= first && first > 0);
    }
}
