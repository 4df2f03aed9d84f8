//! The driver's contract for datagrams, over every driver: one per completion, whole, within bounds,
//! with their sender.

mod machines;

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use oxloop_core::driver::kernel::Kernel;
use oxloop_core::limits::{DATAGRAMS_PER_WAKE_MAX, READ_BYTES_PER_WAKE_MAX};
use oxloop_core::{Driver, Op, Outcome, Side, Slab, SockAddr, Submitted, Token};

use machines::{Linux, Machine, Simulated};

struct World<M: Machine> {
    machine: M,
    driver: M::Driver,
    tokens: Slab<()>,
}

/// A datagram, or the error in its place.
type Received = io::Result<(Vec<u8>, SockAddr)>;

impl<M: Machine> World<M> {
    fn new(machine: M) -> Self {
        World { driver: machine.driver(), machine, tokens: Slab::new() }
    }

    /// Sends until the kernel takes no more, at most `count`; how many it took.
    fn fill(&self, peer: &impl AsRawFd, size: usize, count: usize) -> usize {
        let (kernel, datagram) = (self.machine.kernel(), vec![b'x'; size]);
        (0..count).take_while(|_| kernel.send(peer.as_raw_fd(), &datagram).is_ok()).count()
    }

    fn receive(&mut self, socket: &impl AsRawFd) -> Token {
        let token = self.tokens.insert(());
        self.driver.register(token, socket.as_raw_fd()).unwrap();
        self.arm(token);
        token
    }

    fn arm(&mut self, token: Token) {
        assert!(matches!(self.driver.submit(token, Op::RecvFrom).unwrap(), Submitted::Pending));
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        assert!(!self.driver.has_completions());
        let mut wait = self.driver.begin_wait();
        M::Driver::block(&mut wait, timeout).unwrap();
        self.driver.end_wait(wait);
    }

    fn next(&mut self) -> Option<Received> {
        let Outcome::ReceivedFrom(result) = self.driver.next_completion()?.outcome else {
            panic!("expected a datagram")
        };
        Some(result.map(|(_, sender)| (self.driver.received().to_vec(), *sender)))
    }

    /// What one wait brings.
    fn turn(&mut self, timeout: Option<Duration>) -> Vec<Received> {
        self.wait(timeout);
        std::iter::from_fn(|| self.next()).collect()
    }
}

fn each_datagram_is_one_completion_even_an_empty_one<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let ((ours, address), (peer, sender)) =
        (world.machine.datagram(None), world.machine.datagram(None));
    world.receive(&ours);
    let to = SockAddr::from(address);
    for payload in [&b"one"[..], b"", b"three"] {
        let sent = world.machine.kernel().send_to(peer.as_raw_fd(), payload, &to).unwrap();
        assert_eq!(sent, payload.len());
    }
    let sender = SockAddr::from(sender);
    let mut received = Vec::new();
    while received.len() < 3 {
        received.extend(world.turn(None).into_iter().map(Result::unwrap));
    }
    let expected = [&b"one"[..], b"", b"three"].map(|payload| (payload.to_vec(), sender));
    assert_eq!(received, expected);
    assert!(world.turn(Some(Duration::ZERO)).is_empty());
}

fn a_cancel_between_two_datagrams_leaves_the_second_in_the_kernel<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.machine.datagram_pair();
    let token = world.receive(&ours);
    assert_eq!(world.fill(&peer, 1, 2), 2);
    world.wait(None);
    assert_eq!(world.next().unwrap().unwrap().0, b"x");
    world.driver.cancel(token, Side::Read);
    assert!(world.next().is_none());
    assert!(world.turn(Some(Duration::ZERO)).is_empty(), "no spin, nothing late");
    world.arm(token);
    assert_eq!(world.turn(None).len(), 1);
}

fn a_wake_gives_a_bounded_number<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.machine.datagram_pair();
    world.receive(&ours);
    let counts = turns(&mut world, &peer, 1, 2, 4 * DATAGRAMS_PER_WAKE_MAX);
    assert!(counts.iter().all(|count| *count <= DATAGRAMS_PER_WAKE_MAX));
    assert!(counts.iter().sum::<usize>() >= DATAGRAMS_PER_WAKE_MAX);
}

fn a_wake_gives_a_bounded_size<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.machine.datagram_pair();
    world.receive(&ours);
    let size = 32 * 1024;
    let counts = turns(&mut world, &peer, size, 1, 64);
    assert_eq!(counts.into_iter().max().unwrap(), READ_BYTES_PER_WAKE_MAX / size);
}

/// Runs waits; the number of completions of each. Kernels queue fewer datagrams than a wake may give,
/// so `step` are sent before each completion, until `most` were.
fn turns<M: Machine>(
    world: &mut World<M>,
    peer: &impl AsRawFd,
    size: usize,
    step: usize,
    most: usize,
) -> Vec<usize> {
    let mut counts = Vec::new();
    let mut sent = world.fill(peer, size, step);
    while sent <= most {
        world.wait(None);
        let mut count = 0;
        while let Some(datagram) = world.next() {
            datagram.unwrap();
            count += 1;
            sent += world.fill(peer, size, step);
        }
        counts.push(count);
        sent += world.fill(peer, size, step);
    }
    counts
}

fn an_error_is_told_once_and_the_socket_goes_on<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (gone, address) = world.machine.datagram(None);
    let (ours, _) = world.machine.datagram(Some(address));
    let token = world.receive(&ours);
    drop(gone);
    assert_eq!(world.driver.try_send(token, b"x").unwrap(), 1);
    let results = world.turn(None);
    let [Err(error)] = &results[..] else { panic!("expected one error, got {results:?}") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(world.turn(Some(Duration::ZERO)).is_empty());
}

fn datagrams_are_sent_to_an_address<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let ((ours, own), (peer, address)) =
        (world.machine.datagram(None), world.machine.datagram(None));
    let sending = world.receive(&ours);
    world.receive(&peer);
    let to = SockAddr::from(address);
    assert_eq!(world.driver.try_send_to(sending, b"hello", &to).unwrap(), 5);
    let received = world.turn(None).pop().unwrap().unwrap();
    assert_eq!(received, (b"hello".to_vec(), SockAddr::from(own)));
    world.driver.release(sending);
    let error = world.driver.try_send_to(sending, b"late", &to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

macro_rules! contract {
    ($($driver:ident: $machine:expr;)*) => {
        $(mod $driver {
            use super::*;
            contract! { @tests $machine;
                each_datagram_is_one_completion_even_an_empty_one
                a_cancel_between_two_datagrams_leaves_the_second_in_the_kernel
                a_wake_gives_a_bounded_number
                a_wake_gives_a_bounded_size
                an_error_is_told_once_and_the_socket_goes_on
                datagrams_are_sent_to_an_address
            }
        })*
    };
    (@tests $machine:expr; $($behaviour:ident)*) => {
        $(#[test]
        fn $behaviour() {
            super::$behaviour($machine);
        })*
    };
}

contract! {
    epoll: Linux;
    sim: Simulated::epoll(1);
    ring: Simulated::ring(1);
}
