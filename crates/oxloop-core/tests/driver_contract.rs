//! The driver's contract, as a list of behaviours that is run over every driver.
//!
//! Each behaviour is a function generic over the machine: a kernel, what makes descriptors there, and
//! a driver. `contract!` makes tests of them for one. Sources are socket pairs, pipes and listeners;
//! nothing sleeps, and what must not happen is asserted by a wait without a timeout, or by one that
//! something later ends.

mod machines;

use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::time::Duration;

use oxloop_core::driver::kernel::Kernel;
use oxloop_core::{
    AddressParts, Completion, Driver, Op, Outcome, Side, Slab, Submitted, Token, WriteQueue,
};

use machines::{Linux, Machine, Simulated};

type Bytes = Vec<u8>;

type Fd<M> = <<M as Machine>::Kernel as Kernel>::Fd;

/// A machine, a driver on it, and the tokens given out for it.
struct World<M: Machine> {
    machine: M,
    driver: M::Driver,
    tokens: Slab<()>,
}

impl<M: Machine> World<M> {
    fn new(machine: M) -> Self {
        World { driver: machine.driver(), machine, tokens: Slab::new() }
    }

    fn pair(&self) -> (Fd<M>, Fd<M>) {
        self.machine.pair()
    }

    /// Sends all of it to an end that has room.
    fn write(&self, fd: &Fd<M>, bytes: &[u8]) {
        assert_eq!(self.machine.kernel().send(fd.as_raw_fd(), bytes).unwrap(), bytes.len());
    }

    /// Receives what there is, to the end of the stream if that is there.
    fn read_all(&self, fd: &Fd<M>, got: &mut Bytes) -> io::Result<()> {
        let mut buf = vec![0; 64 * 1024];
        loop {
            match self.machine.kernel().recv(fd.as_raw_fd(), &mut buf)? {
                0 => return Ok(()),
                count => got.extend(&buf[..count]),
            }
        }
    }

    /// Receives at most 8 bytes.
    fn read(&self, fd: &Fd<M>) -> Bytes {
        let mut buf = [0; 8];
        let count = self.machine.kernel().recv(fd.as_raw_fd(), &mut buf).unwrap();
        buf[..count].to_vec()
    }

    fn register(&mut self, source: &impl AsRawFd) -> Token {
        let token = self.tokens.insert(());
        self.driver.register(token, source.as_raw_fd()).unwrap();
        token
    }

    fn arm(&mut self, token: Token, op: Op<Bytes>) {
        assert!(matches!(self.driver.submit(token, op).unwrap(), Submitted::Pending));
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        assert!(!self.driver.has_completions());
        let mut wait = self.driver.begin_wait();
        M::Driver::block(&mut wait, timeout).unwrap();
        self.driver.end_wait(wait);
    }

    /// All completions of one wait that blocks.
    fn completions(&mut self) -> Vec<Completion<Bytes>> {
        self.wait(None);
        std::iter::from_fn(|| self.driver.next_completion()).collect()
    }

    /// Waits until there is a completion.
    fn completion(&mut self) -> Completion<Bytes> {
        loop {
            if let Some(completion) = self.driver.next_completion() {
                return completion;
            }
            self.wait(None);
        }
    }

    /// Whatever is there now.
    fn completions_now(&mut self) -> Vec<Completion<Bytes>> {
        self.wait(Some(Duration::ZERO));
        std::iter::from_fn(|| self.driver.next_completion()).collect()
    }

    fn received(&mut self) -> Bytes {
        match self.completion().outcome {
            Outcome::Received(Ok(received_bytes)) => {
                assert_eq!(self.driver.received().len(), received_bytes);
                self.driver.received().to_vec()
            }
            other => panic!("expected bytes, got {other:?}"),
        }
    }

    /// What a pending Send has left, if the kernel takes some of it now.
    fn sent_now(&mut self) -> Option<WriteQueue<Bytes>> {
        match self.completions_now().pop()?.outcome {
            Outcome::Sent(left, result) => {
                result.unwrap();
                Some(left)
            }
            other => panic!("expected Sent, got {other:?}"),
        }
    }

