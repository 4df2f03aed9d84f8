//! Streams over socket pairs: every byte once and in order, pauses, half-close, close and abort.

use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use oxloop_core::sys::socket;
use oxloop_core::{
    Driver, EpollDriver, Outcome, PauseChange, ReadEvent, ReadMode, Sent, Slab, Stream,
};

type Chunk = Vec<u8>;

/// A stream, its driver and its peer.
struct World {
    driver: EpollDriver<Chunk>,
    stream: Stream<Chunk>,
    ours: UnixStream,
    peer: UnixStream,
}

impl World {
    fn new() -> Self {
        let (ours, peer) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        peer.set_nonblocking(true).unwrap();
        socket::set_send_buffer_bytes(ours.as_raw_fd(), 1).unwrap();
        let mut driver = EpollDriver::new().unwrap();
        let token = Slab::new().insert(());
        driver.register(token, ours.as_raw_fd()).unwrap();
        World { driver, stream: Stream::new(token), ours, peer }
    }

    fn write(&mut self, data: &[u8]) -> io::Result<bool> {
        self.stream.write(&mut self.driver, data, |offset| data[offset..].to_vec())
    }

    fn wait(&mut self, timeout: Option<Duration>) {
        let mut wait = self.driver.begin_wait();
        EpollDriver::<Chunk>::block(&mut wait, timeout).unwrap();
        self.driver.end_wait(wait);
    }

