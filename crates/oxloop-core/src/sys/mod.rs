//! The only system calls, and the only `unsafe`.
//!
//! Each file wraps one family. A wrapper takes and gives Rust types, checks lengths, and turns a
//! failure into `io::Error`. Nothing here retries or decides: EINTR and EAGAIN surface as errors.

/// Runs a libc call that answers -1 on failure; gives `io::Result` of what it answered.
macro_rules! syscall {
    ($call:expr) => {{
        // SAFETY: the place of use states why the arguments are valid.
        let result = unsafe { $call };
        if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
    }};
}

mod address;
pub mod epoll;
pub mod eventfd;
pub mod fd;
pub mod library;
pub mod probe;
pub mod socket;
pub mod time;