    /// Sends until the socket has no room, then leaves a Send pending. Returns all bytes given.
    fn fill(&mut self, token: Token) -> Bytes {
        let mut given = Vec::new();
        loop {
            let chunk: Bytes = (0..100_000).map(|i| ((given.len() + i) % 251) as u8).collect();
            given.extend(&chunk);
            let mut queue = queue_of([chunk]);
            loop {
                match self.driver.submit(token, Op::Send(queue)).unwrap() {
                    Submitted::Pending => match self.sent_now() {
                        Some(left) => queue = left,
                        None => return given,
                    },
                    Submitted::Done(Completion {
                        outcome: Outcome::Sent(left, result), ..
                    }) => {
                        result.unwrap();
                        queue = left;
                    }
                    Submitted::Done(other) => panic!("expected Sent, got {other:?}"),
                }
                if queue.is_empty() {
                    break;
                }
            }
        }
    }
}

fn queue_of(chunks: impl IntoIterator<Item = Bytes>) -> WriteQueue<Bytes> {
    let mut queue = WriteQueue::new();
    chunks.into_iter().for_each(|chunk| queue.push(chunk));
    queue
}

fn receives_again_and_again_then_the_end<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    world.arm(token, Op::Recv);
    world.write(&peer, b"one");
    assert_eq!(world.received(), b"one");
    world.write(&peer, b"two");
    assert_eq!(world.received(), b"two");
    drop(peer);
    assert_eq!(world.received(), b"");
}

fn what_was_not_taken_is_reported_again<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    world.arm(token, Op::PollRead);
    world.write(&peer, b"ab");
    for byte in b"ab" {
        assert!(matches!(world.completion().outcome, Outcome::Readable));
        let mut buf = [0];
        assert_eq!(world.driver.try_recv(token, &mut buf).unwrap(), 1);
        assert_eq!(buf[0], *byte);
    }
    assert!(world.completions_now().is_empty());
    let error = world.driver.try_recv(token, &mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

fn nothing_after_cancel_and_no_spin<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    for op in [Op::Recv, Op::PollRead] {
        world.arm(token, op);
        world.write(&peer, b"unread");
        // The event is fetched, and cancelled before it is answered.
        world.wait(None);
        assert!(world.driver.cancel(token, Side::Read).is_none());
        assert!(world.driver.next_completion().is_none());
        assert_waits_in_full(&mut world);
    }
    // What was not received is there when it is wanted again.
    world.arm(token, Op::Recv);
    assert_eq!(world.received(), b"unreadunread");
}

fn hang_up_is_told_from_data<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    world.arm(token, Op::PollHangUp);
    world.write(&peer, b"unread");
    assert_waits_in_full(&mut world);
    drop(peer);
    assert!(matches!(world.completion().outcome, Outcome::Readable));
    assert_eq!(world.driver.try_recv(token, &mut [0; 9]).unwrap(), 6);
}

/// A wait that returned early would be one for something that nobody wants.
fn assert_waits_in_full<M: Machine>(world: &mut World<M>) {
    let timeout = Duration::from_millis(5);
    let start_ns = world.machine.now_ns();
    world.wait(Some(timeout));
    assert!(world.machine.now_ns() - start_ns >= timeout.as_nanos() as i64);
    assert!(world.driver.next_completion().is_none());
}

fn a_pause_between_two_completions_holds<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let pairs = [world.pair(), world.pair()];
    let tokens: Vec<Token> = pairs.iter().map(|(ours, _)| world.register(ours)).collect();
    for (token, (_, peer)) in tokens.iter().zip(&pairs) {
        world.arm(*token, Op::Recv);
        world.write(peer, b"x");
    }
    world.wait(Some(Duration::ZERO));
    let first = world.driver.next_completion().unwrap().token;
    let other = if first == tokens[0] { tokens[1] } else { tokens[0] };
    world.driver.cancel(other, Side::Read);
    assert!(world.driver.next_completion().is_none());
    world.arm(other, Op::Recv);
    assert_eq!(world.received(), b"x");
}

