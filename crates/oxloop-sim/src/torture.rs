//! Torture: every call of a scenario fails once, with each error that it may give.
//!
//! After the idea of curl's tests of that name. A scenario is a small program without faults. It is
//! run once to count its calls; then again for each call and each plausible error, and with pairs of
//! them that chance chooses. Whatever fails, nothing may be leaked, lost, doubled or left hanging, and nothing may panic.

use oxloop_core::ReadMode;
use oxloop_core::driver::sim::{Call, Faults, Link, Random};

use crate::program::{Ending, Plan, Program, Shape, Side};
use crate::run::{Report, run};

/// A scenario: its name, and what it changes in the plain program.
pub struct Scenario {
    /// The name on command lines.
    pub name: &'static str,
    change: fn(&mut Program),
}

const LINK: Link = Link {
    latency_ns: 100_000,
    bytes_per_s: 0,
    send_buffer_bytes: 4_096,
    receive_buffer_bytes: 4_096,
    segment_bytes: 1_448,
};

fn plain_side() -> Side {
    Side {
        send_bytes: 600,
        write_bytes_max: 300,
        chunked: 0,
        write_pause_ns: 0,
        ignores_flow: false,
        read_mode: ReadMode::Recv,
        pauses: 0,
        pause_ns: 1_000_000,
        high_water_bytes: 2_048,
        outlives_eof: true,
        ending: Ending::HalfClose,
    }
}

fn plain_plan() -> Plan {
    Plan { starts_ns: 0, listener: 0, sides: [plain_side(), plain_side()] }
}

/// One connection that sends a little each way and half-closes.
fn plain() -> Program {
    Program {
        seed: 1,
        shape: Shape::Readiness,
        faults: Faults::none(),
        link: LINK,
        numbers_max: 1 << 10,
        call_ns_max: 0,
        buffer_bytes: 4_096,
        listeners: 1,
        plans: vec![plain_plan()],
        timers: 0,
        injected: 0,
        datagrams: 0,
        watched: 0,
        breaks: 0,
        changes: 0,
        faulty_ns: 1_000_000_000,
    }
}

fn each_side(program: &mut Program, change: impl Fn(&mut Side)) {
    program.plans.iter_mut().flat_map(|plan| &mut plan.sides).for_each(change);
}

/// More than the buffers hold, both ways.
fn much(program: &mut Program) {
    each_side(program, |side| {
        side.send_bytes = 12_000;
        side.write_bytes_max = 4_000;
    });
}

fn crowd(program: &mut Program, connections: u64) {
    program.plans = (0..connections)
        .map(|number| Plan { starts_ns: number as i64 * 10_000, ..plain_plan() })
        .collect();
}

macro_rules! scenarios {
    ($($name:ident: |$program:ident| $change:expr;)*) => {
        /// All scenarios.
        pub const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            change: |$program: &mut Program| $change,
        }),*];
    };
}

scenarios! {
    plain: |_program| ();
    nothing_is_sent: |program| each_side(program, |side| side.send_bytes = 0);
    one_byte_each: |program| each_side(program, |side| side.send_bytes = 1);
    only_the_client_sends: |program| program.plans[0].sides[1].send_bytes = 0;
    only_the_server_sends: |program| program.plans[0].sides[0].send_bytes = 0;
    more_than_the_buffers_hold: |program| much(program);
    many_small_writes: |program| each_side(program, |side| side.write_bytes_max = 30);
    chunks: |program| each_side(program, |side| side.chunked = 10_000);
    chunks_above_the_buffers: |program| {
        much(program);
        each_side(program, |side| side.chunked = 10_000);
    };
    both_close: |program| each_side(program, |side| side.ending = Ending::Close);
    both_close_with_much_queued: |program| {
        much(program);
        each_side(program, |side| side.ending = Ending::Close);
    };
    the_client_closes: |program| program.plans[0].sides[0].ending = Ending::Close;
    the_server_closes: |program| program.plans[0].sides[1].ending = Ending::Close;
    the_client_aborts: |program| {
        much(program);
        program.plans[0].sides[0].ending = Ending::AbortAt(6_000);
    };
    the_server_aborts: |program| {
        much(program);
        program.plans[0].sides[1].ending = Ending::AbortAt(6_000);
    };
    both_abort: |program| {
        much(program);
        each_side(program, |side| side.ending = Ending::AbortAt(5_000));
    };
    an_abort_at_once: |program| program.plans[0].sides[0].ending = Ending::AbortAt(0);
    the_owner_receives: |program| each_side(program, |side| side.read_mode = ReadMode::Poll);
    the_owner_receives_much: |program| {
        much(program);
        each_side(program, |side| side.read_mode = ReadMode::Poll);
    };
    a_reader_that_pauses: |program| program.plans[0].sides[1].pauses = 10_000;
    readers_that_pause_over_much: |program| {
        much(program);
        each_side(program, |side| side.pauses = 5_000);
    };
    a_writer_that_ignores_pauses: |program| {
        much(program);
        each_side(program, |side| side.ignores_flow = true);
    };
    no_high_water: |program| {
        much(program);
        each_side(program, |side| side.high_water_bytes = 0);
    };
    the_end_is_answered_by_a_close: |program| {
        much(program);
        each_side(program, |side| side.outlives_eof = false);
    };
    slow_writers: |program| each_side(program, |side| {
        side.write_bytes_max = 100;
        side.write_pause_ns = 500_000;
    });
    a_crowd: |program| crowd(program, 4);
    two_listeners: |program| {
        program.listeners = 2;
        crowd(program, 2);
        program.plans[1].listener = 1;
    };
    few_descriptors: |program| {
        crowd(program, 3);
        program.numbers_max = 6;
    };
    a_small_read_buffer: |program| program.buffer_bytes = 64;
    within_one_machine: |program| {
        much(program);
        program.link = Link::LOCAL;
    };
    a_slow_link: |program| {
        much(program);
        program.link.bytes_per_s = 1_000_000;
    };
    tiny_segments: |program| program.link.segment_bytes = 50;
    tiny_buffers: |program| {
        program.link.send_buffer_bytes = 100;
        program.link.receive_buffer_bytes = 100;
    };
    timers: |program| program.timers = 20;
    other_threads: |program| program.injected = 6;
    datagrams: |program| program.datagrams = 6;
    only_datagrams: |program| {
        program.plans.clear();
        program.datagrams = 8;
    };
    iterations_broken_off: |program| program.breaks = 3_000;
    watched_descriptors: |program| {
        program.plans.clear();
        program.watched = 3;
    };
    limits_and_readers_change: |program| {
        much(program);
        program.changes = 5_000;
    };
    everything_at_once: |program| {
        crowd(program, 3);
        program.plans[1].sides[0].ending = Ending::AbortAt(300);
        program.plans[2].sides[1].read_mode = ReadMode::Poll;
        program.timers = 6;
        program.injected = 3;
        program.datagrams = 3;
        program.breaks = 1_000;
    };
}

