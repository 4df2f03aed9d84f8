//! Makes a failing run smaller: faults are switched off and counts halved as long as it still fails.

use oxloop_core::driver::sim::Fault;

use crate::program::{Program, Reduction};
use crate::run::{Report, run_seed};

/// The largest reduction found under which the seed still fails, and its report. The last argument
/// bounds the number of runs.
pub fn shrink(seed: u64, from: &Reduction, mut runs_left: usize) -> (Reduction, Report) {
    let mut best = from.clone();
    let mut report = run_seed(seed, &best);
    let mut has_changed = true;
    while has_changed && runs_left > 0 {
        has_changed = false;
        for candidate in candidates(seed, &best) {
            if runs_left == 0 {
                break;
            }
            runs_left -= 1;
            let tried = run_seed(seed, &candidate);
            if !tried.violations.is_empty() {
                (best, report) = (candidate, tried);
                has_changed = true;
                break;
            }
        }
    }
    (best, report)
}

/// What may be taken away next.
fn candidates(seed: u64, from: &Reduction) -> Vec<Reduction> {
    let program = Program::drawn(seed, from);
    let active: Vec<Fault> = program.faults.active().collect();
    let without = active.iter().map(|fault| {
        let mut candidate = from.clone();
        candidate.off.push(*fault);
        candidate
    });
    let mut candidates: Vec<Reduction> = Vec::new();
    let counts = program.counts();
    for (which, count) in counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let mut least = usize::MAX;
        for most in [0, count / 2, count - 1] {
            if most != least {
                let mut candidate = from.clone();
                *match which {
                    0 => &mut candidate.connections_max,
                    1 => &mut candidate.bytes_max,
                    2 => &mut candidate.timers_max,
                    3 => &mut candidate.injected_max,
                    4 => &mut candidate.datagrams_max,
                    _ => &mut candidate.watched_max,
                } = most;
                candidates.push(candidate);
            }
            least = most;
        }
    }
    without.chain(candidates).collect()
}
