//! What a simulated run does. Everything follows from the seed, less what a reduction takes away.
//!
//! A program opens connections between simulated hosts and sends bytes both ways in every manner
//! that streams know; beside that it sets and cancels timers, exchanges datagrams, and other threads
//! give work to the loop. In the first phase faults strike; then the kernel is calm and everything
//! must come to an end.

use std::fmt;

use oxloop_core::ReadMode;
use oxloop_core::driver::sim::{Fault, Faults, Link, Random};

/// How one side of a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Closes once everything is written.
    Close,
    /// Ends its direction once everything is written, and closes at the peer's end.
    HalfClose,
    /// Aborts when so many bytes were written or received.
    AbortAt(usize),
}

/// What one side of a connection does.
#[derive(Clone, Debug)]
pub struct Side {
    /// Bytes that it sends.
    pub send_bytes: usize,
    /// Bytes of one write.
    pub write_bytes_max: usize,
    /// Times in ten thousand that a write is of several chunks.
    pub chunked: u16,
    /// From one write to the next; 0: in the next iteration.
    pub write_pause_ns: i64,
    /// Writes on although the stream asked to pause.
    pub ignores_flow: bool,
    /// Who receives.
    pub read_mode: ReadMode,
    /// Times in ten thousand that received bytes make it pause reading.
    pub pauses: u16,
    /// For so long.
    pub pause_ns: i64,
    /// High water, in bytes.
    pub high_water_bytes: usize,
    /// Goes on writing after the peer's end.
    pub outlives_eof: bool,
    /// How it ends.
    pub ending: Ending,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When the client connects.
    pub starts_ns: i64,
    /// Which of the listeners.
    pub listener: usize,
    /// Client and server.
    pub sides: [Side; 2],
}

/// Which driver the loop runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// The epoll driver.
    Readiness,
    /// A driver that works asynchronously.
    Completion,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The seed of the kernel and of all choices during the run.
    pub seed: u64,
    /// Which driver.
    pub shape: Shape,
    /// What goes wrong in the first phase.
    pub faults: Faults,
    /// The link between the hosts.
    pub link: Link,
    /// Descriptors at most.
    pub numbers_max: usize,
    /// The most that a call takes.
    pub call_ns_max: u64,
    /// The driver's read buffer.
    pub buffer_bytes: usize,
    /// Listening sockets.
    pub listeners: usize,
    /// The connections.
    pub plans: Vec<Plan>,
    /// Timers that are set, some of them cancelled.
    pub timers: usize,
    /// Items from other threads.
    pub injected: usize,
    /// Datagrams.
    pub datagrams: usize,
    /// Descriptors that are only watched.
    pub watched: usize,
    /// Times in ten thousand that an iteration is broken off after a job, completion or timer.
    pub breaks: u16,
    /// Times in ten thousand that a write changes the limits, or a receive the reader.
    pub changes: u16,
    /// How long the faults last.
    pub faulty_ns: i64,
}

/// What is taken away from a program to make it smaller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reduction {
    /// Faults that are off.
    pub off: Vec<Fault>,
    /// Connections at most.
    pub connections_max: usize,
    /// Bytes of one side at most.
    pub bytes_max: usize,
    /// Timers at most.
    pub timers_max: usize,
    /// Items from other threads at most.
    pub injected_max: usize,
    /// Datagrams at most.
    pub datagrams_max: usize,
    /// Watched descriptors at most.
    pub watched_max: usize,
}

impl Reduction {
    /// Nothing is taken away.
    pub fn none() -> Self {
        Reduction {
            off: Vec::new(),
            connections_max: usize::MAX,
            bytes_max: usize::MAX,
            timers_max: usize::MAX,
            injected_max: usize::MAX,
            datagrams_max: usize::MAX,
            watched_max: usize::MAX,
        }
    }
}

impl fmt::Display for Reduction {
    /// As arguments of a command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.off.is_empty() {
            let names: Vec<_> = self.off.iter().map(|fault| fault.name()).collect();
            write!(f, " --off {}", names.join(","))?;
        }
        let counts = [
            ("connections", self.connections_max),
            ("bytes", self.bytes_max),
            ("timers", self.timers_max),
            ("injected", self.injected_max),
            ("datagrams", self.datagrams_max),
            ("watched", self.watched_max),
        ];
        for (name, most) in counts {
            if most != usize::MAX {
                write!(f, " --{name} {most}")?;
            }
        }
        Ok(())
    }
}

fn draw_side(random: &mut Random) -> Side {
    let send_bytes = random.magnitude(0, 1 << 14) as usize;
    let ending = match random.below(10) {
        0 => Ending::AbortAt(random.magnitude(0, 1 << 14) as usize),
        1..=4 => Ending::HalfClose,
        _ => Ending::Close,
    };
    Side {
        send_bytes,
        write_bytes_max: random.magnitude(1, 8_192).max(send_bytes as u64 / 24) as usize,
        chunked: *random.pick(&[0, 3_000, 10_000]).unwrap_or(&0),
        write_pause_ns: if random.chance(5_000) {
            random.magnitude(1, 20_000_000) as i64
        } else {
            0
        },
        ignores_flow: random.chance(1_000),
        read_mode: if random.chance(3_000) { ReadMode::Poll } else { ReadMode::Recv },
        pauses: if random.chance(3_000) { random.between(500, 8_000) as u16 } else { 0 },
        pause_ns: random.magnitude(1, 50_000_000) as i64,
        high_water_bytes: random.magnitude(0, 16_384) as usize,
        outlives_eof: random.chance(4_000),
        ending,
    }
}

