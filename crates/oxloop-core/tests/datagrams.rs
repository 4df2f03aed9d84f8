//! Datagrams through a driver: one per completion, whole, within bounds, with their sender.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use oxloop_core::limits::{DATAGRAMS_PER_WAKE_MAX, READ_BYTES_PER_WAKE_MAX};
use oxloop_core::{
    AddressParts, Driver, EpollDriver, Op, Outcome, Side, Slab, SockAddr, Submitted, Token,
};

struct World {
    driver: EpollDriver<Vec<u8>>,
    tokens: Slab<()>,
}

/// A datagram, or the error in its place.
type Received = io::Result<(Vec<u8>, SockAddr)>;

impl World {
    fn new() -> Self {
        World { driver: EpollDriver::new().unwrap(), tokens: Slab::new() }
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
        EpollDriver::<Vec<u8>>::block(&mut wait, timeout).unwrap();
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

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn unix_pair() -> (UnixDatagram, UnixDatagram) {
    let (ours, peer) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    peer.set_nonblocking(true).unwrap();
    (ours, peer)
}

/// Sends until the kernel takes no more, at most `count`; how many it took.
fn fill(peer: &UnixDatagram, size: usize, count: usize) -> usize {
    let datagram = vec![b'x'; size];
    (0..count).take_while(|_| peer.send(&datagram).is_ok()).count()
}

#[test]
fn each_datagram_is_one_completion_even_an_empty_one() {
    let (ours, peer) = (udp(), udp());
    let mut world = World::new();
    world.receive(&ours);
    for payload in [&b"one"[..], b"", b"three"] {
        peer.send_to(payload, ours.local_addr().unwrap()).unwrap();
    }
    let sender = SockAddr::from(peer.local_addr().unwrap());
    let mut received = Vec::new();
    while received.len() < 3 {
        received.extend(world.turn(None).into_iter().map(Result::unwrap));
    }
    let expected = [&b"one"[..], b"", b"three"].map(|payload| (payload.to_vec(), sender));
    assert_eq!(received, expected);
    assert!(world.turn(Some(Duration::ZERO)).is_empty());
}

#[test]
fn a_cancel_between_two_datagrams_leaves_the_second_in_the_kernel() {
    let (ours, peer) = unix_pair();
    let mut world = World::new();
    let token = world.receive(&ours);
    assert_eq!(fill(&peer, 1, 2), 2);
    world.wait(None);
    let (payload, sender) = world.next().unwrap().unwrap();
    assert_eq!((payload, sender.parts()), (b"x".to_vec(), AddressParts::Unnamed));
    world.driver.cancel(token, Side::Read);
    assert!(world.next().is_none());
    assert!(world.turn(Some(Duration::ZERO)).is_empty(), "no spin, nothing late");
    world.arm(token);
    assert_eq!(world.turn(None).len(), 1);
}

#[test]
fn a_wake_gives_a_bounded_number_and_a_bounded_size() {
    let (ours, peer) = unix_pair();
    let mut world = World::new();
    world.receive(&ours);
    let mut sent = 0;
    let mut received = 0;
    // The kernel queues fewer than a wake may give: refill between the completions.
    world_turns(&mut world, || {
        let more = fill(&peer, 1, 2);
        sent += more;
        sent <= 4 * DATAGRAMS_PER_WAKE_MAX
    })
    .into_iter()
    .for_each(|count| {
        assert!(count <= DATAGRAMS_PER_WAKE_MAX);
        received += count;
    });
    assert!(received >= DATAGRAMS_PER_WAKE_MAX);

    let (ours, peer) = unix_pair();
    let mut world = World::new();
    world.receive(&ours);
    let size = 64 * 1024;
    let mut sent = 0;
    let counts = world_turns(&mut world, || {
        sent += fill(&peer, size, 1);
        sent <= 32
    });
    let most = counts.into_iter().max().unwrap();
    assert_eq!(most, READ_BYTES_PER_WAKE_MAX / size);
}

/// Runs waits while `refill`, called before each completion, says so; the completions of each.
fn world_turns(world: &mut World, mut refill: impl FnMut() -> bool) -> Vec<usize> {
    let mut counts = Vec::new();
    while refill() {
        world.wait(None);
        let mut count = 0;
        while let Some(datagram) = world.next() {
            datagram.unwrap();
            count += 1;
            refill();
        }
        counts.push(count);
    }
    counts
}

#[test]
fn an_error_is_told_once_and_the_socket_goes_on() {
    let (ours, gone) = (udp(), udp());
    let address = gone.local_addr().unwrap();
    ours.connect(address).unwrap();
    let mut world = World::new();
    let token = world.receive(&ours);
    drop(gone);
    assert_eq!(world.driver.try_send(token, b"x").unwrap(), 1);
    let results = world.turn(None);
    let [Err(error)] = &results[..] else { panic!("expected one error, got {results:?}") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(world.turn(Some(Duration::ZERO)).is_empty());
}

#[test]
fn datagrams_are_sent_to_an_address() {
    let (ours, peer) = (udp(), udp());
    peer.set_nonblocking(false).unwrap();
    let mut world = World::new();
    let token = world.receive(&ours);
    let to = SockAddr::from(peer.local_addr().unwrap());
    assert_eq!(world.driver.try_send_to(token, b"hello", &to).unwrap(), 5);
    let mut buf = [0; 8];
    let (count, sender) = peer.recv_from(&mut buf).unwrap();
    assert_eq!((&buf[..count], sender), (&b"hello"[..], ours.local_addr().unwrap()));
    world.driver.release(token);
    let error = world.driver.try_send_to(token, b"late", &to).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
