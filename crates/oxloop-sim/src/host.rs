//! What the core calls, and what it must keep to: the order of jobs and timers, the length of sleeps,
//! and that no item of another thread is late.
//!
//! Other threads are simulated by pushing between any two steps of an iteration, as the hooks of the
//! host allow, and in the middle of a sleep.

use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use oxloop_core::{Completion, Deadline};

use crate::app::{App, Chunk, SimulatedDriver, Source, Work};

/// An item of another thread must run within this time, for nothing takes longer than calls.
const INJECTED_LATE_NS: i64 = 5_000_000;

/// The loop may ask for so much more than the time to the next timer, because calls take time.
const OVERSLEEP_NS: i64 = 1_000_000;

/// A job and its place in the order of all jobs.
#[derive(Debug)]
pub struct Job {
    pub stamp: u64,
    pub work: Work,
}

/// A timer and what it is ordered by.
#[derive(Debug)]
pub struct Timer {
    pub deadline: Deadline,
    pub order: u64,
    pub work: Work,
}

/// The host; one for a run.
pub struct Host<D: SimulatedDriver> {
    app: Rc<App<D>>,
}

impl<D: SimulatedDriver> Host<D> {
    /// A host for an application.
    pub fn new(app: Rc<App<D>>) -> Self {
        Host { app }
    }

    /// Another thread may give an item to the loop here, so many times in ten thousand.
    fn interlope(&self, times: u16) {
        let app = &self.app;
        if app.interlopes.get() > 0 && app.chance(times) {
            app.interlopes.set(app.interlopes.get() - 1);
            app.began();
            app.pusher()();
        }
    }

    /// Whether the iteration goes on; an exception may leave the loop after any step.
    fn go_on(&self) -> ControlFlow<()> {
        match self.app.chance(self.app.program.breaks) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// Whether the loop sleeps longer than its timers allow.
    fn check_sleep(&self, timeout: Option<Duration>) {
        let app = &self.app;
        let Some(((first, _), _)) =
            app.live_timers.borrow().first_key_value().map(|(at, made)| (*at, *made))
        else {
            return;
        };
        let most_ns = first.0.saturating_sub(app.kernel.now_ns()).max(0) + OVERSLEEP_NS;
        let asked_ns = timeout.map_or(i64::MAX, |timeout| timeout.as_nanos() as i64);
        if asked_ns > most_ns {
            app.violation(format!("a sleep of {asked_ns} ns, and a timer is due in {most_ns}"));
        }
    }
}

impl<D: SimulatedDriver> App<D> {
    /// What another thread does: it gives the loop the next item.
    pub fn pusher(&self) -> impl FnOnce() + Send + 'static {
        let (injector, pushed_ns) = (self.event_loop.injector.clone(), self.pushed_ns.clone());
        let kernel = self.kernel.clone();
        move || {
            let now_ns = kernel.now_ns();
            let mut pushed_ns = pushed_ns.lock().unwrap_or_else(PoisonError::into_inner);
            let number = pushed_ns.len();
            pushed_ns.push(now_ns);
            drop(pushed_ns);
            // A refusal shows as an item that never runs.
            let _ = injector.push(number);
        }
    }

    fn pushed_ns(&self) -> MutexGuard<'_, Vec<i64>> {
        self.pushed_ns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An item of another thread runs.
    pub fn injected_ran(&self, number: usize) {
        let expected = self.next_injected.get();
        if number != expected {
            self.violation(format!("item {number} of another thread ran before {expected}"));
        }
        self.next_injected.set(number + 1);
        let pushed_ns = self.pushed_ns().get(number).copied().unwrap_or(i64::MAX);
        let late_ns = self.kernel.now_ns().saturating_sub(pushed_ns);
        if late_ns > INJECTED_LATE_NS {
            self.violation(format!("a wake-up was lost: item {number} is {late_ns} ns late"));
        }
        self.ended();
    }
}

impl<D: SimulatedDriver> oxloop_core::Host for Host<D> {
    type Job = Job;
    type Timer = Timer;
    type Source = Source;
    type Injected = usize;
    type Chunk = Chunk;
    type Driver = D;
    type Break = ();

    fn run_job(&self, job: Job) -> ControlFlow<()> {
        let last = self.app.last_stamp.replace(job.stamp);
        if job.stamp <= last {
            self.app.violation(format!("job {} ran after job {last}", job.stamp));
        }
        if job.work == Work::Nest {
            // Finishes this iteration, or runs one more; the rest of this one finds nothing to do.
            if let ControlFlow::Continue(Err(error)) = self.app.event_loop.run_once(self, false) {
                self.app.violation(format!("a nested iteration failed: {error}"));
            }
        }
        self.app.work(job.work);
        self.go_on()
    }

    fn run_timer(&self, timer: Timer) -> ControlFlow<()> {
        let app = &self.app;
        let at = (timer.deadline, timer.order);
        let now = Deadline(app.kernel.now_ns());
        if now < timer.deadline {
            app.violation(format!("a timer ran early: {:?} at {now:?}", timer.deadline));
        }
        let first = app.live_timers.borrow().first_key_value().map(|(at, (made, _))| (*at, *made));
        if app.live_timers.borrow_mut().remove(&at).is_none() {
            app.violation("a timer ran that was cancelled, or ran before");
            return ControlFlow::Continue(());
        }
        match first {
            Some((first, made)) if first < at && made < app.iteration.get() => {
                app.violation(format!("timer {at:?} ran before timer {first:?}"));
            }
            _ => {}
        }
        app.work(timer.work);
        app.ended();
        self.go_on()
    }

    fn completed(&self, source: Source, completion: Completion<Chunk>) -> ControlFlow<()> {
        self.app.deliver(source, completion);
        self.go_on()
    }

    fn injected(&self, number: usize) -> Job {
        self.app.stamped(Work::Injected(number))
    }

    fn now(&self) -> Deadline {
        self.interlope(500);
        Deadline(self.app.kernel.now_ns())
    }

    fn ticks(&self) -> u64 {
        self.interlope(500);
        self.app.kernel.now_ns() as u64
    }

    fn block(&self, wait: &mut D::Wait, timeout: Option<Duration>) -> io::Result<()> {
        self.check_sleep(timeout);
        self.interlope(500);
        D::block(wait, timeout)
    }

    fn after_wait(&self, _interrupted: bool) -> ControlFlow<()> {
        self.interlope(500);
        ControlFlow::Continue(())
    }

    fn idle(&self) {
        // Right before the loop announces its sleep.
        self.interlope(3_000);
    }
}
