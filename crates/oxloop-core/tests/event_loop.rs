//! The event loop: the order of an iteration, breaks, fairness, wakeups, memory, closing.

use std::cell::{Cell, RefCell};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use oxloop_core::driver::epoll::EpollWait;
use oxloop_core::{
    Completion, Deadline, Driver, EpollDriver, EventLoop, Host, Op, Outcome, PushError, clock,
    limits,
};

type Run = Box<dyn FnOnce(&TestHost) -> ControlFlow<&'static str>>;

/// A host whose jobs and timers are closures; it writes down what ran.
#[derive(Default)]
struct TestHost {
    trace: RefCell<Vec<String>>,
    /// What else a completion of a source does, once.
    on_completed: RefCell<Vec<(&'static str, Run)>>,
    fake_now: Cell<Option<Deadline>>,
    waits: Cell<usize>,
    injected: AtomicUsize,
    interrupt: Cell<bool>,
    after_wait: RefCell<Option<&'static str>>,
}

impl Host for TestHost {
    type Job = Run;
    type Timer = Run;
    type Source = &'static str;
    type Injected = &'static str;
    type Chunk = Vec<u8>;
    type Driver = EpollDriver<Vec<u8>>;
    type Break = &'static str;

    fn run_job(&self, job: Run) -> ControlFlow<&'static str> {
        job(self)
    }

    fn run_timer(&self, timer: Run) -> ControlFlow<&'static str> {
        timer(self)
    }

    fn completed(
        &self,
        source: &'static str,
        completion: Completion<Vec<u8>>,
    ) -> ControlFlow<&'static str> {
        assert!(matches!(completion.outcome, Outcome::Received(Ok(_))));
        self.log(source);
        let mut hooks = self.on_completed.borrow_mut();
        let place = hooks.iter().position(|(name, _)| *name == source);
        let hook = place.map(|place| hooks.remove(place).1);
        drop(hooks);
        hook.map_or(ControlFlow::Continue(()), |hook| hook(self))
    }

    fn injected(&self, item: &'static str) -> Run {
        self.injected.fetch_add(1, SeqCst);
        log(item)
    }

    fn ticks(&self) -> u64 {
        match self.fake_now.get() {
            Some(now) => now.0 as u64,
            None => oxloop_core::sys::time::ticks(),
        }
    }

    fn now(&self) -> Deadline {
        self.fake_now.get().unwrap_or_else(clock::monotonic)
    }

    fn block(&self, wait: &mut EpollWait, timeout: Option<Duration>) -> io::Result<()> {
        self.waits.set(self.waits.get() + 1);
        if self.interrupt.take() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        EpollDriver::<Vec<u8>>::block(wait, timeout)
    }

    fn after_wait(&self, interrupted: bool) -> ControlFlow<&'static str> {
        if interrupted {
            self.log("interrupted");
        }
        match self.after_wait.take() {
            Some(reason) => ControlFlow::Break(reason),
            None => ControlFlow::Continue(()),
        }
    }
}

impl TestHost {
    fn log(&self, entry: &str) {
        self.trace.borrow_mut().push(entry.to_owned());
    }

    fn trace(&self) -> Vec<String> {
        self.trace.take()
    }
}

fn log(entry: &'static str) -> Run {
    Box::new(move |host| {
        host.log(entry);
        ControlFlow::Continue(())
    })
}

fn log_and_break(entry: &'static str) -> Run {
    Box::new(move |host| {
        host.log(entry);
        ControlFlow::Break(entry)
    })
}

fn new_loop() -> EventLoop<TestHost> {
    EventLoop::new(EpollDriver::new().unwrap())
}

/// A source that has a byte to read.
fn readable(event_loop: &EventLoop<TestHost>, name: &'static str) -> (UnixStream, UnixStream) {
    let (ours, mut peer) = watched(event_loop, name);
    peer.write_all(b"x").unwrap();
    (ours, peer)
}

/// A source that is watched and has nothing to read yet.
fn watched(event_loop: &EventLoop<TestHost>, name: &'static str) -> (UnixStream, UnixStream) {
    let (ours, peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let token = event_loop.add_source(ours.as_raw_fd(), name).unwrap();
    event_loop.driver.borrow_mut().submit(token, Op::Recv).unwrap();
    (ours, peer)
}

fn run_once(event_loop: &EventLoop<TestHost>, host: &TestHost) -> Option<&'static str> {
    match event_loop.run_once(host, false) {
        ControlFlow::Continue(result) => {
            result.unwrap();
            None
        }
        ControlFlow::Break(reason) => Some(reason),
    }
}

