//! epoll instances of the simulated kernel, and the wait.
//!
//! As Linux's: a registration belongs to a number and the file behind it, is level-triggered unless
//! asked otherwise, and goes when the last number of the file does. A wait lets the virtual clock
//! jump to whatever comes first: an event, or the end of the timeout. With neither, nothing can ever
//! happen: that is an error here, where a real kernel would sleep for ever.

use std::io;
use std::os::fd::RawFd;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::fault::{Call, Fault, error};
use super::stream::Chance;
use super::world::{File, Visit, World};
use super::{Shared, SimKernel};
use crate::sys::epoll::{self, Ctl, Event};

/// A registration.
#[derive(Debug)]
struct Item {
    number: RawFd,
    place: usize,
    mask: u32,
    data: u64,
    /// Writes of an edge-triggered eventfd that were reported.
    seen: u64,
}

/// An epoll instance.
#[derive(Debug, Default)]
pub(super) struct Poll {
    items: Vec<Item>,
    /// Registrations that are gone and may be reported once more.
    ghosts: Vec<u64>,
}

impl Poll {
    /// Whether a number is registered for the file behind it.
    pub(super) fn watches(&self, number: RawFd, place: usize) -> bool {
        self.items.iter().any(|item| item.number == number && item.place == place && item.mask != 0)
    }

    /// A file is gone.
    pub(super) fn forget(&mut self, place: usize, chance: &mut Chance) {
        let ghosts = &mut self.ghosts;
        self.items.retain(|item| {
            if item.place == place && chance.strikes(Fault::Stale) {
                ghosts.push(item.data);
            }
            item.place != place
        });
    }

    fn ctl(&mut self, ctl: Ctl, item: Item, chance: &mut Chance) -> Result<(), i32> {
        let mut known = self.items.iter();
        let index = known.position(|old| (old.number, old.place) == (item.number, item.place));
        match (ctl, index) {
            (Ctl::Add, Some(_)) => return Err(libc::EEXIST),
            (Ctl::Add, None) => self.items.push(item),
            (_, None) => return Err(libc::ENOENT),
            (Ctl::Modify, Some(index)) => self.items[index] = item,
            (Ctl::Delete, Some(index)) => {
                let removed = self.items.swap_remove(index);
                if chance.strikes(Fault::Stale) {
                    self.ghosts.push(removed.data);
                }
            }
        }
        Ok(())
    }
}

impl World {
    pub(super) fn epoll_ctl(
        &mut self,
        epoll: RawFd,
        ctl: Ctl,
        number: RawFd,
        mask: u32,
        data: u64,
    ) -> Result<(), i32> {
        self.enter(match ctl {
            Ctl::Add => Call::EpollAdd,
            Ctl::Modify => Call::EpollModify,
            Ctl::Delete => Call::EpollDelete,
        })?;
        self.has_progress = true;
        let place = self.place(number)?;
        if let Some(File::Regular) = self.file_at(place) {
            return Err(libc::EPERM);
        }
        let poll_place = self.place(epoll)?;
        let item = Item { number, place, mask, data, seen: 0 };
        self.with_poll(poll_place, |poll, world| poll.ctl(ctl, item, &mut world.chance))
    }

    /// Lends an epoll instance out, with the rest of the world beside it.
    fn with_poll<R>(
        &mut self,
        place: usize,
        action: impl FnOnce(&mut Poll, &mut World) -> Result<R, i32>,
    ) -> Result<R, i32> {
        let Some(File::Epoll(poll)) = self.file_at_mut(place) else { return Err(libc::EINVAL) };
        let mut lent = std::mem::take(poll);
        let result = action(&mut lent, self);
        if let Some(File::Epoll(poll)) = self.file_at_mut(place) {
            *poll = lent;
        }
        result
    }

    /// What another thread does now.
    fn pop_visit(&mut self) -> Option<Visit> {
        let first = self.visits.first_entry()?;
        (first.key().0 <= self.timeline.now_ns()).then(|| first.remove())
    }

