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

/// A counter that is cheaper to read than any clock: the processor's time stamp where there is one
/// (constant rate on every x86-64 in service, between 1 and 5 GHz), nanoseconds elsewhere.
#[inline]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 has the instruction; it reads a register and changes nothing.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        monotonic_ns() as u64
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn ticks_pass() {
        let first = super::ticks();
        let start_ns = super::monotonic_ns();
        while super::monotonic_ns() < start_ns + 1_000_000 {}
        // A millisecond is at least half a million ticks, whatever they are.
        assert!(super::ticks().wrapping_sub(first) > 500_000);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let first = super::monotonic_ns();
        assert!(super::monotonic_ns() >= first && first > 0);
    }
}