#[test]
fn jobs_then_completions_then_timers_and_the_rest_later() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    let _pair = readable(&event_loop, "completion");
    event_loop.add_timer(Deadline(0), log("timer"));
    event_loop.add_timer(Deadline(-1), log("earlier timer"));
    event_loop.add_timer(Deadline::NEVER, log("never"));
    let inner = event_loop.clone();
    event_loop.push(Box::new(move |host: &TestHost| {
        host.log("job");
        inner.push(log("next job"));
        inner.add_timer(Deadline(0), log("next timer"));
        ControlFlow::Continue(())
    }));
    event_loop.push(log("second job"));
    event_loop.injector.push("injected").unwrap();
    event_loop.force_poll();
    assert_eq!(run_once(&event_loop, &host), None);
    let expected = ["job", "second job", "injected", "completion", "earlier timer", "timer"];
    assert_eq!(host.trace(), expected);
    assert_eq!(run_once(&event_loop, &host), None);
    assert_eq!(host.trace(), ["next job", "next timer"]);
    assert_eq!(event_loop.timers.borrow().len(), 1);
}

#[test]
fn a_break_anywhere_loses_nothing_and_keeps_the_order() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    let _first = readable(&event_loop, "completion 1");
    let _second = readable(&event_loop, "completion 2");
    for source in ["completion 1", "completion 2"] {
        host.on_completed.borrow_mut().push((source, log_and_break("in completion")));
    }
    event_loop.add_timer(Deadline(0), log_and_break("timer 1"));
    event_loop.add_timer(Deadline(1), log("timer 2"));
    let inner = event_loop.clone();
    event_loop.push(Box::new(move |host: &TestHost| {
        host.log("job 1");
        inner.push(log("later"));
        ControlFlow::Break("job 1")
    }));
    event_loop.push(log("job 2"));
    event_loop.force_poll();
    let mut breaks = Vec::new();
    while host.trace.borrow().last().map(String::as_str) != Some("timer 2") {
        let waits = host.waits.get();
        breaks.extend(run_once(&event_loop, &host));
        assert!(host.waits.get() == waits || breaks.len() == 1, "a wait with work at hand");
    }
    assert_eq!(breaks, ["job 1", "in completion", "in completion", "timer 1"]);
    let trace = host.trace();
    assert_eq!(trace[..2], ["job 1", "job 2"]);
    let mut completions = vec![trace[2].as_str(), trace[4].as_str()];
    completions.sort_unstable();
    assert_eq!(completions, ["completion 1", "completion 2"]);
    assert_eq!(trace[6..], ["timer 1", "timer 2"]);
    assert!(!event_loop.is_unfinished());
    run_once(&event_loop, &host);
    assert_eq!(host.trace(), ["later"]);
}

#[test]
fn an_interrupted_wait_is_told_and_goes_on() {
    let (event_loop, host) = (new_loop(), TestHost::default());
    host.interrupt.set(true);
    event_loop.push(log("job"));
    event_loop.force_poll();
    assert_eq!(run_once(&event_loop, &host), None);
    assert_eq!(host.trace(), ["interrupted", "job"]);
}

#[test]
fn a_break_after_the_wait_keeps_jobs_before_completions() {
    let (event_loop, host) = (new_loop(), TestHost::default());
    let _pair = readable(&event_loop, "completion");
    event_loop.push(log("job"));
    event_loop.force_poll();
    host.after_wait.replace(Some("signal"));
    assert_eq!(run_once(&event_loop, &host), Some("signal"));
    assert!(host.trace().is_empty());
    event_loop.push(log("later"));
    assert_eq!(run_once(&event_loop, &host), None);
    assert_eq!(host.trace(), ["job", "completion"]);
    assert_eq!(run_once(&event_loop, &host), None);
    assert_eq!(host.trace(), ["later"]);
}