fn nothing_after_release<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let mut ours = ours;
    let token = world.register(&ours);
    world.arm(token, Op::Recv);
    world.write(&peer, b"old");
    world.wait(None);
    assert!(world.driver.release(token).is_none());
    assert!(world.driver.release(token).is_none(), "again");
    world.tokens.remove(token).unwrap();

    // The number is given out again before the event that was fetched is looked at.
    let (successor, peer) = world.pair();
    world.machine.duplicate_onto(&successor, &mut ours);
    let new_token = world.register(&ours);
    assert_ne!(new_token, token);
    world.arm(new_token, Op::Recv);
    assert!(world.driver.next_completion().is_none());
    world.write(&peer, b"new");
    assert_eq!(world.completion().token, new_token);
    assert_eq!(world.driver.received(), b"new");
    let error = world.driver.submit(token, Op::Recv).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

fn a_number_belongs_to_its_last_registration<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, _peer) = world.pair();
    let mut ours = ours;
    let old = world.register(&ours);
    world.arm(old, Op::Recv);
    // Closed without release, and the number is given out again.
    let (successor, peer) = world.pair();
    world.machine.duplicate_onto(&successor, &mut ours);
    let new = world.register(&ours);
    world.arm(new, Op::Recv);
    assert!(world.driver.try_send(old, b"astray").is_err());
    world.driver.release(old);
    world.write(&peer, b"x");
    assert_eq!(world.completion().token, new);
    world.driver.try_send(new, b"y").unwrap();
    assert_eq!(world.read(&peer), b"y");
}

fn a_descriptor_that_changed_behind_the_drivers_back_is_armed<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, _peer) = world.pair();
    let mut ours = ours;
    let first = world.register(&ours);
    world.arm(first, Op::PollRead);
    // The kernel has forgotten the registration, the driver does not know.
    let (successor, peer) = world.pair();
    world.machine.duplicate_onto(&successor, &mut ours);
    world.arm(first, Op::PollWrite);
    assert!(matches!(world.completion().outcome, Outcome::Writable));
    world.driver.cancel(first, Side::Write);
    // The kernel still has a registration, of another token.
    let second = world.register(&ours);
    world.arm(second, Op::PollRead);
    world.write(&peer, b"x");
    assert_eq!(world.completion().token, second);
}

fn a_send_is_done_at_once_if_there_is_room<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    let queue = queue_of([b"ab".to_vec(), b"cd".to_vec()]);
    match world.driver.submit(token, Op::Send(queue)).unwrap() {
        Submitted::Done(Completion { outcome: Outcome::Sent(left, Ok(4)), .. }) => {
            assert!(left.is_empty());
        }
        Submitted::Done(other) => panic!("expected four bytes sent, got {other:?}"),
        // A driver that works asynchronously answers later.
        Submitted::Pending => match world.completion().outcome {
            Outcome::Sent(left, Ok(4)) => assert!(left.is_empty()),
            other => panic!("expected four bytes sent, got {other:?}"),
        },
    }
    assert_eq!(world.read(&peer), b"abcd");
}

fn sends_bring_back_what_is_left<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    let given = world.fill(token);
    let error = match world.driver.submit(token, Op::Send(queue_of([vec![0]]))) {
        Err(error) => error,
        Ok(other) => panic!("a second Send was taken: {other:?}"),
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);

    let mut got = Vec::new();
    let mut is_pending = true;
    while got.len() < given.len() {
        match world.read_all(&peer, &mut got) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => panic!("the stream ended: {other:?}"),
        }
        if !is_pending {
            continue;
        }
        let Outcome::Sent(mut left, result) = world.completion().outcome else {
            panic!("expected Sent")
        };
        assert!(result.unwrap() > 0);
        is_pending = false;
        while !left.is_empty() && !is_pending {
            match world.driver.submit(token, Op::Send(left)).unwrap() {
                Submitted::Pending => {
                    is_pending = true;
                    left = WriteQueue::new();
                }
                Submitted::Done(Completion { outcome: Outcome::Sent(rest, result), .. }) => {
                    result.unwrap();
                    left = rest;
                }
                Submitted::Done(other) => panic!("expected Sent, got {other:?}"),
            }
        }
    }
    assert!(got == given, "the bytes differ");
    // Nobody wants to write any more, though there is room.
    assert_waits_in_full(&mut world);
}

