//! One run: a program on a kernel, to its end, and what was wrong with it.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Once;

use oxloop_core::SimDriver;
use oxloop_core::driver::sim::{Call, RingDriver, SimConfig, SimKernel};

use crate::app::{App, Chunk, SimulatedDriver};
use crate::host::Host;
use crate::program::{Program, Reduction, Shape};

/// Iterations and virtual time within which every program comes to an end.
const ITERATIONS_MAX: u64 = 200_000;
const VIRTUAL_NS_MAX: i64 = 10_000_000_000_000;

impl SimulatedDriver for SimDriver<Chunk> {
    fn over(kernel: SimKernel, buffer_bytes: usize) -> io::Result<Self> {
        SimDriver::over(kernel, buffer_bytes)
    }
}

impl SimulatedDriver for RingDriver<Chunk> {
    fn over(kernel: SimKernel, buffer_bytes: usize) -> io::Result<Self> {
        RingDriver::over(kernel, buffer_bytes)
    }
}

/// What became of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Promises that were broken; none is as it should be.
    pub violations: Vec<String>,
    /// The hash of all that happened.
    pub trace: u64,
    /// Calls to the kernel that may fail.
    pub calls: u64,
    /// Bytes that were received by the right end.
    pub received_bytes: usize,
    /// Connections that stood at both ends.
    pub connections: usize,
    /// How long it took, in virtual time.
    pub virtual_ns: i64,
}

thread_local! {
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets panics of runs be told by their reports and not by the terminal.
fn catch_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let otherwise = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match IS_RUNNING.get() {
            true => PANIC.set(Some(info.to_string().replace('\n', ": "))),
            false => otherwise(info),
        }));
    });
}

/// Runs the program of a seed.
pub fn run_seed(seed: u64, reduction: &Reduction) -> Report {
    run(Program::drawn(seed, reduction), &[]).0
}

/// Runs a program in which these calls, by their numbers, fail with these errors. Also says which
/// calls were made, if none was to fail.
pub fn run(program: Program, failing: &[(u64, i32)]) -> (Report, Vec<Call>) {
    catch_messages();
    let kernel = SimKernel::new(SimConfig {
        seed: program.seed,
        faults: program.faults.clone(),
        link: program.link,
        numbers_max: program.numbers_max,
        call_ns_max: program.call_ns_max,
    });
    if failing.is_empty() {
        kernel.log_calls();
    }
    failing.iter().for_each(|(number, code)| kernel.fail_call(*number, *code));
    let mut report = Report {
        violations: Vec::new(),
        trace: 0,
        calls: 0,
        received_bytes: 0,
        connections: 0,
        virtual_ns: 0,
    };
    let is_tortured = !failing.is_empty();
    IS_RUNNING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| match program.shape {
        Shape::Readiness => run_on::<SimDriver<Chunk>>(program, &kernel, is_tortured, &mut report),
        Shape::Completion => {
            run_on::<RingDriver<Chunk>>(program, &kernel, is_tortured, &mut report)
        }
    }));
    IS_RUNNING.set(false);
    if outcome.is_err() {
        let text = PANIC.take().unwrap_or_else(|| "without a message".to_owned());
        report.violations.push(format!("panic: {text}"));
    } else if kernel.open_count() > 0 {
        report.violations.push(format!("{} descriptors leaked", kernel.open_count()));
    }
    report.violations.extend(kernel.take_breaches());
    report.trace = kernel.trace();
    report.calls = kernel.calls();
    report.virtual_ns = kernel.now_ns();
    let calls = kernel.logged_calls();
    (report, calls)
}

/// A kernel that fails while the driver is made is refused; that is no violation.
fn run_on<D: SimulatedDriver>(
    program: Program,
    kernel: &SimKernel,
    is_tortured: bool,
    report: &mut Report,
) {
    let Ok(app) = App::<D>::new(program, kernel.clone()) else { return };
    app.is_tortured.set(is_tortured);
    let app = Rc::new(app);
    let host = Host::new(app.clone());
    if app.start().is_ok() {
        finish(&app, &host);
    }
    let records = app.records.borrow();
    report.received_bytes = records.iter().flatten().map(|record| record.received).sum();
    report.connections = records.iter().filter(|[a, b]| a.began && b.began).count();
    drop(records);
    app.stop();
    let leftovers = app.event_loop.close();
    let is_clean = leftovers.sources.is_empty()
        && leftovers.unsent.is_empty()
        && leftovers.injected.is_empty();
    let is_empty = is_clean && leftovers.jobs.is_empty() && leftovers.timers.is_empty();
    if app.pending.get() == 0 && !is_empty {
        app.violation(format!(
            "the closed loop held {} jobs, {} timers, {} sources, {} sends",
            leftovers.jobs.len(),
            leftovers.timers.len(),
            leftovers.sources.len(),
            leftovers.unsent.len()
        ));
    }
    drop(leftovers);
    report.violations.append(&mut app.violations.borrow_mut());
    app.event_loop.driver.borrow_mut().close();
}

/// Runs the loop until nothing is pending; says so if that does not come.
fn finish<D: SimulatedDriver>(app: &App<D>, host: &Host<D>) {
    while app.pending.get() > 0 {
        app.iteration.set(app.iteration.get() + 1);
        match app.event_loop.run_once(host, true) {
            ControlFlow::Continue(Ok(())) => {}
            ControlFlow::Continue(Err(error)) => {
                app.violation(format!("the loop stopped: {error}; {}", app.unfinished()));
                return;
            }
            // The next call finishes the iteration.
            ControlFlow::Break(()) => {}
        }
        if app.iteration.get() > ITERATIONS_MAX || app.kernel.now_ns() > VIRTUAL_NS_MAX {
            app.violation(format!("no end in sight; {}", app.unfinished()));
            return;
        }
        if app.violations.borrow().len() > 20 {
            return;
        }
    }
}