    /// Everything that the peer can read now.
    fn peer_reads(&mut self, got: &mut Vec<u8>) -> io::Result<()> {
        match self.peer.read_to_end(got) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Reads at the peer and goes on sending until nothing is left; what the stream answered.
    fn drain(&mut self, got: &mut Vec<u8>) -> Vec<Sent> {
        let mut answers: Vec<Sent> = Vec::new();
        while !answers.last().is_some_and(|sent| sent.drained) {
            self.peer_reads(got).unwrap();
            self.wait(None);
            while let Some(completion) = self.driver.next_completion() {
                let Outcome::Sent(left, result) = completion.outcome else {
                    panic!("expected Sent")
                };
                let before = self.stream.buffered_bytes();
                let sent = self.stream.on_sent(&mut self.driver, left, result).unwrap();
                assert!(self.stream.buffered_bytes() < before);
                answers.push(sent);
            }
        }
        self.peer_reads(got).unwrap();
        answers
    }

    fn next_read(&mut self) -> ReadEvent {
        self.wait(None);
        match self.driver.next_completion().unwrap().outcome {
            Outcome::Received(result) => self.stream.on_received(&mut self.driver, result),
            other => panic!("expected Received, got {other:?}"),
        }
    }

    fn is_quiet(&mut self) -> bool {
        self.wait(Some(Duration::ZERO));
        self.driver.next_completion().is_none()
    }
}

/// Bytes that say where they belong: any lost, doubled or moved one shows.
fn pattern(start: usize, len: usize) -> Vec<u8> {
    (start..start + len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn every_byte_arrives_once_and_in_order() {
    let mut world = World::new();
    let (mut written, mut got) = (0, Vec::new());
    for round in 0..50 {
        let len = [1, 7, 300, 5_000, 40_000][round % 5];
        let data = pattern(written, len);
        if round % 3 == 0 {
            let chunks: Vec<Chunk> = data.chunks(97).map(<[u8]>::to_vec).collect();
            world.stream.write_chunks(&mut world.driver, chunks).unwrap();
        } else {
            world.write(&data).unwrap();
        }
        written += len;
        if round % 7 == 0 {
            world.peer_reads(&mut got).unwrap();
        }
    }
    assert!(world.stream.buffered_bytes() > 0, "the socket is too small for all of it");
    world.drain(&mut got);
    assert_eq!(got.len(), written);
    assert!(got == pattern(0, written));
    assert_eq!(world.stream.buffered_bytes(), 0);
}

#[test]
fn a_write_that_fits_is_sent_at_once_and_never_kept() {
    let mut world = World::new();
    let is_full = world.stream.write(&mut world.driver, b"fits", |_| unreachable!()).unwrap();
    assert!(!is_full);
    assert!(!world.write(b"").unwrap());
    let mut got = Vec::new();
    world.peer_reads(&mut got).unwrap();
    assert_eq!(got, b"fits");
}

#[test]
fn the_protocol_is_paused_once_and_resumed_once() {
    let mut world = World::new();
    assert_eq!(world.stream.set_limits(50_000, 10_000), None);
    let mut pauses = 0;
    for i in 0..20 {
        pauses += usize::from(world.write(&pattern(i * 10_000, 10_000)).unwrap());
    }
    assert_eq!(pauses, 1);
    assert!(world.stream.protocol_paused());
    let mut got = Vec::new();
    let answers = world.drain(&mut got);
    assert_eq!(answers.iter().filter(|sent| sent.resume).count(), 1);
    assert!(!world.stream.protocol_paused());
    assert!(got == pattern(0, 200_000));
}

#[test]
fn lower_limits_pause_at_once() {
    let mut world = World::new();
    assert!(!world.write(&pattern(0, 30_000)).unwrap());
    assert!(world.stream.buffered_bytes() > 1_000);
    assert_eq!(world.stream.set_limits(1_000, 500), Some(PauseChange::Pause));
    assert_eq!(world.stream.limits(), (500, 1_000));
    assert_eq!(world.stream.set_limits(100, 50), None);
}

#[test]
fn reading_stops_and_goes_on() {
    let mut world = World::new();
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    io::Write::write_all(&mut world.peer, b"one").unwrap();
    assert!(matches!(world.next_read(), ReadEvent::Data(3)));
    assert_eq!(world.driver.received(), b"one");

    assert!(world.stream.pause_reading(&mut world.driver));
    assert!(!world.stream.pause_reading(&mut world.driver));
    assert!(world.stream.is_paused() && !world.stream.is_reading());
    io::Write::write_all(&mut world.peer, b"two").unwrap();
    assert!(world.is_quiet());

    assert!(world.stream.resume_reading(&mut world.driver).unwrap());
    assert!(!world.stream.resume_reading(&mut world.driver).unwrap());
    assert!(matches!(world.next_read(), ReadEvent::Data(3)));
    assert_eq!(world.driver.received(), b"two");
}

#[test]
fn a_pause_before_the_start_holds() {
    let mut world = World::new();
    assert!(world.stream.pause_reading(&mut world.driver));
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    io::Write::write_all(&mut world.peer, b"x").unwrap();
    assert!(world.is_quiet());
    assert!(world.stream.resume_reading(&mut world.driver).unwrap());
    assert!(matches!(world.next_read(), ReadEvent::Data(1)));
}

#[test]
fn the_owner_may_receive_itself() {
    let mut world = World::new();
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    world.stream.set_read_mode(&mut world.driver, ReadMode::Poll).unwrap();
    io::Write::write_all(&mut world.peer, b"own").unwrap();
    world.wait(None);
    let completion = world.driver.next_completion().unwrap();
    assert!(matches!(completion.outcome, Outcome::Readable));
    let mut buf = [0; 8];
    let result = world.driver.try_recv(world.stream.token(), &mut buf);
    let event = world.stream.on_received(&mut world.driver, result);
    assert!(matches!(event, ReadEvent::Data(3)));
    assert_eq!(&buf[..3], b"own");
    let result = world.driver.try_recv(world.stream.token(), &mut buf);
    let event = world.stream.on_received(&mut world.driver, result);
    assert!(matches!(event, ReadEvent::Ignored));
}

#[test]
fn after_the_peers_end_writing_goes_on_and_reading_does_not() {
    let mut world = World::new();
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    world.peer.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(matches!(world.next_read(), ReadEvent::Eof));
    assert!(!world.stream.is_reading());
    assert!(!world.stream.resume_reading(&mut world.driver).unwrap());
    assert!(world.is_quiet(), "the end is reported once");
    world.write(b"reply").unwrap();
    let mut got = Vec::new();
    world.peer_reads(&mut got).unwrap();
    assert_eq!(got, b"reply");
}

#[test]
fn our_end_follows_the_last_byte() {
    let mut world = World::new();
    world.write(&pattern(0, 300_000)).unwrap();
    world.stream.write_eof(&mut world.driver).unwrap();
    world.stream.write_eof(&mut world.driver).unwrap();
    assert!(world.stream.eof_requested());
    assert_eq!(world.write(b"more").unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let mut got = Vec::new();
    world.drain(&mut got);
    assert!(got == pattern(0, 300_000));
    assert_eq!(world.peer.read(&mut [0]).unwrap(), 0, "the end, not WouldBlock");
    // The other direction is open.
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    io::Write::write_all(&mut world.peer, b"x").unwrap();
    assert!(matches!(world.next_read(), ReadEvent::Data(1)));
}

#[test]
fn close_sends_what_is_queued_first() {
    let mut world = World::new();
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    world.write(&pattern(0, 100_000)).unwrap();
    assert!(!world.stream.close(&mut world.driver));
    assert!(world.stream.is_closing());
    io::Write::write_all(&mut world.peer, b"unwanted").unwrap();
    // asyncio takes writes until the queue has drained.
    world.write(&pattern(100_000, 100)).unwrap();
    let mut got = Vec::new();
    world.drain(&mut got);
    assert!(got == pattern(0, 100_100));
    // And what the protocol writes when it is resumed, just before the end.
    world.write(&pattern(100_100, 200_000)).unwrap();
    assert!(!world.stream.finish());
    world.drain(&mut got);
    assert!(got == pattern(0, 300_100));
    assert!(!world.stream.close(&mut world.driver), "again");
    assert!(world.stream.finish());
    assert!(!world.stream.finish(), "once");
    assert_eq!(world.write(b"late").unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert!(world.stream.lose(&mut world.driver).is_empty());
}

#[test]
fn close_with_nothing_to_send_is_done_at_once() {
    let mut world = World::new();
    assert!(world.stream.close(&mut world.driver));
    assert!(!world.stream.close(&mut world.driver));
}

#[test]
fn abort_hands_out_what_was_not_sent() {
    let mut world = World::new();
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    world.write(&pattern(0, 300_000)).unwrap();
    world.write(&pattern(300_000, 10)).unwrap();
    let buffered_bytes = world.stream.buffered_bytes();
    let unsent = world.stream.abort(&mut world.driver);
    assert_eq!(unsent.len_bytes(), buffered_bytes);
    assert_eq!(world.stream.buffered_bytes(), 0);
    assert!(world.stream.abort(&mut world.driver).is_empty());
    let mut got = Vec::new();
    world.peer_reads(&mut got).unwrap();
    assert!(got == pattern(0, 300_010 - buffered_bytes));
    io::Write::write_all(&mut world.peer, b"x").unwrap();
    assert!(world.is_quiet());
}

#[test]
fn lose_lets_go_of_everything() {
    let mut world = World::new();
    world.stream.start_reading(&mut world.driver, ReadMode::Recv).unwrap();
    world.write(&pattern(0, 300_000)).unwrap();
    let buffered_bytes = world.stream.buffered_bytes();
    assert_eq!(world.stream.lose(&mut world.driver).len_bytes(), buffered_bytes);
    assert!(world.stream.lose(&mut world.driver).is_empty());
    assert!(world.is_quiet());
    let error = world.driver.try_send(world.stream.token(), b"x").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(world.ours.set_nonblocking(true).is_ok(), "the descriptor is the owner's still");
}

#[test]
fn a_failed_write_is_reported_and_keeps_the_rest() {
    let mut world = World::new();
    world.write(&pattern(0, 100_000)).unwrap();
    let buffered_bytes = world.stream.buffered_bytes();
    world.peer = UnixStream::pair().unwrap().0;
    world.wait(None);
    let Outcome::Sent(left, result) = world.driver.next_completion().unwrap().outcome else {
        panic!("expected Sent")
    };
    let error = world.stream.on_sent(&mut world.driver, left, result).unwrap_err();
    assert!(
        matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
        "{error}"
    );
    assert_eq!(world.write(b"x").unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(world.stream.abort(&mut world.driver).len_bytes(), buffered_bytes);
}