/// A job that queues itself again for ever.
fn busy(event_loop: std::rc::Rc<EventLoop<TestHost>>, work: fn(&TestHost)) -> Run {
    Box::new(move |host| {
        work(host);
        let again = busy(event_loop.clone(), work);
        event_loop.push(again);
        ControlFlow::Continue(())
    })
}

#[test]
fn busy_loops_see_io_after_a_bounded_number_of_iterations() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    // A clock that stands still: only the number of iterations counts.
    host.fake_now.set(Some(Deadline(0)));
    event_loop.push(busy(event_loop.clone(), |_| {}));
    let (_ours, mut peer) = watched(&event_loop, "completion");
    run_once(&event_loop, &host);
    peer.write_all(b"x").unwrap();
    let waits = host.waits.get();
    for _ in 0..limits::ITERATIONS_PER_POLL {
        run_once(&event_loop, &host);
    }
    assert_eq!(host.trace(), ["completion"]);
    assert_eq!(host.waits.get() - waits, 1);
    drop(event_loop.close());
}

#[test]
fn what_the_program_did_is_looked_for_in_the_next_iteration() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    host.fake_now.set(Some(Deadline(0)));
    event_loop.push(busy(event_loop.clone(), |_| {}));
    run_once(&event_loop, &host);
    let _pair = readable(&event_loop, "watched just now");
    run_once(&event_loop, &host);
    assert_eq!(host.trace(), ["watched just now"]);
    let (_reader, sender) = watched(&event_loop, "sent just now");
    sender.set_nonblocking(true).unwrap();
    let token = event_loop.add_source(sender.as_raw_fd(), "sender").unwrap();
    run_once(&event_loop, &host);
    event_loop.driver.borrow_mut().try_send(token, b"x").unwrap();
    run_once(&event_loop, &host);
    assert_eq!(host.trace(), ["sent just now"]);
    let waits = host.waits.get();
    run_once(&event_loop, &host);
    assert_eq!(host.waits.get(), waits, "nothing was done");
    drop(event_loop.close());
}

#[test]
fn slow_jobs_make_every_iteration_look_for_io() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    host.fake_now.set(Some(Deadline(0)));
    let slow = |host: &TestHost| {
        let now = host.fake_now.get().unwrap();
        host.fake_now.set(Some(Deadline(now.0 + limits::POLL_INTERVAL_TICKS as i64)));
    };
    event_loop.push(busy(event_loop.clone(), slow));
    for _ in 0..10 {
        run_once(&event_loop, &host);
    }
    assert_eq!(host.waits.get(), 10);
    drop(event_loop.close());
}

#[test]
fn jobs_that_slow_completions_made_run_before_the_next_wait() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    host.fake_now.set(Some(Deadline(0)));
    let _pair = readable(&event_loop, "completion");
    let inner = event_loop.clone();
    let receive: Run = Box::new(move |host| {
        // As long as the loop may go without a wait.
        host.fake_now.set(Some(Deadline(limits::POLL_INTERVAL_TICKS as i64)));
        inner.push(busy(inner.clone(), |host| host.log("job")));
        ControlFlow::Continue(())
    });
    host.on_completed.borrow_mut().push(("completion", receive));
    run_once(&event_loop, &host);
    assert_eq!((host.trace(), host.waits.get()), (vec!["completion".to_owned()], 1));
    run_once(&event_loop, &host);
    assert_eq!((host.trace(), host.waits.get()), (vec!["job".to_owned()], 1));
    // The interval counts from there on.
    host.fake_now.set(Some(Deadline(2 * limits::POLL_INTERVAL_TICKS as i64)));
    run_once(&event_loop, &host);
    assert_eq!((host.trace(), host.waits.get()), (vec!["job".to_owned()], 2));
    drop(event_loop.close());
}

#[test]
fn timers_run_while_jobs_are_always_ready() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    host.fake_now.set(Some(Deadline(0)));
    event_loop.push(busy(event_loop.clone(), |_| {}));
    run_once(&event_loop, &host);
    event_loop.add_timer(Deadline(5), log("timer"));
    run_once(&event_loop, &host);
    assert!(host.trace().is_empty());
    host.fake_now.set(Some(Deadline(5)));
    run_once(&event_loop, &host);
    assert_eq!(host.trace(), ["timer"]);
    drop(event_loop.close());
}