    /// The events that a wait reports now.
    fn collect(&mut self, place: usize, events: &mut Vec<Event>) -> Result<(), i32> {
        self.with_poll(place, |poll, world| {
            let mut spurious = None;
            if world.chance.strikes(Fault::SpuriousReadiness) {
                spurious = Some(world.chance.random.size(0, poll.items.len().saturating_sub(1)));
            }
            for (number, item) in poll.items.iter_mut().enumerate() {
                let (readiness, writes) = world.readiness(item.place);
                let mut mask = readiness & (item.mask | epoll::ERR | epoll::HUP);
                if item.mask & epoll::EDGE != 0 {
                    if item.seen == writes {
                        continue;
                    }
                    item.seen = writes;
                } else if mask == 0 && spurious == Some(number) {
                    mask = item.mask & (epoll::IN | epoll::OUT);
                }
                if mask != 0 {
                    events.push(Event { events: mask, u64: item.data });
                }
            }
            for data in poll.ghosts.drain(..) {
                let mask = epoll::IN | epoll::OUT | epoll::HUP;
                events.push(Event { events: mask, u64: data });
            }
            Ok(())
        })?;
        if self.chance.strikes(Fault::Reorder) {
            self.chance.random.shuffle(events);
        }
        // Edges are told once and cannot be kept back; their data is the driver's 0.
        if events.len() > 1 && self.chance.strikes(Fault::Late) {
            let kept = self.chance.random.size(1, events.len() - 1);
            let mut place = 0;
            events.retain(|event| {
                place += 1;
                place <= kept || event.u64 == 0
            });
        }
        events.truncate(events.capacity());
        Ok(())
    }
}

impl SimKernel {
    /// epoll_pwait2 and epoll_wait.
    pub(super) fn wait(
        &self,
        epoll: RawFd,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        events.clear();
        self.sleep(timeout, |world| {
            let place = world.place(epoll)?;
            world.collect(place, events)?;
            for event in events.iter() {
                let (mask, data) = (event.events, event.u64);
                world.note(data ^ u64::from(mask) << 40);
            }
            Ok(events.len())
        })
    }

    /// Sleeps until `look` finds something, which says how much, or until the timeout has passed.
    pub(super) fn sleep(
        &self,
        timeout: Option<Duration>,
        mut look: impl FnMut(&mut World) -> Result<usize, i32>,
    ) -> io::Result<()> {
        let mut world = self.lock();
        let began_ns = world.timeline.now_ns();
        let timeout_ns =
            timeout.map(|timeout| i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX));
        let deadline_ns = timeout_ns.map(|timeout_ns| began_ns.saturating_add(timeout_ns));
        world.enter(Call::EpollWait).map_err(error)?;
        let mut has_slept = false;
        loop {
            world.settle();
            if let Some(visit) = world.pop_visit() {
                drop(world);
                (visit.0)();
                world = self.lock();
                continue;
            }
            let found = look(&mut world).map_err(error)?;
            let now_ns = world.timeline.now_ns();
            if found > 0 || deadline_ns.is_some_and(|deadline_ns| deadline_ns <= now_ns) {
                world.note_wake(found, has_slept);
                return Ok(());
            }
            has_slept = true;
            if world.outside > 0 {
                world = self.shared.wait_outside(world);
                continue;
            }
            let next_visit_ns = world.visits.keys().next().map(|(at_ns, _)| *at_ns);
            let next_ns = world.timeline.next_ns().into_iter().chain(next_visit_ns);
            match next_ns.chain(deadline_ns).min() {
                Some(next_ns) => world.timeline.advance_to(next_ns),
                None => return Err(stands_still()),
            }
        }
    }
}

impl Shared {
    fn wait_outside<'a>(&self, world: MutexGuard<'a, World>) -> MutexGuard<'a, World> {
        self.woken.wait(world).unwrap_or_else(PoisonError::into_inner)
    }
}

fn stands_still() -> io::Error {
    io::Error::new(
        io::ErrorKind::Deadlock,
        "the simulation stands still: nothing is under way, no timer is set, and the loop waits",
    )
}
