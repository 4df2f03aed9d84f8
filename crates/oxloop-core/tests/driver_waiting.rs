//! The driver's contract for receives that are made to measure, over every driver: how much waits is
//! told, and memory that nobody has written yet is filled from its front.

mod machines;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use oxloop_core::driver::kernel::Kernel;
use oxloop_core::{Driver, Op, Outcome, Slab, Token};

use machines::{Linux, Machine, Simulated};

const MESSAGES: [&[u8]; 3] = [b"abc", b"defg", b"h"];

/// Waits until there is something to read.
fn until_readable<M: Machine>(driver: &mut M::Driver) {
    loop {
        while let Some(completion) = driver.next_completion() {
            if matches!(completion.outcome, Outcome::Readable) {
                return;
            }
        }
        let mut wait = driver.begin_wait();
        M::Driver::block(&mut wait, None::<Duration>).unwrap();
        driver.end_wait(wait);
    }
}

fn all_that_waits<M: Machine>(driver: &mut M::Driver, token: Token) -> Vec<u8> {
    until_readable::<M>(driver);
    let waiting_bytes = driver.waiting_bytes(token).unwrap();
    // Two more than are written.
    let mut room = vec![MaybeUninit::uninit(); waiting_bytes + 2];
    assert_eq!(driver.try_recv_uninit(token, &mut room).unwrap(), waiting_bytes);
    // SAFETY: so many of the first bytes have been written.
    room[..waiting_bytes].iter().map(|byte| unsafe { byte.assume_init() }).collect()
}

fn receives_to_measure<M: Machine>(machine: &M, ours: RawFd, write: impl Fn(&[u8])) {
    let mut driver = machine.driver();
    let token = Slab::new().insert(());
    driver.register(token, ours).unwrap();
    assert_eq!(driver.waiting_bytes(token).unwrap(), 0);
    let error = driver.try_recv_uninit(token, &mut [MaybeUninit::uninit(); 4]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    driver.submit(token, Op::PollRead).unwrap();
    MESSAGES.iter().for_each(|message| write(message));
    let sent = MESSAGES.concat();
    let mut received = Vec::new();
    while received.len() < sent.len() {
        received.extend(all_that_waits::<M>(&mut driver, token));
    }
    assert_eq!(received, sent);
    // Less room than waits: the rest stays.
    MESSAGES.iter().for_each(|message| write(message));
    until_readable::<M>(&mut driver);
    let mut room = [MaybeUninit::uninit(); 2];
    assert_eq!(driver.try_recv_uninit(token, &mut room).unwrap(), 2);
    assert_eq!(all_that_waits::<M>(&mut driver, token)[0], sent[2]);
    driver.release(token);
    let error = driver.waiting_bytes(token).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    let error = driver.try_recv_uninit(token, &mut room).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

fn sockets<M: Machine>(machine: &M) {
    let (ours, peer) = machine.pair();
    receives_to_measure(machine, ours.as_raw_fd(), |bytes| {
        assert_eq!(machine.kernel().send(peer.as_raw_fd(), bytes).unwrap(), bytes.len());
    });
}

fn pipes<M: Machine>(machine: &M) {
    let (read_end, write_end) = machine.pipe();
    receives_to_measure(machine, read_end.as_raw_fd(), |bytes| {
        assert_eq!(machine.kernel().write(write_end.as_raw_fd(), bytes).unwrap(), bytes.len());
    });
}

fn nothing_waits_at_the_end<M: Machine>(machine: &M) {
    let (ours, peer) = machine.pair();
    let mut driver = machine.driver();
    let token = Slab::new().insert(());
    driver.register(token, ours.as_raw_fd()).unwrap();
    driver.submit(token, Op::PollRead).unwrap();
    drop(peer);
    until_readable::<M>(&mut driver);
    assert_eq!(driver.waiting_bytes(token).unwrap(), 0);
    assert_eq!(driver.try_recv_uninit(token, &mut [MaybeUninit::uninit()]).unwrap(), 0);
}

fn all<M: Machine>(machine: &M) {
    sockets(machine);
    pipes(machine);
    nothing_waits_at_the_end(machine);
}

#[test]
fn epoll() {
    all(&Linux);
}

#[test]
fn sim() {
    all(&Simulated::epoll(1));
}

#[test]
fn ring() {
    all(&Simulated::ring(1));
}
