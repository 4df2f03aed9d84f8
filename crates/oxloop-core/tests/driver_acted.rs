//! The driver's contract for `has_acted`, over every driver: what the caller did is remembered until
//! the next wait, and what others did is not.

mod machines;

use std::os::fd::AsRawFd;
use std::time::Duration;

use oxloop_core::driver::kernel::Kernel;
use oxloop_core::{Driver, Op, Outcome, Slab};

use machines::{Linux, Machine, Simulated};

/// What one wait brings, which does not block.
fn turn<M: Machine>(driver: &mut M::Driver) -> Vec<Outcome<Vec<u8>>> {
    let mut wait = driver.begin_wait();
    M::Driver::block(&mut wait, Some(Duration::ZERO)).unwrap();
    driver.end_wait(wait);
    std::iter::from_fn(|| driver.next_completion()).map(|completion| completion.outcome).collect()
}

fn it_is_remembered_until_the_next_wait<M: Machine>(machine: M) {
    let mut driver = machine.driver();
    let (ours, peer) = machine.pair();
    let token = Slab::new().insert(());
    assert!(!driver.has_acted(), "nothing was done yet");
    let acted = |driver: &mut M::Driver, what: &str| {
        assert!(driver.has_acted(), "{what}");
        turn::<M>(driver);
        assert!(!driver.has_acted(), "a wait came after it");
    };
    driver.register(token, ours.as_raw_fd()).unwrap();
    acted(&mut driver, "register");
    driver.submit(token, Op::Recv).unwrap();
    acted(&mut driver, "submit");
    machine.kernel().send(peer.as_raw_fd(), b"x").unwrap();
    assert!(matches!(turn::<M>(&mut driver)[..], [Outcome::Received(Ok(1))]));
    assert!(!driver.has_acted(), "the peer did it");
    driver.try_send(token, b"x").unwrap();
    acted(&mut driver, "send");
    driver.shutdown_write(token).unwrap();
    acted(&mut driver, "shutdown");
    driver.release(token);
    acted(&mut driver, "release");
}

#[test]
fn epoll() {
    it_is_remembered_until_the_next_wait(Linux);
}

#[test]
fn sim() {
    it_is_remembered_until_the_next_wait(Simulated::epoll(1));
}

#[test]
fn ring() {
    it_is_remembered_until_the_next_wait(Simulated::ring(1));
}
