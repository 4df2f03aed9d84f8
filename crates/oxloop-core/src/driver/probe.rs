//! What this kernel allows, in words for `oxloop doctor`.
//!
//! Containers and sandboxes forbid calls that the kernel has, so the kernel's version says little:
//! each call is tried. io_uring is tried only when asked for: some sandboxes report or kill a
//! process that touches it, and the loop does not need it.

use std::io;
use std::os::fd::AsRawFd;

use crate::sys;

/// The state of one call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Availability {
    /// It works.
    Works,
    /// It does not, for this reason.
    Missing(String),
    /// It was not tried.
    NotTried,
}

/// What was found out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The kernel's release, as it names itself.
    pub kernel_release: String,
    /// Waits to the nanosecond.
    pub epoll_pwait2: Availability,
    /// Descriptors for processes.
    pub pidfd_open: Availability,
    /// The other I/O interface; tried only when asked for.
    pub io_uring: Availability,
}

impl Probe {
    /// Tries the calls; io_uring only `with_io_uring`.
    pub fn new(with_io_uring: bool) -> Probe {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        let kernel_release = release
            .map_or_else(|error| format!("unknown ({error})"), |release| release.trim().to_owned());
        let epoll_pwait2 =
            sys::epoll::create().and_then(|epoll| sys::probe::epoll_pwait2(epoll.as_raw_fd()));
        Probe {
            kernel_release,
            epoll_pwait2: availability(epoll_pwait2),
            pidfd_open: availability(sys::probe::pidfd_open()),
            io_uring: match with_io_uring {
                true => io_uring_availability(),
                false => Availability::NotTried,
            },
        }
    }

    /// One line per fact, `name: state`.
    pub fn describe(&self) -> Vec<String> {
        let timeouts = match &self.epoll_pwait2 {
            Availability::Works => "to the nanosecond (epoll_pwait2)".to_owned(),
            Availability::Missing(reason) => {
                format!("rounded up to milliseconds (no epoll_pwait2: {reason})")
            }
            Availability::NotTried => "not tried".to_owned(),
        };
        vec![
            format!("kernel: {}", self.kernel_release),
            "driver: epoll (works on every Linux, and containers allow it)".to_owned(),
            format!("timeouts: {timeouts}"),
            format!("pidfd_open: {}", in_words(&self.pidfd_open)),
            format!("io_uring: {} (there is no driver for it yet)", in_words(&self.io_uring)),
        ]
    }
}

fn in_words(availability: &Availability) -> String {
    match availability {
        Availability::Works => "allowed".to_owned(),
        Availability::Missing(reason) => format!("not available: {reason}"),
        Availability::NotTried => "not tried".to_owned(),
    }
}

fn availability(result: io::Result<()>) -> Availability {
    match result {
        Ok(()) => Availability::Works,
        Err(error) => Availability::Missing(error.to_string()),
    }
}

fn io_uring_availability() -> Availability {
    let Err(error) = sys::probe::io_uring_setup() else { return Availability::Works };
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let reason = match (error.kind(), setting.as_deref().map(str::trim)) {
        (io::ErrorKind::Unsupported, _) => "the kernel does not have it".to_owned(),
        (io::ErrorKind::PermissionDenied, Ok("0") | Err(_)) => {
            "forbidden by a seccomp filter or security module".to_owned()
        }
        (io::ErrorKind::PermissionDenied, Ok(level)) => {
            format!("forbidden by kernel.io_uring_disabled={level}")
        }
        _ => error.to_string(),
    };
    Availability::Missing(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_uring_is_tried_only_when_asked_for() {
        assert_eq!(Probe::new(false).io_uring, Availability::NotTried);
        assert_ne!(Probe::new(true).io_uring, Availability::NotTried);
    }

    #[test]
    fn every_fact_has_its_line() {
        let probe = Probe {
            kernel_release: "5.4.0".to_owned(),
            epoll_pwait2: Availability::Missing("no such call".to_owned()),
            pidfd_open: Availability::Works,
            io_uring: Availability::NotTried,
        };
        assert_eq!(
            probe.describe(),
            [
                "kernel: 5.4.0",
                "driver: epoll (works on every Linux, and containers allow it)",
                "timeouts: rounded up to milliseconds (no epoll_pwait2: no such call)",
                "pidfd_open: allowed",
                "io_uring: not tried (there is no driver for it yet)",
            ]
        );
    }
}
