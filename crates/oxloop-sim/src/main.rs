//! The command line: run seeds, one or many.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use oxloop_core::driver::sim::Fault;
use oxloop_sim::program::Reduction;
use oxloop_sim::run::{Report, run_seed};
use oxloop_sim::shrink::shrink;
use oxloop_sim::torture::torture;

const USAGE: &str = "\
Searches oxloop-core for bugs.

    oxloop-sim run [--seeds N] [--first N] [--threads N] [--twice N] [--json FILE]
        runs N seeds from the first on, and the first `twice` again, for equal traces
    oxloop-sim replay --seed N [--off FAULT,...] [--connections N] [--bytes N]
                      [--timers N] [--injected N] [--datagrams N] [--watched N]
        runs one seed, less what is taken away, and says what was wrong

    oxloop-sim hunt [--seeds N] [--first N]
        runs seeds until one fails, and says which
    oxloop-sim torture [--scenario NAME] [--pairs N] [--json FILE]
        lets every call of the scenarios fail once, with each error that it may give; then N times
        each two calls that chance chooses
    oxloop-sim mutants
        lists the planted bugs, in a build with --cfg oxloop_mutants

--json writes totals: of seeds in hundreds, of torture in scenarios, each on both drivers.
The exit status is 1 when anything was wrong.";

/// Failing seeds that are shrunk and told; the rest are counted.
const FAILURES_TOLD_MAX: usize = 5;
const SHRINK_RUNS_MAX: usize = 400;

/// Seeds that count as one test in the totals.
const SEEDS_PER_TEST: u64 = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((command, rest)) if command == "run" => parse(rest).and_then(|options| run(&options)),
        Some((command, rest)) if command == "replay" => {
            parse(rest).and_then(|options| replay(&options))
        }
        Some((command, rest)) if command == "torture" => {
            parse(rest).and_then(|options| all_torture(&options))
        }
        Some((command, rest)) if command == "hunt" => parse(rest).map(|options| hunt(&options)),
        Some((command, _)) if command == "mutants" => Ok(list_mutants()),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
    }
}

struct Options {
    seed: u64,
    first: u64,
    seeds: u64,
    twice: u64,
    threads: usize,
    reduction: Reduction,
    scenario: String,
    json: Option<String>,
    pairs: usize,
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    let mut options = Options {
        seed: 0,
        first: 0,
        seeds: 1_000,
        twice: 0,
        threads,
        reduction: Reduction::none(),
        scenario: String::new(),
        json: None,
        pairs: 0,
    };
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| format!("{name} needs a value\n\n{USAGE}"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name}: {value} is no number"));
        let reduction = &mut options.reduction;
        match name.as_str() {
            "--json" => options.json = Some(value.clone()),
            "--scenario" => options.scenario.clone_from(value),
            "--pairs" => options.pairs = number()? as usize,
            "--seed" => options.seed = number()?,
            "--first" => options.first = number()?,
            "--seeds" => options.seeds = number()?,
            "--twice" => options.twice = number()?,
            "--threads" => options.threads = number()?.max(1) as usize,
            "--connections" => reduction.connections_max = number()? as usize,
            "--bytes" => reduction.bytes_max = number()? as usize,
            "--timers" => reduction.timers_max = number()? as usize,
            "--injected" => reduction.injected_max = number()? as usize,
            "--datagrams" => reduction.datagrams_max = number()? as usize,
            "--watched" => reduction.watched_max = number()? as usize,
            "--off" => {
                for name in value.split(',') {
                    let mut faults = Fault::ALL.iter();
                    let fault = faults.find(|fault| fault.name() == name);
                    reduction.off.push(*fault.ok_or_else(|| format!("no fault {name}"))?);
                }
            }
            _ => return Err(format!("unknown option {name}\n\n{USAGE}")),
        }
    }
    Ok(options)
}

#[derive(Default)]
struct Totals {
    calls: u64,
    received_bytes: u64,
    connections: u64,
    virtual_s: f64,
    failures: Vec<u64>,
    differing: Vec<u64>,
}

impl Totals {
    fn add(&mut self, seed: u64, report: &Report) {
        self.calls += report.calls;
        self.received_bytes += report.received_bytes as u64;
        self.connections += report.connections as u64;
        self.virtual_s += report.virtual_ns as f64 / 1e9;
        if !report.violations.is_empty() {
            self.failures.push(seed);
        }
    }
}