#[test]
fn a_blocking_iteration_sleeps_until_the_timer_and_never_less() {
    let (event_loop, host) = (new_loop(), TestHost::default());
    let deadline = Deadline(host.now().0 + 3_000_000);
    event_loop.add_timer(
        deadline,
        Box::new(move |host: &TestHost| {
            assert!(host.now() >= deadline);
            host.log("timer");
            ControlFlow::Continue(())
        }),
    );
    while host.trace.borrow().is_empty() {
        assert!(event_loop.run_once(&host, true).is_continue());
    }
    assert!(host.waits.get() <= 2, "{} waits for one timer", host.waits.get());
}

#[test]
fn wakeups_from_four_threads_are_never_lost() {
    const THREADS: usize = 4;
    const ITEMS: usize = 25_000;
    let (event_loop, host) = (new_loop(), TestHost::default());
    let started = Arc::new(std::sync::Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (injector, started) = (event_loop.injector.clone(), started.clone());
            std::thread::spawn(move || {
                started.wait();
                for _ in 0..ITEMS {
                    injector.push("item").unwrap();
                }
            })
        })
        .collect();
    // No timer and no other source: a lost wakeup would hang here.
    while host.injected.load(SeqCst) < THREADS * ITEMS {
        assert!(event_loop.run_once(&host, true).is_continue());
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    run_once(&event_loop, &host);
    assert_eq!(host.trace().len(), THREADS * ITEMS);
}

#[test]
fn a_ping_pong_with_a_thread_wakes_every_sleep() {
    let (event_loop, host) = (new_loop(), TestHost::default());
    let (asked, asks) = std::sync::mpsc::channel();
    let injector = event_loop.injector.clone();
    let thread = std::thread::spawn(move || {
        for () in asks {
            injector.push("pong").unwrap();
        }
    });
    for round in 1..=2_000 {
        asked.send(()).unwrap();
        while host.injected.load(SeqCst) < round {
            assert!(event_loop.run_once(&host, true).is_continue());
        }
    }
    drop(asked);
    thread.join().unwrap();
}

#[test]
fn cancelled_timers_leave_no_memory() {
    let event_loop = new_loop();
    for _ in 0..3 {
        let keys: Vec<_> =
            (0..50_000).map(|ns| event_loop.add_timer(Deadline(ns), log("timer"))).collect();
        for key in keys {
            assert!(event_loop.remove_timer(key).is_some());
        }
        assert!(event_loop.timers.borrow().capacity() <= limits::TIMERS_KEPT_MAX);
    }
}

#[test]
fn a_removed_source_hears_nothing_more() {
    let (event_loop, host) = (std::rc::Rc::new(new_loop()), TestHost::default());
    let (ours, mut peer) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let token = event_loop.add_source(ours.as_raw_fd(), "gone").unwrap();
    event_loop.driver.borrow_mut().submit(token, Op::Recv).unwrap();
    peer.write_all(b"x").unwrap();
    // It is removed by a job of the same iteration whose wait has seen the byte.
    let inner = event_loop.clone();
    event_loop.push(Box::new(move |_: &TestHost| {
        assert_eq!(inner.remove_source(token), Some("gone"));
        assert_eq!(inner.remove_source(token), None);
        ControlFlow::Continue(())
    }));
    event_loop.force_poll();
    run_once(&event_loop, &host);
    assert!(host.trace().is_empty());
}

#[test]
fn a_closed_loop_gives_everything_back() {
    let (event_loop, host) = (new_loop(), TestHost::default());
    let _pair = readable(&event_loop, "source");
    event_loop.push(log_and_break("job 1"));
    event_loop.push(log("job 2"));
    event_loop.add_timer(Deadline(0), log("due"));
    event_loop.add_timer(Deadline::NEVER, log("far"));
    assert_eq!(run_once(&event_loop, &host), Some("job 1"));
    event_loop.injector.push("item").unwrap();
    let leftovers = event_loop.close();
    assert_eq!((leftovers.jobs.len(), leftovers.timers.len()), (1, 2));
    assert_eq!((leftovers.sources, leftovers.injected), (vec!["source"], vec!["item"]));
    assert!(leftovers.unsent.is_empty());
    assert!(matches!(event_loop.injector.push("late"), Err(PushError::Closed("late"))));
    let again = event_loop.close();
    assert!(again.jobs.is_empty() && again.timers.is_empty() && again.sources.is_empty());
}
