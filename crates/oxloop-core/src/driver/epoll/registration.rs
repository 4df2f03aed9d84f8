//! What the epoll driver knows about each descriptor, and what it has told the kernel.
//!
//! epoll keeps one mask per descriptor. `wanted` follows from the armed ops; `kernel_mask` is what
//! the kernel was told last. Interest is added at once, because nothing would be reported
//! otherwise. Interest that is no longer wanted is taken back before the next wait (the owner puts
//! the token on a list), so that an op that ends and is armed again within an iteration costs
//! nothing, and no wait can return for an event that nobody wants.
//!
//! The kernel forgets a descriptor when its last copy is closed, and the number is given out again.
//! Whoever closes without `release` leaves a registration that the kernel may have forgotten. So an
//! Add that finds the number taken becomes a Modify, and the reverse; and a table says which token
//! a number belongs to now, so that a late `release` does not unhook its successor, nor an old
//! source write into the new one's connection.

use std::io;
use std::os::fd::RawFd;

use crate::buf::WriteQueue;
use crate::driver::kernel::Kernel;
use crate::mutant::planted;
use crate::slab::Token;
use crate::sys::epoll::{self, Ctl};

/// The op on the read side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ReadOp {
    Recv,
    RecvFrom,
    Poll,
    HangUp,
    Accept,
}

/// The op on the write side.
#[derive(Debug)]
pub(super) enum WriteOp<C> {
    Poll,
    Send(WriteQueue<C>),
}

/// One descriptor.
#[derive(Debug)]
pub(super) struct Registration<C> {
    pub(super) token: Token,
    /// -1 once another source was registered for the same number.
    pub(super) fd: RawFd,
    pub(super) read: Option<ReadOp>,
    pub(super) write: Option<WriteOp<C>>,
    /// Whether the socket calls work; a pipe or terminal is told apart by the first that fails.
    pub(super) is_socket: bool,
    /// Whether the last send was cut short, so that the next would only be refused.
    pub(super) send_is_full: bool,
    /// Whether the token is on the list of those whose interest must be looked at before a wait.
    pub(super) is_stale: bool,
    kernel_mask: u32,
}

impl<C> Registration<C> {
    fn wanted(&self) -> u32 {
        let read = match self.read {
            None => 0,
            Some(ReadOp::HangUp) => epoll::RDHUP,
            Some(_) => epoll::IN,
        };
        let write = if self.write.is_some() { epoll::OUT } else { 0 };
        read | write
    }

    /// Whether the kernel watches for more than is wanted.
    pub(super) fn has_unwanted_interest(&self) -> bool {
        self.kernel_mask & !self.wanted() != 0
    }

    /// Makes the kernel watch for at least what is wanted.
    pub(super) fn add_interest<K: Kernel>(&mut self, kernel: &K, epoll: RawFd) -> io::Result<()> {
        let is_enough = self.wanted() & !self.kernel_mask == 0
            || planted!(InterestNotAdded) && self.write.is_some();
        if is_enough { Ok(()) } else { self.set_interest(kernel, epoll) }
    }

    /// Makes the kernel watch for exactly what is wanted.
    pub(super) fn set_interest<K: Kernel>(&mut self, kernel: &K, epoll: RawFd) -> io::Result<()> {
        let wanted = self.wanted();
        let data = self.token.to_u64();
        if wanted == self.kernel_mask {
            return Ok(());
        }
        if wanted == 0 {
            self.kernel_mask = 0;
            return kernel.epoll_ctl(epoll, Ctl::Delete, self.fd, 0, data);
        }
        let (first, other) = match self.kernel_mask {
            0 => (Ctl::Add, Ctl::Modify),
            _ => (Ctl::Modify, Ctl::Add),
        };
        let result = kernel.epoll_ctl(epoll, first, self.fd, wanted, data).or_else(|error| {
            match error.kind() {
                io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => {
                    kernel.epoll_ctl(epoll, other, self.fd, wanted, data)
                }
                _ => Err(error),
            }
        });
        if result.is_ok() {
            self.kernel_mask = wanted;
        }
        result
    }
}

/// All descriptors of a driver.
#[derive(Debug)]
pub(super) struct Registrations<C> {
    /// By the index of the token.
    by_token: Vec<Option<Registration<C>>>,
    /// By the number of the descriptor, from `first_fd` on: the token to which it belongs now.
    by_fd: Vec<Option<Token>>,
    first_fd: RawFd,
}

impl<C> Registrations<C> {
    pub(super) fn new(first_fd: RawFd) -> Self {
        Registrations { by_token: Vec::new(), by_fd: Vec::new(), first_fd }
    }

    /// The place of a descriptor in `by_fd`; `None`: not a descriptor.
    #[inline]
    fn place(&self, fd: RawFd) -> Option<usize> {
        usize::try_from(fd.checked_sub(self.first_fd)?).ok()
    }

    #[inline]
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Registration<C>> {
        let is_anybody = planted!(RegistrationGenerationUnchecked);
        let found = self.by_token.get_mut(token.index())?.as_mut();
        found.filter(|found| found.token == token || is_anybody)
    }

    /// Adds a descriptor. `InvalidInput`: not a descriptor, or the token's place is taken.
    pub(super) fn insert(&mut self, token: Token, fd: RawFd) -> io::Result<()> {
        let fd_index = self.place(fd).ok_or(io::ErrorKind::InvalidInput)?;
        if self.by_token.len() <= token.index() {
            self.by_token.resize_with(token.index() + 1, || None);
        }
        if self.by_fd.len() <= fd_index {
            self.by_fd.resize(fd_index + 1, None);
        }
        if self.by_token[token.index()].is_some() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Some(former) = self.by_fd[fd_index].replace(token) {
            if let Some(former) = self.get(former).filter(|_| !planted!(FormerOwnerKeepsNumber)) {
                former.fd = -1;
                former.kernel_mask = 0;
            }
        }
        self.by_token[token.index()] = Some(Registration {
            token,
            fd,
            read: None,
            write: None,
            is_socket: true,
            send_is_full: false,
            is_stale: false,
            kernel_mask: 0,
        });
        Ok(())
    }

    /// Takes a descriptor out, unhooked from the kernel if it is still its own.
    pub(super) fn remove<K: Kernel>(
        &mut self,
        kernel: &K,
        token: Token,
        epoll: Option<RawFd>,
    ) -> Option<Registration<C>> {
        self.get(token)?;
        let mut removed = self.by_token[token.index()].take()?;
        let place = self.place(removed.fd);
        if let Some(owner) = place.and_then(|place| self.by_fd.get_mut(place)) {
            *owner = None;
        }
        removed.read = None;
        let send = removed.write.take();
        if let Some(epoll) =
            epoll.filter(|_| removed.kernel_mask != 0 && !planted!(ReleaseKeepsWatching))
        {
            // The kernel refuses if the descriptor was closed already; then it has forgotten it
            // too.
            let _ = removed.set_interest(kernel, epoll);
        }
        removed.write = send;
        Some(removed)
    }
}
