//! What can go wrong in a simulated kernel, and how often.
//!
//! Each fault has a rate in ten thousandths of its opportunities and is switched off at rate 0, so
//! that a failing run can be made smaller by switching off what it does not need. Every fault is
//! something that a real kernel may do; which call meets which is decided in `calls.rs`, `poll.rs`
//! and `stream.rs`. Apart from chance, one call of a run can be made to fail by its number.

use std::io;

use super::random::Random;

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident = $name:literal, $rate_max:literal;)*) => {
        /// A way in which a simulated kernel can be unpleasant.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Fault {
            $($(#[$doc])* $fault,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &'static [Fault] = &[$(Fault::$fault),*];

            /// The name on command lines.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name,)* }
            }

            /// The highest rate that is drawn.
            fn rate_max(self) -> u16 {
                match self { $(Fault::$fault => $rate_max,)* }
            }
        }
    };
}

faults! {
    /// A call says EINTR and has done nothing.
    Interrupted = "interrupted", 2_000;
    /// A wait reports a readiness that is not there: the call that follows says EAGAIN.
    SpuriousReadiness = "spurious-readiness", 2_000;
    /// A receive or read gives fewer bytes than there are.
    ShortReceive = "short-receive", 5_000;
    /// A send or write takes fewer bytes than there is room for.
    ShortSend = "short-send", 5_000;
    /// A wait reports its events in any order.
    Reorder = "reorder", 10_000;
    /// A wait keeps events back until a later one.
    Late = "late", 4_000;
    /// A wait, or a completion, concerns a registration that is gone.
    Stale = "stale", 6_000;
    /// A cancelled op had been done by the kernel already.
    LostCancel = "lost-cancel", 5_000;
    /// A connection is reset in mid-stream: both ends hear of it.
    Reset = "reset", 100;
    /// One end learns that the connection is gone, the other never does.
    TimedOut = "timed-out", 60;
    /// The peer's machine is gone: nothing arrives any more, no error comes.
    Vanish = "vanish", 60;
    /// A send says ENOBUFS or ENOMEM.
    SendResources = "send-resources", 60;
    /// A receive says ENOMEM or ENOBUFS.
    ReceiveResources = "receive-resources", 60;
    /// An accept says EMFILE, ENFILE, ENOBUFS or ENOMEM.
    AcceptResources = "accept-resources", 3_000;
    /// A connection is gone before it is accepted: ECONNABORTED.
    AcceptAborted = "accept-aborted", 2_000;
    /// The registration with epoll says ENOMEM or ENOSPC.
    WatchResources = "watch-resources", 100;
    /// A connect is refused or runs into a timeout.
    ConnectFails = "connect-fails", 2_000;
    /// A datagram is lost, doubled, or overtakes another.
    Datagrams = "datagrams", 3_000;
    /// Latency varies from segment to segment.
    Jitter = "jitter", 10_000;
    /// The kernel has no wait with nanoseconds.
    OldKernel = "old-kernel", 10_000;
}

/// How often each fault occurs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Faults {
    rates: [u16; Fault::ALL.len()],
}

impl Faults {
    /// A kernel that is as good as it can be.
    pub fn none() -> Self {
        Faults { rates: [0; Fault::ALL.len()] }
    }

    /// Each fault off or on, and at some rate; follows from the numbers.
    pub fn drawn(random: &mut Random) -> Self {
        let mut faults = Faults::none();
        for &fault in Fault::ALL {
            let is_on = random.chance(5_000);
            let rate = random.magnitude(1, u64::from(fault.rate_max())) as u16;
            if is_on {
                faults.set(fault, rate);
            }
        }
        faults
    }

    /// Times in ten thousand.
    #[inline]
    pub fn rate(&self, fault: Fault) -> u16 {
        self.rates[fault as usize]
    }

    /// Sets a rate, in ten thousandths; 0 is off.
    pub fn set(&mut self, fault: Fault, rate: u16) {
        self.rates[fault as usize] = rate.min(10_000);
    }

    /// The faults that are on.
    pub fn active(&self) -> impl Iterator<Item = Fault> + '_ {
        Fault::ALL.iter().copied().filter(|fault| self.rate(*fault) > 0)
    }
}

/// The calls of a kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // Each is the system call of its name.
pub enum Call {
    EpollCreate,
    EpollAdd,
    EpollModify,
    EpollDelete,
    EpollWait,
    Eventfd,
    EventfdWrite,
    EventfdRead,
    Read,
    Write,
    Recv,
    Send,
    RecvFrom,
    SendTo,
    Accept,
    Shutdown,
    Socket,
    Connect,
    Close,
}

/// The error of a number, as a system call gives it.
pub(super) fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Call {
    /// The numbers of the errors that a real kernel may give for this call at any time. Close has
    /// none: whatever it says, the descriptor is gone.
    pub fn plausible_errors(self) -> &'static [i32] {
        match self {
            Call::EpollCreate | Call::Eventfd | Call::Socket => {
                &[libc::EMFILE, libc::ENFILE, libc::ENOMEM]
            }
            Call::EpollAdd => &[libc::ENOMEM, libc::ENOSPC, libc::EPERM],
            Call::EpollWait => &[libc::EINTR],
            Call::EventfdWrite | Call::EventfdRead => &[libc::EINTR],
            Call::Read => &[libc::EINTR, libc::EAGAIN, libc::EIO, libc::ENOMEM],
            Call::Write => &[libc::EINTR, libc::EAGAIN, libc::EPIPE, libc::EIO, libc::ENOMEM],
            Call::Recv => &[
                libc::EINTR,
                libc::EAGAIN,
                libc::ENOMEM,
                libc::ENOBUFS,
                libc::ECONNRESET,
                libc::ETIMEDOUT,
                libc::ENOTCONN,
            ],
            Call::Send => &[
                libc::EINTR,
                libc::EAGAIN,
                libc::ENOMEM,
                libc::ENOBUFS,
                libc::EPIPE,
                libc::ECONNRESET,
                libc::ETIMEDOUT,
                libc::ENOTCONN,
            ],
            Call::RecvFrom => {
                &[libc::EINTR, libc::EAGAIN, libc::ENOMEM, libc::ENOBUFS, libc::ECONNREFUSED]
            }
            Call::SendTo => &[
                libc::EINTR,
                libc::EAGAIN,
                libc::ENOBUFS,
                libc::ECONNREFUSED,
                libc::EPERM,
                libc::EHOSTUNREACH,
            ],
            Call::Accept => &[
                libc::EINTR,
                libc::EAGAIN,
                libc::ECONNABORTED,
                libc::EMFILE,
                libc::ENFILE,
                libc::ENOBUFS,
                libc::ENOMEM,
                libc::EPERM,
            ],
            Call::Shutdown => &[libc::ENOTCONN],
            Call::Connect => &[libc::ECONNREFUSED, libc::ETIMEDOUT, libc::ENETUNREACH],
            // These ask for nothing that could be lacking.
            Call::EpollModify | Call::EpollDelete | Call::Close => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_follow_from_the_seed_and_can_be_switched_off() {
        let mut faults = Faults::drawn(&mut Random::new(5));
        assert_eq!(faults, Faults::drawn(&mut Random::new(5)));
        assert!(faults.active().count() > 0);
        for &fault in Fault::ALL {
            faults.set(fault, 0);
        }
        assert_eq!(faults, Faults::none());
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Fault::ALL.len());
    }
}
