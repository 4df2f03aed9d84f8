//! An owned descriptor, of the process's kernel or of a simulated one.
//!
//! Who owns one need not know which: its number is what a driver is given, and dropping it closes it,
//! once. A simulated number means nothing to the process's kernel and is far from all that could.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::sim::SimFd;

/// An owned descriptor; closed on drop.
#[derive(Debug)]
pub enum Descriptor {
    /// Of the kernel that the process runs on.
    Kernel(OwnedFd),
    /// Of a simulated kernel. Boxed, so that the drop of a completion stays short.
    Simulated(Box<SimFd>),
}

impl Descriptor {
    /// The kernel's descriptor; a simulated one comes back.
    pub fn into_kernel(self) -> Result<OwnedFd, SimFd> {
        match self {
            Descriptor::Kernel(fd) => Ok(fd),
            Descriptor::Simulated(fd) => Err(*fd),
        }
    }
}

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Descriptor::Kernel(fd) => fd.as_raw_fd(),
            Descriptor::Simulated(fd) => fd.as_raw_fd(),
        }
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(fd: OwnedFd) -> Self {
        Descriptor::Kernel(fd)
    }
}

impl From<SimFd> for Descriptor {
    fn from(fd: SimFd) -> Self {
        Descriptor::Simulated(Box::new(fd))
    }
}
