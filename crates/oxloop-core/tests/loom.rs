//! Every interleaving, up to three preemptions, of what other threads do with the loop: give it
//! items, wake it, cancel a handle, hand a result over, and meet a loop that closes.
//!
//! Built only with `--cfg loom`, which exchanges the injector's lock and flags for loom's. A wakeup
//! that is lost shows as a deadlock, an item that is lost or doubled as a failed assertion, as does
//! a value that is read before it is there.
#![cfg(loom)]

use std::io;
use std::sync::Arc as StdArc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use oxloop_core::{Injector, PushError, Wake};

/// What ends the loop's sleep; level-triggered, as an eventfd is.
struct Event {
    is_set: Mutex<bool>,
    changed: Condvar,
    /// Wakes that fail before one succeeds.
    failures: Mutex<usize>,
}

impl Event {
    fn new(failures: usize) -> StdArc<Event> {
        StdArc::new(Event {
            is_set: Mutex::new(false),
            changed: Condvar::new(),
            failures: Mutex::new(failures),
        })
    }

    fn wait(&self) {
        let mut is_set = self.is_set.lock().unwrap();
        while !*is_set {
            is_set = self.changed.wait(is_set).unwrap();
        }
        *is_set = false;
    }
}

impl Wake for Event {
    fn wake(&self) -> io::Result<()> {
        let mut failures = self.failures.lock().unwrap();
        if *failures > 0 {
            *failures -= 1;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        drop(failures);
        *self.is_set.lock().unwrap() = true;
        self.changed.notify_one();
        Ok(())
    }
}

struct World<T> {
    injector: Arc<Injector<T>>,
    event: StdArc<Event>,
}

impl<T: Send + 'static> World<T> {
    fn new(failures: usize) -> Self {
        let event = Event::new(failures);
        World { injector: Arc::new(Injector::new(event.clone())), event }
    }

    /// One iteration with nothing else to do: sleep if that is allowed, then take what there is.
    fn turn(&self, out: &mut Vec<T>) {
        if self.injector.before_wait() {
            self.event.wait();
            self.injector.after_wait();
        }
        self.injector.drain(out);
    }

    fn push_from_a_thread(&self, items: Vec<T>) -> thread::JoinHandle<()> {
        let injector = self.injector.clone();
        thread::spawn(move || {
            items.into_iter().for_each(|item| assert!(injector.push(item).is_ok()))
        })
    }
}

/// Runs a model over every interleaving with at most three preemptions.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 20_000;
    builder.check(model);
}

#[test]
fn two_threads_push_and_the_loop_sleeps_and_takes_everything() {
    check(|| {
        let world = World::new(0);
        let threads = [world.push_from_a_thread(vec![1]), world.push_from_a_thread(vec![2])];
        let mut got = Vec::new();
        while got.len() < 2 {
            world.turn(&mut got);
        }
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_items_of_one_thread_come_in_its_order() {
    check(|| {
        let world = World::new(0);
        let thread = world.push_from_a_thread(vec![1, 2]);
        let mut got = Vec::new();
        while got.len() < 2 {
            world.turn(&mut got);
        }
        assert_eq!(got, [1, 2]);
        thread.join().unwrap();
    });
}

#[test]
fn a_wakeup_that_fails_is_told_and_made_up_for_by_the_next_push() {
    check(|| {
        let world = World::new(1);
        let injector = world.injector.clone();
        let thread = thread::spawn(move || {
            let first = injector.push(1);
            assert!(matches!(first, Ok(()) | Err(PushError::Wake(_))));
            let second = injector.push(2);
            // Only one call fails; if both saw a sleeper, the second woke it.
            assert!(first.is_ok() || second.is_ok());
            if second.is_err() {
                injector.push(3).unwrap();
            }
        });
        let mut got = Vec::new();
        while !got.contains(&2) {
            world.turn(&mut got);
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_handle_cancelled_by_another_thread_is_seen_by_the_loop_it_wakes() {
    check(|| {
        let world: World<()> = World::new(0);
        // The flag of a handle that lies in the loop's own queue; its setter uses no lock.
        let is_cancelled = Arc::new(AtomicBool::new(false));
        let (flag, injector) = (is_cancelled.clone(), world.injector.clone());
        let thread = thread::spawn(move || {
            flag.store(true, Relaxed);
            injector.wake().unwrap();
        });
        // A loop that has nothing but this handle to wait for. If the wakeup were lost, it would
        // sleep for ever; if it came before the flag, it would sleep again and for ever.
        let mut none = Vec::new();
        while !is_cancelled.load(Relaxed) {
            world.turn(&mut none);
        }
        assert!(none.is_empty());
        thread.join().unwrap();
    });
}

#[test]
fn a_cancel_by_the_injector_is_in_order_with_the_call_that_it_cancels() {
    #[derive(Debug, PartialEq)]
    enum Item {
        Call,
        Cancel,
        Other,
    }
    check(|| {
        let world = World::new(0);
        let canceller = world.push_from_a_thread(vec![Item::Call, Item::Cancel]);
        let other = world.push_from_a_thread(vec![Item::Other]);
        let mut got = Vec::new();
        while got.len() < 3 {
            world.turn(&mut got);
        }
        let place = |item: Item| got.iter().position(|found| *found == item).unwrap();
        assert!(place(Item::Call) < place(Item::Cancel));
        canceller.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_result_is_there_when_its_announcement_is() {
    check(|| {
        let world = World::new(0);
        let mut threads = Vec::new();
        for number in 1..=2 {
            let injector = world.injector.clone();
            threads.push(thread::spawn(move || {
                // Written without any order of its own: that the announcement brings it along is
                // what the model proves.
                let result = Arc::new(AtomicUsize::new(0));
                result.store(number, Relaxed);
                assert!(injector.push(result).is_ok());
            }));
        }
        let mut got: Vec<Arc<AtomicUsize>> = Vec::new();
        while got.len() < 2 {
            world.turn(&mut got);
        }
        let mut results: Vec<usize> = got.iter().map(|result| result.load(Relaxed)).collect();
        results.sort_unstable();
        assert_eq!(results, [1, 2]);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_push_meets_a_loop_that_closes_and_the_item_is_in_one_place() {
    check(|| {
        let world = World::new(0);
        let injector = world.injector.clone();
        let thread = thread::spawn(move || match injector.push(7) {
            Ok(()) => None,
            Err(PushError::Closed(item)) => Some(item),
            Err(PushError::Wake(error)) => panic!("{error}"),
        });
        let mut drained = Vec::new();
        world.injector.drain(&mut drained);
        let left = world.injector.close();
        let refused = thread.join().unwrap();
        let places = [drained.len(), left.len(), usize::from(refused.is_some())];
        assert_eq!(places.iter().sum::<usize>(), 1, "drained, left, refused: {places:?}");
        assert!(matches!(world.injector.push(8), Err(PushError::Closed(8))));
    });
}
