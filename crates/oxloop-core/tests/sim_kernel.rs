//! The simulated kernel: its clock, its links, its faults, and what it catches its users at.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Duration;

use oxloop_core::driver::kernel::Kernel;
use oxloop_core::driver::sim::{Call, Fault, Faults, Link, SimFd};
use oxloop_core::{
    Completion, Driver, Op, Outcome, SimConfig, SimDriver, SimKernel, Slab, SockAddr, Submitted,
    Token,
};

type Bytes = Vec<u8>;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
const SLOW: Link = Link {
    latency_ns: 5_000_000,
    bytes_per_s: 1_000_000,
    send_buffer_bytes: 4_000,
    receive_buffer_bytes: 4_000,
    segment_bytes: 1_000,
};

struct World {
    kernel: SimKernel,
    driver: SimDriver<Bytes>,
    tokens: Slab<()>,
}

impl World {
    fn new(config: SimConfig) -> Self {
        let kernel = SimKernel::new(config);
        let driver = SimDriver::over(kernel.clone(), 64 * 1024).unwrap();
        World { kernel, driver, tokens: Slab::new() }
    }

    fn arm(&mut self, fd: &impl AsRawFd, op: Op<Bytes>) -> Token {
        let token = self.tokens.insert(());
        self.driver.register(token, fd.as_raw_fd()).unwrap();
        assert!(matches!(self.driver.submit(token, op).unwrap(), Submitted::Pending));
        token
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut wait = self.driver.begin_wait();
        let result = SimDriver::<Bytes>::block(&mut wait, timeout);
        self.driver.end_wait(wait);
        result
    }

    fn completion(&mut self) -> Completion<Bytes> {
        loop {
            if let Some(completion) = self.driver.next_completion() {
                return completion;
            }
            match self.wait(None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => result.unwrap(),
            }
        }
    }

    /// A listener of the server's, and a connection from the client: (listener, client, accepted).
    fn connected(&mut self) -> (SimFd, SimFd, SimFd) {
        let listener = self.kernel.listen(SocketAddr::new(SERVER, 80), 4).unwrap();
        let client = self.kernel.connect(CLIENT, SocketAddr::new(SERVER, 80)).unwrap();
        let listening = self.arm(&listener, Op::Accept);
        let connecting = self.arm(&client, Op::PollWrite);
        let mut accepted = None;
        while accepted.is_none() || !self.kernel.is_connected(client.as_raw_fd()) {
            match self.completion().outcome {
                Outcome::Accepted(Ok((fd, _))) => accepted = fd.into_kernel().err(),
                Outcome::Writable => {
                    assert!(self.driver.cancel(connecting, oxloop_core::Side::Write).is_none())
                }
                other => panic!("unexpected {other:?}"),
            }
        }
        self.driver.release(listening);
        self.driver.release(connecting);
        (listener, client, accepted.unwrap())
    }
}

fn over_a_slow_link(seed: u64) -> SimConfig {
    SimConfig { link: SLOW, ..SimConfig::new(seed) }
}

