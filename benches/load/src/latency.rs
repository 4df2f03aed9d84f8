//! Exact percentiles: every latency is kept (4 bytes each) and sorted once at the end.

use std::time::Duration;

#[derive(Default)]
pub struct Latencies {
    ns: Vec<u32>,
}

impl Latencies {
    pub fn new() -> Latencies {
        Latencies { ns: Vec::with_capacity(1 << 20) }
    }

    /// Keeps one latency; above 4.29 s it counts as 4.29 s.
    pub fn record(&mut self, latency: Duration) {
        self.ns.push(u32::try_from(latency.as_nanos()).unwrap_or(u32::MAX));
    }

    pub fn len(&self) -> usize {
        self.ns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ns.is_empty()
    }

    /// The smallest latency, in µs, that at least `percent` of the replies did not exceed; 0 if
    /// there is none.
    pub fn percentiles_us<const N: usize>(&mut self, percents: [f64; N]) -> [f64; N] {
        self.ns.sort_unstable();
        percents.map(|percent| {
            let rank = (percent / 100.0 * self.ns.len() as f64).ceil() as usize;
            self.ns.get(rank.max(1) - 1).map_or(0.0, |&ns| f64::from(ns) / 1000.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut latencies = Latencies::new();
        for us in (1..=100).rev() {
            latencies.record(Duration::from_micros(us));
        }
        assert_eq!(latencies.percentiles_us([50.0, 99.0, 100.0]), [50.0, 99.0, 100.0]);
    }

    #[test]
    fn none_gives_zero_and_the_longest_saturate() {
        assert_eq!(Latencies::new().percentiles_us([50.0]), [0.0]);
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(60));
        assert_eq!(latencies.percentiles_us([50.0]), [f64::from(u32::MAX) / 1000.0]);
    }
}
