//! The event loop: one iteration, in order.
//!
//! 1. Items from other threads become jobs.
//! 2. If it is time to look for I/O, one wait: without a timeout if there is anything to run, else
//!    until the next deadline. Items that came meanwhile become jobs.
//! 3. The iteration is fixed: the jobs that are ready now, the completions of the wait, the timers
//!    that are due now. Whatever is scheduled from here on belongs to the next iteration.
//! 4. These jobs run, then the completions are delivered, then the timers run. asyncio runs them in
//!    this order too, since it appends I/O callbacks and then timers to one queue.
//!
//! A host may break off after any of them. What had not run stays, in order, and the next
//! `run_once` finishes that iteration and does nothing else. The same makes a nested `run_once`
//! harmless.
//!
//! A wait costs as much as several small jobs, so a loop that always has something to run looks for
//! I/O only every `ITERATIONS_PER_POLL` iterations or `POLL_INTERVAL_TICKS`, whichever is first, and
//! right after an iteration in which the driver was used: what a program does to its own other end
//! arrives as soon as on a loop that looks every time. The ticks count from the last completion: the
//! jobs that the completions of a wait have made run before the next wait, so that a busy server
//! deals with all its clients at a time, not with half of them in turn. A sleep is never started
//! with work at hand, and never while completions are left.
//!
//! Interior mutability, and no borrow alive while the host runs: user code may call back into every
//! method. So each field is borrowed for single operations only. Hosts must keep to that as well.
//!
//! What can still go wrong: a single job that never returns; a host clock that stands still while
//! jobs are always ready delays I/O by `ITERATIONS_PER_POLL` iterations, however long they take.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use crate::buf::WriteQueue;
use crate::clock::Deadline;
use crate::completion::Completion;
use crate::driver::Driver;
use crate::inject::Injector;
use crate::limits::{ITERATIONS_PER_POLL, POLL_INTERVAL_TICKS, READY_JOBS_KEPT_MAX};
use crate::mutant::planted;
use crate::ready::ReadyQueue;
use crate::slab::{Slab, Token};
use crate::timers::{TimerKey, Timers};

/// What runs on a loop, and what the loop asks of its surroundings.
pub trait Host {
    /// What the ready queue holds.
    type Job;
    /// What runs at a deadline.
    type Timer;
    /// What gets the completions of a descriptor.
    type Source: Clone;
    /// What other threads may give to the loop.
    type Injected: Send;
    /// What holds bytes to be sent.
    type Chunk: AsRef<[u8]>;
    /// How I/O is done.
    type Driver: Driver<Self::Chunk>;
    /// Why an iteration was broken off.
    type Break;

    /// Runs a job.
    fn run_job(&self, job: Self::Job) -> ControlFlow<Self::Break>;
    /// Runs a timer that is due.
    fn run_timer(&self, timer: Self::Timer) -> ControlFlow<Self::Break>;
    /// Delivers a completion to its source.
    fn completed(
        &self,
        source: Self::Source,
        completion: Completion<Self::Chunk>,
    ) -> ControlFlow<Self::Break>;
    /// Makes a job of an item from another thread. Must not run user code.
    fn injected(&self, item: Self::Injected) -> Self::Job;
    /// The loop's clock. Read in each iteration while there are timers, so it must be cheap.
    fn now(&self) -> Deadline;
    /// The counter that bounds the time between two looks for I/O; a simulated host gives its own.
    #[inline]
    fn ticks(&self) -> u64 {
        crate::sys::time::ticks()
    }
    /// Runs `Driver::block`, without the locks that other threads need meanwhile.
    fn block(
        &self,
        wait: &mut <Self::Driver as Driver<Self::Chunk>>::Wait,
        timeout: Option<Duration>,
    ) -> io::Result<()>;
    /// Called after every wait; `interrupted`: a signal ended it.
    fn after_wait(&self, interrupted: bool) -> ControlFlow<Self::Break>;
    /// Called before a wait, and before completions and timers: no task is current any more.
    fn idle(&self) {}
}

/// What a closed loop still held, for the caller to drop where it is safe.
pub struct Leftovers<H: Host> {
    /// Jobs that did not run, in order.
    pub jobs: VecDeque<H::Job>,
    /// Timers that did not run, in order.
    pub timers: Vec<H::Timer>,
    /// Sources that were still registered.
    pub sources: Vec<H::Source>,
    /// Items from other threads that had not become jobs.
    pub injected: Vec<H::Injected>,
    /// Bytes of sends that were still with the driver.
    pub unsent: Vec<WriteQueue<H::Chunk>>,
}