impl Scenario {
    fn program(&self, shape: Shape) -> Program {
        let mut program = plain();
        program.shape = shape;
        (self.change)(&mut program);
        program
    }
}

/// What came of torture.
#[derive(Default, Debug)]
pub struct Outcome {
    /// Scenarios, each counted once a driver.
    pub scenarios: usize,
    /// Calls that were made to fail, over all scenarios.
    pub calls: usize,
    /// Runs, each with one failing call.
    pub runs: usize,
    /// Runs with two failing calls, chosen by chance.
    pub pairs: usize,
    /// What failed.
    pub failures: Vec<Failure>,
}

/// A run that broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The scenario.
    pub scenario: &'static str,
    /// The driver.
    pub shape: Shape,
    /// The numbers of the calls that failed, and with what.
    pub failing: Vec<(u64, i32)>,
    /// What was wrong.
    pub report: Report,
}

/// Tortures the scenarios whose name contains `wanted`; then `pairs` times each with two failing
/// calls that chance chooses.
pub fn torture(wanted: &str, pairs: usize) -> Outcome {
    let mut outcome = Outcome::default();
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.contains(wanted)) {
        for shape in [Shape::Readiness, Shape::Completion] {
            let calls = outcome.run(scenario, shape, Vec::new());
            outcome.scenarios += 1;
            outcome.calls += calls.len();
            let mut choices = Vec::new();
            for (number, call) in calls.iter().enumerate() {
                choices.extend(call.plausible_errors().iter().map(|code| (number as u64, *code)));
            }
            for &failing in &choices {
                outcome.run(scenario, shape, vec![failing]);
            }
            outcome.runs += choices.len();
            let mut random = Random::new(1);
            for _ in 0..pairs {
                let pair = [(); 2].map(|()| random.pick(&choices).copied());
                outcome.run(scenario, shape, pair.into_iter().flatten().collect());
            }
            outcome.pairs += pairs;
        }
    }
    outcome
}

impl Outcome {
    fn run(&mut self, scenario: &Scenario, shape: Shape, failing: Vec<(u64, i32)>) -> Vec<Call> {
        let (report, calls) = run(scenario.program(shape), &failing);
        if !report.violations.is_empty() {
            self.failures.push(Failure { scenario: scenario.name, shape, failing, report });
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_call_does_fail() {
        let (report, calls) = run(plain(), &[]);
        assert_eq!((report.violations, report.connections), (Vec::new(), 1));
        assert_eq!(report.received_bytes, 1_200);
        let first_send = calls.iter().position(|call| call.plausible_errors().contains(&32));
        let first_send = first_send.expect("a send may say EPIPE") as u64;
        let (report, _) = run(plain(), &[(first_send, 32)]);
        assert_eq!(report.violations, Vec::<String>::new());
        assert!(report.received_bytes < 1_200, "its connection is lost");
    }

    #[test]
    fn scenarios_are_many_and_have_names_of_their_own() {
        let mut names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert!(names.len() == SCENARIOS.len() && names.len() >= 30);
    }
}
