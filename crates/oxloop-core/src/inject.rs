//! The injector: how other threads give the loop work, and wake it.
//!
//! The wakeup is a system call, so it is made only if the loop has announced that it sleeps, and
//! once per sleep. That needs care, for a wakeup that is left out by mistake is a loop that hangs.
//!
//! Two flags, each written by one side and read by the other:
//! - `pending`: there is something for the loop. Set by `push` (after the item is in the queue) and
//!   by `wake`; cleared by `drain`, which looks into the queue afterwards.
//! - `sleeping`: the loop is about to block or blocks. Set by `before_wait`, cleared by
//!   `after_wait` and by whoever takes it upon himself to wake the loop.
//!
//! A pusher writes `pending`, then reads `sleeping`. The loop writes `sleeping`, then reads
//! `pending`. Between its write and its read each has a sequentially consistent fence; the fences
//! are in one order, and whoever comes second reads what the first has written: either the loop sees
//! the item and does not block, or the pusher sees the sleeper and wakes it. Of several pushers that
//! see the sleeper one clears the flag and makes the call; the others may leave it at that, since the
//! wakeup is level: it stays until a wait has seen it. A call that fails puts `sleeping` back, so
//! that the next pusher tries again, and is reported to the one who made it. `tests/loom.rs` goes
//! through the interleavings.
//!
//! `drain` clears `pending` under the queue's lock, under which `push` sets it: a cleared flag
//! means an empty queue. A `wake` that falls between is not lost: it ends the sleep that was under
//! way, or it came while the loop was awake and about to look at what the waker had changed before.
//!
//! What can still go wrong: the queue has no bound; a thread that pushes faster than the loop
//! drains fills the memory, as asyncio's `call_soon_threadsafe` does.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError};

#[cfg(loom)]
use loom::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release, SeqCst},
    fence,
};
#[cfg(loom)]
use loom::sync::{Mutex, MutexGuard};
#[cfg(not(loom))]
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release, SeqCst},
    fence,
};
#[cfg(not(loom))]
use std::sync::{Mutex, MutexGuard};

use crate::driver::Wake;
use crate::mutant::planted;

/// Why a push did not do all that it should.
#[derive(Debug)]
pub enum PushError<T> {
    /// The loop is closed; the item comes back.
    Closed(T),
    /// The item is queued, but the loop sleeps and could not be woken.
    Wake(io::Error),
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Closed(_) => f.write_str("the event loop is closed"),
            PushError::Wake(error) => write!(f, "the event loop could not be woken: {error}"),
        }
    }
}

impl<T: fmt::Debug> std::error::Error for PushError<T> {}

/// The two flags of the header's reasoning, and nothing else.
#[derive(Debug, Default)]
struct Flags {
    pending: AtomicBool,
    sleeping: AtomicBool,
}

impl Flags {
    /// Says that there is something. Whether the caller must now wake the loop.
    fn announce_work(&self) -> bool {
        self.pending.store(true, Release);
        fence(SeqCst);
        if planted!(WakeLeftOut) {
            return false;
        }
        self.sleeping.load(Acquire) && self.sleeping.swap(false, SeqCst)
    }

    /// Takes back that the loop was woken.
    fn wake_failed(&self) {
        if !planted!(FailedWakeForgotten) {
            self.sleeping.store(true, SeqCst);
        }
    }

    /// Says that the loop goes to sleep. Whether it may.
    fn announce_sleep(&self) -> bool {
        self.sleeping.store(true, Release);
        fence(SeqCst);
        let may_sleep = !self.pending.load(Acquire) || planted!(SleepIgnoresWork);
        if planted!(SleepClearsWork) {
            self.pending.store(false, SeqCst);
        }
        if !may_sleep {
            self.sleeping.store(false, SeqCst);
        }
        may_sleep
    }

    fn awake(&self) {
        self.sleeping.store(false, SeqCst);
    }

    fn clear_work(&self) {
        self.pending.store(false, SeqCst);
    }

    fn has_work(&self) -> bool {
        self.pending.load(SeqCst)
    }
}

struct Queue<T> {
    items: Vec<T>,
    closed: bool,
}

/// A queue from any thread to the loop's.
pub struct Injector<T> {
    queue: Mutex<Queue<T>>,
    flags: Flags,
    wake: Arc<dyn Wake>,
}

impl<T: Send> Injector<T> {
    /// An empty injector that wakes the loop by `wake`.
    pub fn new(wake: Arc<dyn Wake>) -> Self {
        let queue = Mutex::new(Queue { items: Vec::new(), closed: false });
        Injector { queue, flags: Flags::default(), wake }
    }