/// An event loop. See the module's text.
pub struct EventLoop<H: Host> {
    /// Jobs for this iteration and the next.
    pub ready: RefCell<ReadyQueue<H::Job>>,
    /// Timers that are not due yet.
    pub timers: RefCell<Timers<H::Timer>>,
    /// How I/O is done.
    pub driver: RefCell<H::Driver>,
    /// Who gets the completions of which token.
    pub sources: RefCell<Slab<H::Source>>,
    /// The way in for other threads.
    pub injector: Arc<Injector<H::Injected>>,
    /// Timers of this iteration that have not run yet.
    due: RefCell<VecDeque<H::Timer>>,
    /// How many of the ready jobs still belong to this iteration.
    jobs_left: Cell<usize>,
    /// Room for draining the injector; empty between uses.
    drained: RefCell<Vec<H::Injected>>,
    iterations_since_poll: Cell<u32>,
    /// When I/O was last looked for, or dealt with.
    attended_at_ticks: Cell<u64>,
    poll_forced: Cell<bool>,
}

impl<H: Host> EventLoop<H> {
    /// A loop over a driver.
    pub fn new(driver: H::Driver) -> Self {
        EventLoop {
            ready: RefCell::new(ReadyQueue::new()),
            timers: RefCell::new(Timers::new()),
            injector: Arc::new(Injector::new(driver.wake())),
            driver: RefCell::new(driver),
            sources: RefCell::new(Slab::new()),
            due: RefCell::new(VecDeque::new()),
            jobs_left: Cell::new(0),
            drained: RefCell::new(Vec::new()),
            iterations_since_poll: Cell::new(0),
            attended_at_ticks: Cell::new(0),
            poll_forced: Cell::new(true),
        }
    }

    /// Queues a job for the next iteration.
    #[inline]
    pub fn push(&self, job: H::Job) {
        self.ready.borrow_mut().push(job);
    }

    /// Adds a timer; it runs in the first iteration that begins at or after the deadline.
    pub fn add_timer(&self, deadline: Deadline, timer: H::Timer) -> TimerKey {
        self.timers.borrow_mut().insert(deadline, timer)
    }

    /// Takes a timer back. `None`: it has run, or it is due and belongs to the current iteration.
    pub fn remove_timer(&self, key: TimerKey) -> Option<H::Timer> {
        self.timers.borrow_mut().remove(key)
    }

    /// Registers a descriptor. The caller keeps it open until
    /// [`remove_source`](Self::remove_source).
    ///
    /// # Errors
    /// Those of `Driver::register`.
    pub fn add_source(&self, fd: RawFd, source: H::Source) -> io::Result<Token> {
        let token = self.sources.borrow_mut().insert(source);
        let result = self.driver.borrow_mut().register(token, fd);
        result.map(|()| token).inspect_err(|_| {
            let source = self.sources.borrow_mut().remove(token);
            drop(source);
        })
    }

    /// Lets go of a descriptor, in the driver too. No completion is delivered for it any more.
    pub fn remove_source(&self, token: Token) -> Option<H::Source> {
        let unsent = self.driver.borrow_mut().release(token);
        let source = self.sources.borrow_mut().remove(token);
        drop(unsent);
        source
    }

    /// Makes the next iteration look for I/O.
    pub fn force_poll(&self) {
        self.poll_forced.set(true);
    }

    /// Whether an iteration was broken off and the next `run_once` will finish it.
    pub fn is_unfinished(&self) -> bool {
        self.jobs_left.get() > 0
            || !self.due.borrow().is_empty()
            || self.driver.borrow().has_completions()
    }

    /// Runs one iteration, or finishes the one that was broken off. With `block` it may sleep if
    /// there is nothing to run.
    ///
    /// # Errors
    /// Those of the driver's wait; the iteration has not begun then. A signal is not an error.
    pub fn run_once(&self, host: &H, block: bool) -> ControlFlow<H::Break, io::Result<()>> {
        self.drain_injector(host);
        if !self.is_unfinished() {
            match self.begin_iteration(host, block)? {
                Ok(()) => {}
                Err(error) => return ControlFlow::Continue(Err(error)),
            }
        }
        self.finish_iteration(host)?;
        ControlFlow::Continue(Ok(()))
    }

    /// Looks for I/O if it is time to, and fixes what belongs to the iteration.
    fn begin_iteration(&self, host: &H, block: bool) -> ControlFlow<H::Break, io::Result<()>> {
        let has_jobs = !self.ready.borrow().is_empty();
        let iterations = self.iterations_since_poll.get() + 1;
        self.iterations_since_poll.set(iterations);
        let must_poll = !has_jobs
            || self.poll_forced.get()
            || self.driver.borrow().has_acted()
            || iterations >= ITERATIONS_PER_POLL
            || host.ticks().wrapping_sub(self.attended_at_ticks.get()) >= POLL_INTERVAL_TICKS;
        if must_poll {
            let timeout = if has_jobs || !block {
                Some(Duration::ZERO)
            } else if planted!(SleepIgnoresTimers) {
                None
            } else {
                let next = self.timers.borrow_mut().next_deadline();
                next.map(|deadline| Duration::from_nanos(deadline.ns_since(host.now())))
            };
            match self.poll(host, timeout)? {
                Ok(()) => {}
                Err(error) => return ControlFlow::Continue(Err(error)),
            }
            self.drain_injector(host);
            self.attended_at_ticks.set(host.ticks());
        }
        self.jobs_left.set(self.ready.borrow().len());
        if !self.timers.borrow().is_empty() {
            // The user's clock may be Python code: nothing is borrowed while it is read.
            let now = host.now();
            let mut due = self.due.borrow_mut();
            let mut timers = self.timers.borrow_mut();
            while let Some(timer) = timers.pop_due(now) {
                due.push_back(timer);
            }
        }
        ControlFlow::Continue(Ok(()))
    }

