//! Points in time, as whole nanoseconds of CLOCK_MONOTONIC.
//!
//! asyncio's times are floating-point seconds. A timer must never run early as its user sees it,
//! that is: when it runs, `loop.time() >= when` must hold in floating point. So seconds are rounded
//! up, and further up until the way back to seconds is not below the start. 2^63 ns are 292 years;
//! beyond that times saturate, and NaN, which compares with nothing, means never.

use crate::sys;

/// A point in time in nanoseconds of the loop's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Deadline(pub i64);

const NS_PER_SEC: f64 = 1e9;

impl Deadline {
    /// Later than any time that comes.
    pub const NEVER: Deadline = Deadline(i64::MAX);

    /// The earliest deadline with `deadline.as_secs() >= secs`; saturates, NaN gives `NEVER`.
    pub fn from_secs(secs: f64) -> Deadline {
        if secs.is_nan() {
            return Deadline::NEVER;
        }
        let mut ns = (secs * NS_PER_SEC).ceil() as i64;
        let mut step_ns = 1i64;
        while ns != i64::MAX && Deadline(ns).as_secs() < secs {
            ns = ns.saturating_add(step_ns);
            step_ns = step_ns.saturating_mul(2);
        }
        Deadline(ns)
    }

    /// The nearest number of seconds.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / NS_PER_SEC
    }

    /// Nanoseconds from `earlier` to `self`; 0 if `self` is not later.
    pub fn ns_since(self, earlier: Deadline) -> u64 {
        if self <= earlier { 0 } else { self.0.wrapping_sub(earlier.0) as u64 }
    }
}

/// Now, by CLOCK_MONOTONIC.
#[inline]
pub fn monotonic() -> Deadline {
    Deadline(sys::time::monotonic_ns())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn extremes_saturate_and_nan_never_comes() {
        assert_eq!(Deadline::from_secs(f64::NAN), Deadline::NEVER);
        assert_eq!(Deadline::from_secs(f64::INFINITY), Deadline::NEVER);
        assert_eq!(Deadline::from_secs(1e300), Deadline::NEVER);
        assert_eq!(Deadline::from_secs(f64::NEG_INFINITY), Deadline(i64::MIN));
        assert_eq!(Deadline::from_secs(0.0), Deadline(0));
        assert_eq!(Deadline::from_secs(1e-12), Deadline(1));
        assert_eq!(Deadline::from_secs(-1e-12), Deadline(0));
        assert_eq!(Deadline::from_secs(1.5), Deadline(1_500_000_000));
    }

    #[test]
    fn ns_since_never_wraps() {
        assert_eq!(Deadline(7).ns_since(Deadline(5)), 2);
        assert_eq!(Deadline(5).ns_since(Deadline(7)), 0);
        assert_eq!(Deadline::NEVER.ns_since(Deadline(i64::MIN)), u64::MAX);
    }

    proptest! {
        #[test]
        fn never_early_in_floating_point(secs in -1e10..1e10f64) {
            let deadline = Deadline::from_secs(secs);
            prop_assert!(deadline == Deadline::NEVER || deadline.as_secs() >= secs);
        }

        #[test]
        fn never_much_late(secs in 0.0..1e6f64) {
            let late_secs = Deadline::from_secs(secs).as_secs() - secs;
            prop_assert!(late_secs < 3e-9, "{}", late_secs);
        }
    }
}
