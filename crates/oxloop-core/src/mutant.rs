//! Planted bugs: what the simulator, the torture and the contract must find.
//!
//! A checker is worth the bugs that it is shown to catch. Built with `--cfg oxloop_mutants`, the core
//! holds all of these bugs, and the one that `OXLOOP_MUTANT` names is alive; `scripts/mutants.sh`
//! lets each live in turn and asks for its death. Without that cfg `planted!` is `false` and the
//! bugs are not compiled; with it only a build that has debug assertions is possible, which no
//! release has.

/// Whether a planted bug is alive. Always false unless built for that.
macro_rules! planted {
    ($mutant:ident) => {{
        #[cfg(oxloop_mutants)]
        {
            $crate::mutant::is_alive($crate::mutant::Mutant::$mutant)
        }
        #[cfg(not(oxloop_mutants))]
        {
            false
        }
    }};
}

pub(crate) use planted;

#[cfg(all(oxloop_mutants, not(debug_assertions)))]
compile_error!("planted bugs are for builds with debug assertions only");

#[cfg(oxloop_mutants)]
macro_rules! mutants {
    ($($(#[$doc:meta])* $mutant:ident,)*) => {
        /// A planted bug.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Mutant {
            $($(#[$doc])* $mutant,)*
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Mutant] = &[$(Mutant::$mutant),*];
        }
    };
}

#[cfg(oxloop_mutants)]
mutants! {
    /// A slab gives out values for tokens of their predecessors.
    SlabGenerationUnchecked,
    /// The epoll driver takes an event for a source's successor.
    RegistrationGenerationUnchecked,
    /// `release` leaves the descriptor in epoll.
    ReleaseKeepsWatching,
    /// The former owner of a number keeps it.
    FormerOwnerKeepsNumber,
    /// The offset into the first chunk is forgotten after a short send.
    OffsetForgotten,
    /// What was sent stays in the queue.
    SentNotTakenOff,
    /// What a send left goes behind what was written since.
    LeftGoesBehind,
    /// What a failed send left is lost.
    LeftLostOnError,
    /// An interrupted call is told.
    InterruptedIsTold,
    /// A send that found no room forgets its bytes.
    NoRoomForgetsSend,
    /// An error of accept does not end the listener's turn.
    AcceptErrorGoesOn,
    /// A listener goes on accepting when descriptors ran out.
    AcceptNeverRests,
    /// `cancel` leaves the op of the read side.
    CancelKeepsOp,
    /// `cancel` of a watch leaves the descriptor, which is somebody else's, in epoll for a while.
    PollCancelIsLate,
    /// `cancel` of the write side loses the bytes.
    CancelLosesBytes,
    /// Interest that nobody has any more stays.
    StaleInterestStays,
    /// Interest is not told to the kernel.
    InterestNotAdded,
    /// `write_chunks` forgets flow control.
    ChunksForgetFlow,
    /// The protocol is paused at twice high water.
    PausesTooLate,
    /// The protocol is never resumed.
    NeverResumes,
    /// The protocol is resumed again and again.
    ResumesAgain,
    /// `pause_reading` leaves the op armed.
    PauseIgnored,
    /// The end of the stream leaves the op armed.
    EndStaysArmed,
    /// `write_eof` does not wait for what is queued.
    EofBeforeBytes,
    /// `close` does not wait for what is queued.
    CloseDropsQueue,
    /// `abort` forgets the send that is under way.
    AbortForgetsSend,
    /// The loop goes to sleep although there is work from another thread.
    SleepIgnoresWork,
    /// Announcing the sleep takes the mark of work away.
    SleepClearsWork,
    /// An item of another thread does not wake the loop.
    WakeLeftOut,
    /// Items of other threads come in another order.
    DrainOutOfOrder,
    /// The mark of work is cleared when the lock is gone; found by the models of `tests/loom.rs`.
    DrainClearsLate,
    /// A wakeup that failed is thought to be made; found by the models of `tests/loom.rs`.
    FailedWakeForgotten,
    /// The heap overlooks its last child.
    HeapOverlooksChild,
    /// Timers of one deadline run in any order.
    TiesAnyOrder,
    /// Timers run a millisecond early.
    TimersEarly,
    /// The loop sleeps without looking at its timers.
    SleepIgnoresTimers,
    /// Timers that were due when an iteration was broken off are lost.
    BreakLosesTimers,
    /// Completions that were left when an iteration was broken off are lost.
    BreakLosesCompletions,
}

/// Whether this one is alive: the one that `OXLOOP_MUTANT` names.
#[cfg(oxloop_mutants)]
pub fn is_alive(mutant: Mutant) -> bool {
    use std::sync::OnceLock;
    static ALIVE: OnceLock<Option<Mutant>> = OnceLock::new();
    *ALIVE.get_or_init(|| {
        let name = std::env::var("OXLOOP_MUTANT").ok()?;
        let mut all = Mutant::ALL.iter();
        let found = all.find(|mutant| format!("{mutant:?}") == name);
        Some(*found.unwrap_or_else(|| panic!("no mutant {name}")))
    }) == Some(mutant)
}