    /// One wait.
    fn poll(
        &self,
        host: &H,
        mut timeout: Option<Duration>,
    ) -> ControlFlow<H::Break, io::Result<()>> {
        self.iterations_since_poll.set(0);
        self.poll_forced.set(false);
        self.ready.borrow_mut().shrink_if_empty(READY_JOBS_KEPT_MAX);
        host.idle();
        let sleeps = timeout != Some(Duration::ZERO);
        let is_announced = sleeps && self.injector.before_wait();
        if sleeps && !is_announced {
            timeout = Some(Duration::ZERO);
        }
        let mut wait = self.driver.borrow_mut().begin_wait();
        let result = host.block(&mut wait, timeout);
        if is_announced {
            self.injector.after_wait();
        }
        self.driver.borrow_mut().end_wait(wait);
        let is_interrupted = match result {
            Ok(()) => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => return ControlFlow::Continue(Err(error)),
        };
        // If the host breaks off here, the jobs that are ready still come before the completions.
        self.jobs_left.set(self.ready.borrow().len());
        host.after_wait(is_interrupted)?;
        ControlFlow::Continue(Ok(()))
    }

    /// Runs what belongs to the iteration and has not run.
    fn finish_iteration(&self, host: &H) -> ControlFlow<H::Break> {
        while self.jobs_left.get() > 0 {
            self.jobs_left.set(self.jobs_left.get() - 1);
            let job = self.ready.borrow_mut().pop();
            // The queue may have been emptied by `close` from within a job.
            let Some(job) = job else {
                self.jobs_left.set(0);
                break;
            };
            let ran = host.run_job(job);
            if planted!(BreakLosesTimers) && ran.is_break() {
                drop(self.due.take());
            }
            if planted!(BreakLosesCompletions) && ran.is_break() {
                while self.driver.borrow_mut().next_completion().is_some() {}
            }
            ran?;
        }
        if !self.is_unfinished() {
            return ControlFlow::Continue(());
        }
        host.idle();
        let mut completed = false;
        loop {
            let completion = self.driver.borrow_mut().next_completion();
            let Some(completion) = completion else { break };
            completed = true;
            let source = self.sources.borrow().get(completion.token).cloned();
            if let Some(source) = source {
                host.completed(source, completion)?;
            }
        }
        if completed {
            self.attended_at_ticks.set(host.ticks());
        }
        loop {
            let timer = self.due.borrow_mut().pop_front();
            let Some(timer) = timer else { break };
            host.run_timer(timer)?;
        }
        ControlFlow::Continue(())
    }

    fn drain_injector(&self, host: &H) {
        if self.injector.is_empty() {
            return;
        }
        let mut drained = self.drained.take();
        self.injector.drain(&mut drained);
        for item in drained.drain(..) {
            let job = host.injected(item);
            self.push(job);
        }
        self.drained.replace(drained);
    }

    /// In the child of a fork, where the kernel objects are shared with the parent: closes the driver's
    /// own descriptors first, so that nothing that follows reaches what the parent waits on. Every
    /// later wait fails. Idempotent.
    pub fn disown(&self) {
        if let Ok(mut driver) = self.driver.try_borrow_mut() {
            driver.close();
        }
    }

    /// Timers that are due and have not run, for an iteration that was broken off.
    pub fn for_each_due<E>(
        &self,
        mut visit: impl FnMut(&H::Timer) -> Result<(), E>,
    ) -> Result<(), E> {
        match self.due.try_borrow() {
            Ok(due) => due.iter().try_for_each(&mut visit),
            Err(_) => Ok(()),
        }
    }

    /// Takes the timers that are due and have not run.
    pub fn take_due(&self) -> VecDeque<H::Timer> {
        self.due.take()
    }

    /// Closes the loop: other threads are refused, every descriptor is let go of, the driver is
    /// closed. The caller gets all that was left. Idempotent. Not from within a wait.
    pub fn close(&self) -> Leftovers<H> {
        let injected = self.injector.close();
        let jobs = self.ready.borrow_mut().take_all();
        self.jobs_left.set(0);
        let mut timers: Vec<_> = self.due.take().into();
        timers.append(&mut self.timers.borrow_mut().take_all());
        let tokens: Vec<_> = self.sources.borrow().iter().map(|(token, _)| token).collect();
        let mut driver = self.driver.borrow_mut();
        let unsent = tokens.into_iter().filter_map(|token| driver.release(token)).collect();
        driver.close();
        drop(driver);
        let sources = self.sources.borrow_mut().take_all();
        Leftovers { jobs, timers, sources, injected, unsent }
    }
}