fn cancel_and_release_give_unsent_bytes_back<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, _peer) = world.pair();
    let (others, _other_peer) = world.pair();
    let token = world.register(&ours);
    world.fill(token);
    assert!(!world.driver.cancel(token, Side::Write).unwrap().is_empty());
    assert!(world.driver.cancel(token, Side::Write).is_none());
    let token = world.register(&others);
    world.fill(token);
    assert!(!world.driver.release(token).unwrap().is_empty());
}

fn a_hung_up_peer_wakes_both_sides<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    world.fill(token);
    world.arm(token, Op::PollRead);
    drop(peer);
    let (mut is_readable, mut is_sent) = (false, false);
    for completion in world.completions() {
        match completion.outcome {
            Outcome::Readable => is_readable = true,
            Outcome::Sent(left, Err(_)) => is_sent = !left.is_empty(),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(is_readable && is_sent);
    world.driver.cancel(token, Side::Read);
    assert_waits_in_full(&mut world);
    let error = world.driver.try_send(token, b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

fn pipes_are_polled_read_and_written<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (read_end, write_end) = world.machine.pipe();
    let read_token = world.register(&read_end);
    let write_token = world.register(&write_end);
    world.arm(write_token, Op::PollWrite);
    let completion = world.completion();
    assert_eq!(completion.token, write_token);
    assert!(matches!(completion.outcome, Outcome::Writable));
    world.driver.cancel(write_token, Side::Write);

    let slices = [IoSlice::new(b"pi"), IoSlice::new(b"pe")];
    assert_eq!(world.driver.try_send_vectored(write_token, &slices).unwrap(), 4);
    world.arm(read_token, Op::PollRead);
    assert!(matches!(world.completion().outcome, Outcome::Readable));
    let mut buf = [0; 8];
    assert_eq!(world.driver.try_recv(read_token, &mut buf).unwrap(), 4);
    assert_eq!(&buf[..4], b"pipe");

    drop(read_end);
    world.arm(write_token, Op::PollWrite);
    world.driver.release(read_token);
    assert_eq!(world.completion().token, write_token, "no reader is left");
}

fn accepts_all_that_wait<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (listener, address) = world.machine.listen();
    let token = world.register(&listener);
    world.arm(token, Op::Accept);
    for _ in 0..2 {
        let clients: Vec<_> = (0..3).map(|_| world.machine.connect(address)).collect();
        let mut ports: Vec<u16> =
            clients.iter().map(|client| world.machine.local_port(client)).collect();
        while !ports.is_empty() {
            let completion = world.completion();
            let Outcome::Accepted(Ok((accepted, peer))) = completion.outcome else {
                panic!("expected a connection")
            };
            world.machine.check_accepted(accepted);
            let AddressParts::V4(_, port) = peer.parts() else { panic!("expected IPv4") };
            let place = ports.iter().position(|wanted| *wanted == port);
            ports.remove(place.expect("a connection of these clients, once"));
        }
    }
    world.driver.cancel(token, Side::Read);
    assert!(world.driver.next_completion().is_none());
    let _client = world.machine.connect(address);
    assert_waits_in_full(&mut world);
}

fn one_wait_gives_all_connections_that_are_there<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    // Five that are in the queue already.
    let (listener, connect) = world.machine.listen_at_once();
    let token = world.register(&listener);
    world.arm(token, Op::Accept);
    let _clients: Vec<_> = (0..5).map(|_| connect(&world.machine)).collect();
    let completions = world.completions();
    assert_eq!(completions.len(), 5);
    for completion in completions {
        assert!(matches!(completion.outcome, Outcome::Accepted(Ok(_))));
    }
}