/// Runs many seeds. Whether all was well.
fn run(options: &Options) -> Result<bool, String> {
    let start = Instant::now();
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                let mut own = Totals::default();
                loop {
                    let number = next.fetch_add(1, Relaxed);
                    if number >= options.seeds {
                        break;
                    }
                    let seed = options.first + number;
                    let report = run_seed(seed, &options.reduction);
                    own.add(seed, &report);
                    if number < options.twice && run_seed(seed, &options.reduction) != report {
                        own.differing.push(seed);
                    }
                }
                let mut totals = totals.lock().expect("no thread panics with the totals");
                totals.calls += own.calls;
                totals.received_bytes += own.received_bytes;
                totals.connections += own.connections;
                totals.virtual_s += own.virtual_s;
                totals.failures.extend(own.failures);
                totals.differing.extend(own.differing);
            });
        }
    });
    let mut totals = totals.into_inner().map_err(|error| error.to_string())?;
    totals.failures.sort_unstable();
    for &seed in totals.failures.iter().take(FAILURES_TOLD_MAX) {
        let (reduction, report) = shrink(seed, &options.reduction, SHRINK_RUNS_MAX);
        tell(seed, &reduction, &report);
    }
    for seed in &totals.differing {
        println!("seed {seed}: two runs of it differ");
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} seeds from {}: {} failed, {} of {} run twice differed; {:.0} seeds/s; {} connections, \
         {} bytes, {} calls, {:.0} s of virtual time in {seconds:.1} s",
        options.seeds,
        options.first,
        totals.failures.len(),
        totals.differing.len(),
        options.twice.min(options.seeds),
        options.seeds as f64 / seconds,
        totals.connections,
        totals.received_bytes,
        totals.calls,
        totals.virtual_s,
    );
    let mut blocks: Vec<u64> =
        totals.failures.iter().chain(&totals.differing).map(|seed| seed / SEEDS_PER_TEST).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let all = options.seeds.div_ceil(SEEDS_PER_TEST) as usize;
    write_totals(options, all.saturating_sub(blocks.len()), blocks.len())?;
    Ok(totals.failures.is_empty() && totals.differing.is_empty())
}

/// Writes the totals for `scripts/sum_results.py`, if a file was named.
fn write_totals(options: &Options, passed: usize, failed: usize) -> Result<(), String> {
    let Some(path) = &options.json else { return Ok(()) };
    let totals = format!(
        "{{\"total\": {{\"passed\": {passed}, \"failed\": {failed}, \"errors\": 0, \"skipped\": 0}}}}\n"
    );
    std::fs::write(path, totals).map_err(|error| format!("{path}: {error}"))
}

fn tell(seed: u64, reduction: &Reduction, report: &Report) {
    println!("seed {seed} failed:");
    for text in &report.violations {
        println!("    {text}");
    }
    println!("    replay: cargo run -q -p oxloop-sim -- replay --seed {seed}{reduction}");
}

/// Runs one seed. Whether all was well.
fn replay(options: &Options) -> Result<bool, String> {
    let report = run_seed(options.seed, &options.reduction);
    if report.violations.is_empty() {
        println!("seed {}{}: nothing wrong", options.seed, options.reduction);
    } else {
        tell(options.seed, &options.reduction, &report);
    }
    println!("{report:#?}");
    Ok(report.violations.is_empty())
}

/// Tortures scenarios. Whether all was well.
fn all_torture(options: &Options) -> Result<bool, String> {
    let start = Instant::now();
    let outcome = torture(&options.scenario, options.pairs);
    for failure in outcome.failures.iter().take(FAILURES_TOLD_MAX) {
        let (name, shape, failing) = (failure.scenario, failure.shape, &failure.failing);
        println!("{name} ({shape:?}) with calls failing by (number, error) {failing:?}:");
        failure.report.violations.iter().for_each(|text| println!("    {text}"));
        let pairs = options.pairs;
        println!(
            "    again: cargo run -q -p oxloop-sim -- torture --scenario {name} --pairs {pairs}"
        );
    }
    println!(
        "{} scenarios, each on 2 drivers: {} calls, {} runs with one failing, {} with two, {} failed, \
         in {:.1} s",
        outcome.scenarios / 2,
        outcome.calls,
        outcome.runs,
        outcome.pairs,
        outcome.failures.len(),
        start.elapsed().as_secs_f64()
    );
    let mut failed: Vec<_> =
        outcome.failures.iter().map(|one| (one.scenario, one.shape as u8)).collect();
    failed.sort_unstable();
    failed.dedup();
    let tortured = outcome.scenarios;
    write_totals(options, tortured.saturating_sub(failed.len()), failed.len())?;
    Ok(outcome.failures.is_empty() && outcome.runs > 0)
}

/// Lists the planted bugs. Whether there are any.
fn list_mutants() -> bool {
    #[cfg(oxloop_mutants)]
    for mutant in oxloop_core::mutant::Mutant::ALL {
        println!("{mutant:?}");
    }
    cfg!(oxloop_mutants)
}

/// Runs seeds until one fails. Whether none did.
fn hunt(options: &Options) -> bool {
    for seed in options.first..options.first + options.seeds {
        let report = run_seed(seed, &options.reduction);
        if let Some(first) = report.violations.first() {
            println!("seed {seed}: {first}");
            return false;
        }
    }
    println!("nothing found in {} seeds", options.seeds);
    true
}
