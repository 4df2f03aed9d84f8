//! Which thread runs a handle of `call_soon_threadsafe`, and waiting until it has.
//!
//! Facts: from Python 3.14 on, `cancel()` and `cancelled()` of such a handle, called in another
//! thread while its callback runs, wait until the callback has returned (asyncio gives the handle a
//! lock). Whoever cancels knows afterwards that the callback either never runs or has run.
//! Decision: no lock for each handle. It remembers the thread that runs it; who has to wait does so
//! on one condition variable for all handles, without the GIL. The runner reads the count of
//! waiters after its own mark is gone, a waiter reads the mark after it has counted itself, both in
//! one total order: so either the waiter finds the mark gone or the runner finds the waiter.
//! What can still go wrong: a callback that waits for the thread that waits for it hangs both, as
//! on asyncio.
//! Source of behaviour: CPython 3.14 `Lib/asyncio/events.py` (`_ThreadSafeHandle`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;

/// The handle is cancelled by its loop's thread only: nobody asks who runs it.
const UNSHARED: u64 = 0;
/// May be cancelled by any thread; not running.
const IDLE: u64 = 1;

/// How often a waiting thread looks whether a signal has arrived.
const SIGNAL_CHECK_INTERVAL_MS: u64 = 50;

static WAITERS: AtomicU64 = AtomicU64::new(0);
static LOCK: Mutex<()> = Mutex::new(());
static ENDED: Condvar = Condvar::new();

/// A number that no other living thread has, and which is none of the constants above.
fn this_thread() -> u64 {
    thread_local! {
        static PLACE: u64 = const { 0 };
    }
    PLACE.with(|place| std::ptr::from_ref(place) as u64)
}

/// Who runs a handle.
pub struct Runner(AtomicU64);

impl Runner {
    pub const fn unshared() -> Self {
        Self(AtomicU64::new(UNSHARED))
    }

    /// From now on other threads may cancel the handle.
    pub fn share(&self) {
        self.0.store(IDLE, Ordering::SeqCst);
    }

    #[inline]
    pub fn is_shared(&self) -> bool {
        self.0.load(Ordering::Relaxed) != UNSHARED
    }

    /// Marks the handle as run by this thread until the answer is dropped.
    #[inline]
    pub fn running(&self) -> Option<Running<'_>> {
        if !self.is_shared() {
            return None;
        }
        self.0.store(this_thread(), Ordering::SeqCst);
        Some(Running(self))
    }

    fn is_elsewhere(&self) -> bool {
        let runner = self.0.load(Ordering::SeqCst);
        runner != UNSHARED && runner != IDLE && runner != this_thread()
    }

    /// Waits until no other thread runs the handle; signal handlers run meanwhile, and may raise.
    #[inline]
    pub fn wait(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_elsewhere() { self.wait_for_end(py) } else { Ok(()) }
    }

    #[cold]
    fn wait_for_end(&self, py: Python<'_>) -> PyResult<()> {
        let interval = Duration::from_millis(SIGNAL_CHECK_INTERVAL_MS);
        WAITERS.fetch_add(1, Ordering::SeqCst);
        let mut signalled = Ok(());
        while self.is_elsewhere() && signalled.is_ok() {
            py.detach(|| {
                let guard = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
                if self.is_elsewhere() {
                    drop(ENDED.wait_timeout(guard, interval));
                }
            });
            signalled = py.check_signals();
        }
        WAITERS.fetch_sub(1, Ordering::SeqCst);
        signalled
    }
}

/// A handle is being run.
pub struct Running<'a>(&'a Runner);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.0.store(IDLE, Ordering::SeqCst);
        if WAITERS.load(Ordering::SeqCst) != 0 {
            // A waiter holds the lock only while it looks, and needs nothing of ours for that.
            drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
            ENDED.notify_all();
        }
    }
}