#[test]
fn connections_take_the_time_of_their_link_and_know_their_ends() {
    let mut world = World::new(over_a_slow_link(1));
    let (_listener, client, accepted) = world.connected();
    // A request and its answer.
    assert_eq!(world.kernel.now_ns(), 2 * SLOW.latency_ns);
    let (client, accepted) = (client.as_raw_fd(), accepted.as_raw_fd());
    assert_eq!(world.kernel.peer_address(client).unwrap(), SocketAddr::new(SERVER, 80));
    assert_eq!(
        world.kernel.peer_address(accepted).unwrap(),
        world.kernel.local_address(client).unwrap()
    );
    assert!(world.kernel.take_error(client).unwrap().is_none());

    // The buffers bound what is under way; the rate decides when it arrives.
    let sent = world.kernel.send(client, &[7; 10_000]).unwrap();
    assert_eq!(sent, SLOW.send_buffer_bytes);
    let start_ns = world.kernel.now_ns();
    let mut got = 0;
    let mut buf = [0; 10_000];
    while got < sent {
        world.kernel.pass_ns(500_000);
        match world.kernel.recv(accepted, &mut buf) {
            Ok(count) => got += count,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    let took_ns = world.kernel.now_ns() - start_ns;
    let least_ns = SLOW.latency_ns + 4_000_000;
    assert!((least_ns..=least_ns + 500_000).contains(&took_ns), "{took_ns} ns");
}

#[test]
fn a_wait_lets_the_clock_jump_and_one_that_cannot_end_is_an_error() {
    let mut world = World::new(SimConfig::new(1));
    world.wait(Some(Duration::from_secs(86_400))).unwrap();
    assert_eq!(world.kernel.now_ns(), 86_400_000_000_000);
    assert_eq!(world.wait(None).unwrap_err().kind(), io::ErrorKind::Deadlock);
    world.driver.wake().wake().unwrap();
    world.wait(None).unwrap();
}

#[test]
fn outside_work_stops_the_clock_until_it_wakes_the_loop() {
    let mut world = World::new(SimConfig::new(1));
    let (wake, outside) = (world.driver.wake(), world.kernel.outside_work());
    let thread = std::thread::spawn(move || {
        wake.wake().unwrap();
        drop(outside);
    });
    world.wait(Some(Duration::from_secs(60))).unwrap();
    thread.join().unwrap();
    assert_eq!(world.kernel.now_ns(), 0);
}

#[test]
fn nobody_listens_and_the_connect_fails() {
    let mut world = World::new(over_a_slow_link(1));
    let client = world.kernel.connect(CLIENT, SocketAddr::new(SERVER, 81)).unwrap();
    let connecting = world.arm(&client, Op::PollWrite);
    assert!(matches!(world.completion().outcome, Outcome::Writable));
    let error = world.kernel.take_error(client.as_raw_fd()).unwrap().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(!world.kernel.is_connected(client.as_raw_fd()));
    world.driver.release(connecting);
}

#[test]
fn closing_with_unread_bytes_resets_and_what_arrived_before_can_be_read() {
    let kernel = SimKernel::new(SimConfig::new(1));
    let (ours, peer) = kernel.pair(Link::LOCAL).unwrap();
    kernel.send(peer.as_raw_fd(), b"last words").unwrap();
    kernel.send(ours.as_raw_fd(), b"unread").unwrap();
    drop(peer);
    let mut buf = [0; 16];
    assert_eq!(kernel.recv(ours.as_raw_fd(), &mut buf).unwrap(), 10);
    let error = kernel.recv(ours.as_raw_fd(), &mut buf).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(kernel.recv(ours.as_raw_fd(), &mut buf).unwrap(), 0);
    let error = kernel.send(ours.as_raw_fd(), b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_peer_that_vanished_is_silent_and_found_out_in_the_end() {
    let mut world = World::new(over_a_slow_link(1));
    let (_listener, client, accepted) = world.connected();
    world.kernel.send(client.as_raw_fd(), b"on its way").unwrap();
    world.kernel.vanish(client.as_raw_fd()).unwrap();
    let token = world.arm(&accepted, Op::Recv);
    let start_ns = world.kernel.now_ns();
    let Outcome::Received(Err(error)) = world.completion().outcome else {
        panic!("expected an error")
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(world.kernel.now_ns() - start_ns > 60_000_000_000);
    world.driver.release(token);
}

#[test]
fn numbers_are_reused_at_once_and_run_out() {
    let kernel = SimKernel::new(SimConfig { numbers_max: 2, ..SimConfig::new(1) });
    let (first, _second) = kernel.pair(Link::LOCAL).unwrap();
    let error = kernel.pair(Link::LOCAL).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(24), "EMFILE");
    let number = first.as_raw_fd();
    drop(first);
    assert_eq!(kernel.regular_file().unwrap().as_raw_fd(), number);
}

#[test]
fn datagrams_arrive_whole_from_whom_sent_them_or_nobody_is_there() {
    let mut world = World::new(over_a_slow_link(1));
    let (here, there) = (SocketAddr::new(CLIENT, 53), SocketAddr::new(SERVER, 53));
    let ours = world.kernel.datagram(here, None).unwrap();
    let peer = world.kernel.datagram(there, Some(here)).unwrap();
    let token = world.arm(&peer, Op::RecvFrom);
    world.kernel.send_to(ours.as_raw_fd(), b"hello", &SockAddr::from(there)).unwrap();
    let Outcome::ReceivedFrom(Ok((5, from))) = world.completion().outcome else {
        panic!("expected a datagram")
    };
    assert_eq!((world.driver.received(), *from), (&b"hello"[..], SockAddr::from(here)));
    drop(ours);
    assert_eq!(world.driver.try_send(token, b"anybody").unwrap(), 7);
    let Outcome::ReceivedFrom(Err(error)) = world.completion().outcome else {
        panic!("expected an error")
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    world.driver.release(token);
}

#[test]
fn a_chosen_call_fails() {
    let world = World::new(SimConfig::new(1));
    let (ours, _peer) = world.kernel.pair(Link::LOCAL).unwrap();
    world.kernel.log_calls();
    world.kernel.fail_call(world.kernel.calls() + 1, 104);
    assert_eq!(world.kernel.send(ours.as_raw_fd(), b"a").unwrap(), 1);
    let error = world.kernel.send(ours.as_raw_fd(), b"b").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(world.kernel.send(ours.as_raw_fd(), b"b").unwrap(), 1);
    assert_eq!(world.kernel.logged_calls(), [Call::Send; 3]);
}

#[test]
fn users_are_caught_at_what_nobody_may() {
    let mut world = World::new(SimConfig::new(1));
    let (ours, _peer) = world.kernel.pair(Link::LOCAL).unwrap();
    let number = ours.as_raw_fd();
    world.arm(&ours, Op::Recv);
    assert!(world.kernel.take_breaches().is_empty());
    drop(ours);
    assert!(world.kernel.take_breaches()[0].contains("while a driver watched it"));
    world.kernel.recv(number, &mut [0]).unwrap_err();
    assert!(world.kernel.take_breaches()[0].contains("which is not open"));
}

#[test]
fn waits_that_end_in_vain_for_ever_are_a_breach() {
    let mut world = World::new(SimConfig::new(1));
    let (ours, peer) = world.kernel.pair(Link::LOCAL).unwrap();
    let token = world.arm(&ours, Op::PollRead);
    world.kernel.send(peer.as_raw_fd(), b"nobody reads this").unwrap();
    for _ in 0..100 {
        assert!(matches!(world.completion().outcome, Outcome::Readable));
    }
    assert!(world.kernel.take_breaches()[0].contains("spin"));
    world.driver.release(token);
}

/// What one end receives of a megabyte that the other sends, and the hash of the run.
fn transfer(seed: u64) -> (Bytes, u64) {
    let mut faults = Faults::none();
    for fault in [
        Fault::Interrupted,
        Fault::SpuriousReadiness,
        Fault::ShortReceive,
        Fault::ShortSend,
        Fault::Reorder,
        Fault::Late,
        Fault::Stale,
        Fault::Jitter,
        Fault::OldKernel,
    ] {
        faults.set(fault, 1_000);
    }
    let mut world = World::new(SimConfig { faults, call_ns_max: 2_000, ..over_a_slow_link(seed) });
    let (_listener, client, accepted) = world.connected();
    let sent: Bytes = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    let mut left = &sent[..];
    let mut got = Vec::new();
    let reading = world.arm(&accepted, Op::Recv);
    let writing = world.arm(&client, Op::PollWrite);
    while got.len() < sent.len() {
        match world.completion().outcome {
            Outcome::Received(Ok(_)) => got.extend_from_slice(world.driver.received()),
            Outcome::Writable => {
                if let Ok(count) = world.driver.try_send(writing, left) {
                    left = &left[count..];
                }
                if left.is_empty() {
                    world.driver.cancel(writing, oxloop_core::Side::Write);
                }
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    world.driver.release(reading);
    world.driver.release(writing);
    assert_eq!(got, sent);
    drop((client, accepted));
    assert!(world.kernel.take_breaches().is_empty());
    (got, world.kernel.trace())
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(transfer(7), transfer(7));
    assert_ne!(transfer(7).1, transfer(8).1);
}

#[test]
fn nothing_stays_open() {
    let world = World::new(SimConfig::new(1));
    let kernel = world.kernel.clone();
    assert_eq!(kernel.open_count(), 2, "the driver's own");
    let ends = kernel.pair(Link::LOCAL).unwrap();
    drop((ends, world));
    assert_eq!(kernel.open_count(), 0);
    assert!(kernel.take_breaches().is_empty());
}
