//! A short search: some seeds, some torture, and that the machinery does what it says.

use oxloop_core::driver::sim::Faults;
use oxloop_sim::program::{Program, Reduction};
use oxloop_sim::run::{run, run_seed};
use oxloop_sim::shrink::shrink;
use oxloop_sim::torture::torture;

#[test]
fn three_hundred_seeds_break_no_promise() {
    let reports: Vec<_> = (0..300).map(|seed| run_seed(seed, &Reduction::none())).collect();
    for (seed, report) in reports.iter().enumerate() {
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
    }
    // Most connections come about, or nothing would have been searched.
    assert!(reports.iter().map(|report| report.connections).sum::<usize>() > 300);
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    let report = run_seed(7, &Reduction::none());
    assert_eq!(report, run_seed(7, &Reduction::none()));
    assert_ne!(report.trace, run_seed(8, &Reduction::none()).trace);
}

#[test]
fn without_faults_every_byte_arrives() {
    let mut checked = 0;
    for seed in 0..200 {
        let mut program = Program::drawn(seed, &Reduction::none());
        program.faults = Faults::none();
        program.numbers_max = 1 << 10;
        let connections = program.plans.len();
        let (report, _) = run(program, &[]);
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        assert_eq!(report.connections, connections, "seed {seed}");
        checked += report.received_bytes;
    }
    assert!(checked > 100_000, "{checked} bytes");
}

#[test]
fn a_scenario_survives_every_failing_call() {
    let outcome = torture("everything_at_once", 20);
    assert!(outcome.runs > 500, "{} runs", outcome.runs);
    assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
}

#[test]
fn shrinking_a_run_that_does_not_fail_takes_nothing_away() {
    let (reduction, report) = shrink(3, &Reduction::none(), 2);
    assert_eq!((reduction, report.violations), (Reduction::none(), Vec::new()));
}