    /// Gives an item to the loop, from any thread.
    ///
    /// # Errors
    /// [`PushError::Closed`] gives the item back; with [`PushError::Wake`] it is queued.
    pub fn push(&self, item: T) -> Result<(), PushError<T>> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(PushError::Closed(item));
        }
        queue.items.push(item);
        let must_wake = self.flags.announce_work();
        drop(queue);
        if must_wake { self.wake_sleeper().map_err(PushError::Wake) } else { Ok(()) }
    }

    /// Moves all items to the end of `out`.
    pub fn drain(&self, out: &mut Vec<T>) {
        if self.is_empty() {
            return;
        }
        let mut queue = self.queue();
        if planted!(DrainClearsLate) {
            out.append(&mut queue.items);
            drop(queue);
            self.flags.clear_work();
            return;
        }
        self.flags.clear_work();
        if out.is_empty() {
            std::mem::swap(out, &mut queue.items);
            if planted!(DrainOutOfOrder) {
                out.reverse();
            }
        } else {
            out.append(&mut queue.items);
        }
    }

    /// Whether nothing was pushed and nobody called `wake` since the last `drain`. One atomic load.
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.flags.has_work()
    }

    /// Announces that the loop is about to block. `false`: it must not, there is something to
    /// drain. The loop's thread only; after `true`, `after_wait` must follow.
    pub fn before_wait(&self) -> bool {
        self.flags.announce_sleep()
    }

    /// Says that the loop is awake again. The loop's thread only.
    pub fn after_wait(&self) {
        self.flags.awake();
    }

    /// Refuses all items from now on and gives back those that were not drained. Idempotent.
    pub fn close(&self) -> Vec<T> {
        let mut queue = self.queue();
        queue.closed = true;
        self.flags.clear_work();
        std::mem::take(&mut queue.items)
    }

    /// Ends the wait that is under way, or keeps the loop from the next, without an item.
    ///
    /// # Errors
    /// The wakeup could not be written; the loop may sleep on.
    pub fn wake(&self) -> io::Result<()> {
        if self.flags.announce_work() { self.wake_sleeper() } else { Ok(()) }
    }

    fn wake_sleeper(&self) -> io::Result<()> {
        self.wake.wake().inspect_err(|_| self.flags.wake_failed())
    }

    /// Nothing that can panic is done under the lock, so a poisoned queue is whole.
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> fmt::Debug for Injector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Injector").field("flags", &self.flags).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct CountedWake {
        calls: AtomicUsize,
        fails: AtomicBool,
    }

    impl Wake for CountedWake {
        fn wake(&self) -> io::Result<()> {
            self.calls.fetch_add(1, SeqCst);
            if self.fails.load(SeqCst) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
        }
    }

    fn injector() -> (Arc<CountedWake>, Injector<u32>) {
        let wake = Arc::new(CountedWake::default());
        (wake.clone(), Injector::new(wake))
    }

    #[test]
    fn wakes_a_sleeper_once_and_nobody_else() {
        let (wake, injector) = injector();
        injector.push(1).unwrap();
        assert_eq!(wake.calls.load(SeqCst), 0);
        assert!(!injector.before_wait(), "something is queued");
        let mut items = Vec::new();
        injector.drain(&mut items);
        assert!(injector.before_wait());
        injector.push(2).unwrap();
        injector.push(3).unwrap();
        assert_eq!(wake.calls.load(SeqCst), 1);
        injector.after_wait();
        injector.drain(&mut items);
        assert_eq!(items, [1, 2, 3]);
        assert!(injector.is_empty());
    }

    #[test]
    fn a_bare_wake_counts_as_something_queued() {
        let (wake, injector) = injector();
        injector.wake().unwrap();
        assert!(!injector.before_wait());
        injector.drain(&mut Vec::new());
        assert!(injector.before_wait());
        injector.wake().unwrap();
        assert_eq!(wake.calls.load(SeqCst), 1);
    }

    #[test]
    fn a_failed_wake_is_reported_and_tried_again() {
        let (wake, injector) = injector();
        assert!(injector.before_wait());
        wake.fails.store(true, SeqCst);
        assert!(matches!(injector.push(1), Err(PushError::Wake(_))));
        wake.fails.store(false, SeqCst);
        injector.push(2).unwrap();
        assert_eq!(wake.calls.load(SeqCst), 2);
        let mut items = Vec::new();
        injector.drain(&mut items);
        assert_eq!(items, [1, 2]);
    }

    #[test]
    fn a_closed_injector_gives_everything_back() {
        let (_, injector) = injector();
        injector.push(1).unwrap();
        assert_eq!(injector.close(), [1]);
        assert!(matches!(injector.push(2), Err(PushError::Closed(2))));
        assert!(injector.close().is_empty());
    }
}