fn draw_link(random: &mut Random) -> Link {
    if random.chance(2_000) {
        return Link::LOCAL;
    }
    Link {
        latency_ns: random.magnitude(1_000, 50_000_000) as i64,
        bytes_per_s: if random.chance(5_000) { random.magnitude(100_000, 1 << 30) } else { 0 },
        send_buffer_bytes: random.magnitude(512, 65_536) as usize,
        receive_buffer_bytes: random.magnitude(512, 65_536) as usize,
        segment_bytes: random.magnitude(500, 16_384) as usize,
    }
}

impl Program {
    /// The program of a seed.
    pub fn drawn(seed: u64, reduction: &Reduction) -> Program {
        let mut random = Random::new(seed ^ 0x6f78_6c6f_6f70);
        let mut faults = Faults::drawn(&mut random);
        if random.chance(1_000) {
            faults = Faults::none();
        }
        let listeners = random.size(1, 2);
        let connections = random.magnitude(1, 12) as usize;
        let spread_ns = random.magnitude(0, 50_000_000);
        let plans = (0..connections).map(|_| Plan {
            starts_ns: random.between(0, spread_ns) as i64,
            listener: random.size(0, listeners - 1),
            sides: [draw_side(&mut random), draw_side(&mut random)],
        });
        let mut plans: Vec<Plan> = plans.collect();
        let numbers_max =
            if random.chance(1_500) { random.size(6, 6 + 2 * connections) } else { 1 << 10 };
        let mut program = Program {
            seed,
            shape: if random.chance(3_000) { Shape::Completion } else { Shape::Readiness },
            faults: faults.clone(),
            link: draw_link(&mut random),
            numbers_max: numbers_max.max(5 + 2 * listeners),
            call_ns_max: random.magnitude(0, 5_000),
            buffer_bytes: random.magnitude(64, 65_536) as usize,
            listeners,
            plans: Vec::new(),
            timers: random.magnitude(0, 60) as usize,
            injected: random.magnitude(0, 24) as usize,
            datagrams: if random.chance(2_500) { random.magnitude(1, 16) as usize } else { 0 },
            watched: if random.chance(3_000) { random.size(1, 3) } else { 0 },
            breaks: if random.chance(2_000) { random.between(50, 2_000) as u16 } else { 0 },
            changes: if random.chance(3_000) { random.between(100, 3_000) as u16 } else { 0 },
            faulty_ns: random.magnitude(1_000_000, 4_000_000_000) as i64,
        };
        reduction.off.iter().for_each(|fault| program.faults.set(*fault, 0));
        plans.truncate(reduction.connections_max);
        for side in plans.iter_mut().flat_map(|plan| &mut plan.sides) {
            side.send_bytes = side.send_bytes.min(reduction.bytes_max);
        }
        program.plans = plans;
        program.timers = program.timers.min(reduction.timers_max);
        program.injected = program.injected.min(reduction.injected_max);
        program.datagrams = program.datagrams.min(reduction.datagrams_max);
        program.watched = program.watched.min(reduction.watched_max);
        program
    }

    /// Connections, bytes of one side, timers, items, datagrams and watched descriptors: what a
    /// reduction may halve.
    pub fn counts(&self) -> [usize; 6] {
        let sides = self.plans.iter().flat_map(|plan| &plan.sides);
        let bytes = sides.map(|side| side.send_bytes).max().unwrap_or(0);
        [self.plans.len(), bytes, self.timers, self.injected, self.datagrams, self.watched]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_program_and_a_reduction_takes_away_only() {
        let whole = Program::drawn(11, &Reduction::none());
        assert_eq!(format!("{whole:?}"), format!("{:?}", Program::drawn(11, &Reduction::none())));
        let off: Vec<Fault> = Fault::ALL.to_vec();
        let reduction = Reduction { off, connections_max: 1, timers_max: 0, ..Reduction::none() };
        let reduced = Program::drawn(11, &reduction);
        assert_eq!(reduced.faults, Faults::none());
        assert_eq!((reduced.plans.len(), reduced.timers), (1, 0));
        assert_eq!((reduced.link, reduced.injected), (whole.link, whole.injected));
    }

    #[test]
    fn a_reduction_is_written_as_arguments() {
        let off = vec![Fault::Reset, Fault::Late];
        let reduction = Reduction { off, bytes_max: 8, ..Reduction::none() };
        assert_eq!(reduction.to_string(), " --off reset,late --bytes 8");
    }
}