fn a_close_between_two_accepts_holds<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (listener, address) = world.machine.listen();
    let token = world.register(&listener);
    world.arm(token, Op::Accept);
    let _clients = [world.machine.connect(address), world.machine.connect(address)];
    assert!(matches!(world.completion().outcome, Outcome::Accepted(Ok(_))));
    world.driver.release(token);
    assert!(world.driver.next_completion().is_none());
}

fn an_error_of_accept_ends_its_turn<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    // A connected socket cannot accept.
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    world.arm(token, Op::Accept);
    world.write(&peer, b"x");
    for _ in 0..2 {
        let completions = world.completions();
        assert_eq!(completions.len(), 1, "once per wait");
        assert!(matches!(completions[0].outcome, Outcome::Accepted(Err(_))));
    }
}

fn a_wakeup_ends_the_wait_under_way_or_the_next<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let wake = world.driver.wake();
    wake.wake().unwrap();
    wake.wake().unwrap();
    assert!(world.completions().is_empty(), "nobody sees a wakeup");
    assert_waits_in_full(&mut world);
    let outside = world.machine.outside_work();
    let thread = std::thread::spawn(move || {
        wake.wake().unwrap();
        drop(outside);
    });
    world.wait(None);
    thread.join().unwrap();
}

fn shutdown_ends_one_direction_only<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    world.arm(token, Op::Recv);
    world.driver.try_send(token, b"last").unwrap();
    world.driver.shutdown_write(token).unwrap();
    let mut got = Vec::new();
    world.read_all(&peer, &mut got).unwrap();
    assert_eq!(got, b"last");
    world.write(&peer, b"still");
    assert_eq!(world.received(), b"still");
}

fn what_cannot_be_waited_for_is_an_error<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let file = world.machine.regular_file();
    let token = world.register(&file);
    let error = world.driver.submit(token, Op::PollRead).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let invalid = world.tokens.insert(());
    let error = world.driver.register(invalid, -1).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

fn descriptors_stay_open_and_the_drivers_own_close<M: Machine>(machine: M) {
    let mut world = World::new(machine);
    let (ours, peer) = world.pair();
    let token = world.register(&ours);
    world.arm(token, Op::Recv);
    let wake = world.driver.wake();
    world.driver.close();
    world.driver.close();
    assert_eq!(
        world.driver.submit(token, Op::Recv).unwrap_err().kind(),
        io::ErrorKind::NotConnected
    );
    assert_eq!(wake.wake().unwrap_err().kind(), io::ErrorKind::NotConnected);
    world.driver.release(token);
    let mut wait = world.driver.begin_wait();
    assert!(M::Driver::block(&mut wait, None).is_err());
    world.write(&ours, b"open");
    assert_eq!(world.read(&peer), b"open");
}

macro_rules! contract {
    ($($driver:ident: $machine:expr;)*) => {
        $(mod $driver {
            use super::*;
            contract! { @tests $machine;
            receives_again_and_again_then_the_end
                what_was_not_taken_is_reported_again
                hang_up_is_told_from_data
                nothing_after_cancel_and_no_spin
                a_pause_between_two_completions_holds
                nothing_after_release
                a_number_belongs_to_its_last_registration
                a_descriptor_that_changed_behind_the_drivers_back_is_armed
                a_send_is_done_at_once_if_there_is_room
                sends_bring_back_what_is_left
                cancel_and_release_give_unsent_bytes_back
                a_hung_up_peer_wakes_both_sides
                pipes_are_polled_read_and_written
                accepts_all_that_wait
                one_wait_gives_all_connections_that_are_there
                a_close_between_two_accepts_holds
                an_error_of_accept_ends_its_turn
                a_wakeup_ends_the_wait_under_way_or_the_next
                shutdown_ends_one_direction_only
                what_cannot_be_waited_for_is_an_error
                descriptors_stay_open_and_the_drivers_own_close
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
