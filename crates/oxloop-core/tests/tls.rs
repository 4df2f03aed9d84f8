//! TLS sessions with an engine that does as the test says: the order of acts, whoever interferes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use oxloop_core::tls::{Ends, Failure, Marks, Phase, ReadEnd, Session, Step, Timer, Told};

/// Both sides of a session: what was asked is written down, what is answered was prepared.
struct World {
    session: Session,
    acts: RefCell<Vec<&'static str>>,
    handshakes: RefCell<VecDeque<Step<&'static str>>>,
    shutdowns: RefCell<VecDeque<Step<&'static str>>>,
    reads: RefCell<VecDeque<Result<ReadEnd, &'static str>>>,
    writes_fail: Cell<bool>,
    incoming_bytes: Cell<usize>,
    unsent_bytes: Cell<usize>,
    backlog: Cell<bool>,
    /// What the program does when the act of this name happens.
    interference: RefCell<Option<Interference>>,
}

/// An act, and what is done when it happens.
type Interference = (&'static str, fn(&World));

type Outcome = Result<(), &'static str>;

impl World {
    fn new(told: Told) -> Self {
        World {
            session: Session::new(told),
            acts: RefCell::default(),
            handshakes: RefCell::default(),
            shutdowns: RefCell::default(),
            reads: RefCell::default(),
            writes_fail: Cell::new(false),
            incoming_bytes: Cell::new(0),
            unsent_bytes: Cell::new(0),
            backlog: Cell::new(false),
            interference: RefCell::default(),
        }
    }

    /// A session that is through with its handshake.
    fn wrapped() -> Self {
        let world = World::new(Told::Nothing);
        world.session.start(&world).unwrap();
        assert_eq!(world.session.phase(), Phase::Wrapped);
        world.acts.take();
        world
    }

    fn act(&self, name: &'static str) {
        self.acts.borrow_mut().push(name);
        let interference = self.interference.borrow_mut().take();
        match interference {
            Some((at, body)) if at == name => body(self),
            other => *self.interference.borrow_mut() = other,
        }
    }

    fn at(&self, act: &'static str, body: fn(&World)) {
        *self.interference.borrow_mut() = Some((act, body));
    }

    /// What was asked since the last look, sends that carry nothing new apart.
    fn acts(&self) -> Vec<&'static str> {
        self.acts.take().into_iter().filter(|act| *act != "send").collect()
    }

    fn abort(&self) {
        self.session.abort(self, None).unwrap();
    }

    fn close(&self) {
        self.session.close(self).unwrap();
    }
}

impl Ends for World {
    type Error = &'static str;

    fn handshake(&self) -> Result<Step<&'static str>, &'static str> {
        self.act("handshake");
        Ok(self.handshakes.borrow_mut().pop_front().unwrap_or(Step::Done))
    }

    fn shut_down(&self) -> Result<Step<&'static str>, &'static str> {
        self.act("shut down");
        Ok(self.shutdowns.borrow_mut().pop_front().unwrap_or(Step::Again))
    }

    fn read(&self) -> Result<ReadEnd, &'static str> {
        self.act("read");
        self.reads.borrow_mut().pop_front().unwrap_or(Ok(ReadEnd::Drained))
    }

    fn encrypt(&self) -> Outcome {
        self.act("encrypt");
        if self.writes_fail.get() {
            return Err("cannot encrypt");
        }
        self.backlog.set(false);
        Ok(())
    }

    fn send_encrypted(&self) -> Outcome {
        self.act("send");
        Ok(())
    }

    fn incoming_bytes(&self) -> Result<usize, &'static str> {
        Ok(self.incoming_bytes.get())
    }

    fn unsent_bytes(&self) -> Result<usize, &'static str> {
        Ok(self.unsent_bytes.get())
    }

    fn has_backlog(&self) -> bool {
        self.backlog.get()
    }

    fn established(&self) -> Outcome {
        self.act("established");
        Ok(())
    }

    fn handshake_failed(&self, error: &'static str) -> Outcome {
        self.act("handshake failed");
        self.act(error);
        Ok(())
    }

    fn handshake_done(&self) -> Outcome {
        self.act("handshake done");
        Ok(())
    }

    fn connection_made(&self) -> Outcome {
        self.act("made");
        Ok(())
    }

    fn eof_received(&self) -> Outcome {
        self.act("eof");
        Ok(())
    }

    fn pause_writing(&self, pause: bool) -> Outcome {
        self.act(if pause { "pause writing" } else { "resume writing" });
        Ok(())
    }

    fn closing(&self) {
        self.act("closing");
    }

    fn read_soon(&self) {
        self.act("read soon");
    }

    fn pause_transport(&self, pause: bool) -> Outcome {
        self.act(if pause { "pause transport" } else { "resume transport" });
        Ok(())
    }

    fn close_transport_soon(&self) {
        self.act("close transport");
    }

    fn abort_transport(&self, error: Option<&'static str>) -> Outcome {
        self.act("abort transport");
        if let Some(error) = error {
            self.act(error);
        }
        Ok(())
    }

    fn start_timer(&self, timer: Timer) -> Outcome {
        self.act(if timer == Timer::Handshake { "start 1" } else { "start 2" });
        Ok(())
    }

    fn stop_timer(&self, timer: Timer) -> Outcome {
        self.act(if timer == Timer::Handshake { "stop 1" } else { "stop 2" });
        Ok(())
    }

    fn timeout_error(&self, _timer: Timer) -> &'static str {
        "too slow"
    }

    fn reset_error(&self) -> &'static str {
        "hung up"
    }

    fn fatal(&self, error: &'static str, _failure: Failure) -> Outcome {
        self.act("fatal");
        self.act(error);
        Ok(())
    }
}

#[test]
fn a_handshake_of_several_steps() {
    let world = World::new(Told::Nothing);
    world.handshakes.borrow_mut().extend([Step::Again, Step::Again, Step::Done]);
    world.session.start(&world).unwrap();
    assert_eq!(world.acts(), ["start 1", "handshake"]);
    assert!(world.session.takes_plaintext());
    world.session.received(&world).unwrap();
    assert_eq!(world.acts(), ["handshake"]);
    world.session.received(&world).unwrap();
    let expected = ["handshake", "stop 1", "established", "made", "handshake done", "read"];
    assert_eq!(world.acts(), expected);
    assert_eq!(world.session.phase(), Phase::Wrapped);
}

#[test]
fn an_application_that_knows_its_connection_is_not_told_again() {
    let world = World::new(Told::Made);
    world.session.start(&world).unwrap();
    assert!(!world.acts().contains(&"made"));
    assert!(world.session.lost());
}

#[test]
fn a_failed_handshake_is_told_to_who_waits_and_not_to_the_application() {
    let world = World::new(Told::Nothing);
    world.handshakes.borrow_mut().push_back(Step::Failed("bad certificate"));
    world.session.start(&world).unwrap();
    let expected = ["start 1", "handshake", "stop 1", "handshake failed", "bad certificate"];
    assert_eq!(world.acts(), expected);
    assert!(!world.session.lost());
}

#[test]
fn a_peer_that_hangs_up_during_the_handshake() {
    let world = World::new(Told::Nothing);
    world.handshakes.borrow_mut().push_back(Step::Again);
    world.session.start(&world).unwrap();
    world.acts.take();
    assert_eq!(world.session.transport_ended(&world), Ok(false));
    assert_eq!(world.acts(), ["stop 1", "handshake failed", "hung up"]);
}

#[test]
fn a_timeout_counts_in_its_own_phase_only() {
    let world = World::new(Told::Nothing);
    world.handshakes.borrow_mut().push_back(Step::Again);
    world.session.start(&world).unwrap();
    world.acts.take();
    world.session.timed_out(&world, Timer::Shutdown).unwrap();
    assert!(world.acts().is_empty());
    world.session.timed_out(&world, Timer::Handshake).unwrap();
    assert_eq!(world.acts(), ["fatal", "too slow"]);

    let world = World::wrapped();
    world.session.timed_out(&world, Timer::Handshake).unwrap();
    world.session.timed_out(&world, Timer::Shutdown).unwrap();
    assert!(world.acts().is_empty());
    world.close();
    world.acts.take();
    world.session.timed_out(&world, Timer::Shutdown).unwrap();
    assert_eq!(world.acts(), ["abort transport", "too slow"]);
}

#[test]
fn close_waits_for_the_close_notify_of_the_peer() {
    let world = World::wrapped();
    world.close();
    assert_eq!(world.acts(), ["closing", "start 2", "read", "shut down"]);
    assert!(!world.session.takes_plaintext());
    world.close();
    assert!(world.acts().is_empty());
    world.shutdowns.borrow_mut().push_back(Step::Done);
    world.session.received(&world).unwrap();
    assert_eq!(world.acts(), ["shut down", "eof", "stop 2", "close transport"]);
    assert!(world.session.lost());
    assert!(!world.session.lost());
}

#[test]
fn the_peers_close_notify_closes() {
    let world = World::wrapped();
    world.reads.borrow_mut().push_back(Ok(ReadEnd::Closed));
    world.shutdowns.borrow_mut().push_back(Step::Done);
    world.session.received(&world).unwrap();
    let expected =
        ["read", "eof", "closing", "start 2", "read", "shut down", "stop 2", "close transport"];
    assert_eq!(world.acts(), expected);
}

#[test]
fn the_end_of_the_transport_waits_for_a_reader_that_is_paused() {
    let world = World::wrapped();
    world.session.pause_reading();
    assert_eq!(world.session.transport_ended(&world), Ok(true));
    assert!(world.acts().is_empty());
    world.session.resume_reading(&world);
    world.session.resumed(&world).unwrap();
    let expected = ["read soon", "read", "eof", "stop 2", "close transport"];
    assert_eq!(world.acts(), expected);
}

#[test]
fn the_rest_is_delivered_in_pieces_after_the_end_of_the_transport() {
    let world = World::wrapped();
    world.reads.borrow_mut().extend([Ok(ReadEnd::More), Ok(ReadEnd::More), Ok(ReadEnd::Drained)]);
    assert_eq!(world.session.transport_ended(&world), Ok(true));
    assert_eq!(world.acts(), ["read", "read soon"]);
    world.session.resumed(&world).unwrap();
    assert_eq!(world.acts(), ["read", "read soon"]);
    world.session.resumed(&world).unwrap();
    assert_eq!(world.acts(), ["read", "eof", "stop 2", "close transport"]);
}

#[test]
fn close_after_the_end_of_the_transport_does_not_wait_for_a_paused_reader() {
    let world = World::wrapped();
    world.session.pause_reading();
    assert_eq!(world.session.transport_ended(&world), Ok(true));
    world.close();
    assert_eq!(world.acts(), ["eof", "stop 2", "close transport"]);
}

#[test]
fn close_after_the_end_of_the_transport_leaves_what_a_resumed_reader_has_not_got() {
    let world = World::wrapped();
    world.session.pause_reading();
    assert_eq!(world.session.transport_ended(&world), Ok(true));
    world.session.resume_reading(&world);
    world.close();
    world.session.resumed(&world).unwrap();
    assert_eq!(world.acts(), ["read soon", "eof", "stop 2", "close transport"]);
}

#[test]
fn what_was_written_goes_before_the_close_notify() {
    let world = World::wrapped();
    world.session.pause_reading();
    world.backlog.set(true);
    world.close();
    assert_eq!(world.acts(), ["closing", "start 2", "encrypt", "shut down"]);
}

#[test]
fn a_failing_engine_ends_the_connection() {
    let world = World::wrapped();
    world.reads.borrow_mut().push_back(Err("bad record"));
    world.session.received(&world).unwrap();
    assert_eq!(world.acts(), ["read", "fatal", "bad record"]);

    let world = World::wrapped();
    world.writes_fail.set(true);
    world.backlog.set(true);
    world.session.written(&world).unwrap();
    assert_eq!(world.acts(), ["encrypt", "fatal", "cannot encrypt"]);

    let world = World::wrapped();
    world.shutdowns.borrow_mut().push_back(Step::Failed("data after close_notify"));
    world.close();
    let expected =
        ["closing", "start 2", "read", "shut down", "stop 2", "fatal", "data after close_notify"];
    assert_eq!(world.acts(), expected);
}

#[test]
fn whoever_aborts_in_the_middle_has_the_last_word() {
    for act in ["handshake", "established", "made", "handshake done"] {
        let world = World::new(Told::Nothing);
        world.at(act, World::abort);
        world.session.start(&world).unwrap();
        assert_eq!(world.session.phase(), Phase::Unwrapped, "{act}");
        assert!(!world.acts().contains(&"read"), "{act}");
    }
    for act in ["read", "eof", "shut down"] {
        let world = World::wrapped();
        world.reads.borrow_mut().push_back(Ok(ReadEnd::Closed));
        world.shutdowns.borrow_mut().push_back(Step::Done);
        world.at(act, World::abort);
        world.session.received(&world).unwrap();
        assert_eq!(world.session.phase(), Phase::Unwrapped, "{act}");
        assert!(!world.acts().contains(&"close transport"), "{act}");
    }
}

#[test]
fn whoever_closes_in_the_middle_shuts_down_once() {
    for act in ["made", "handshake done"] {
        let world = World::new(Told::Nothing);
        world.at(act, World::close);
        world.session.start(&world).unwrap();
        let acts = world.acts();
        assert_eq!(acts.iter().filter(|act| **act == "shut down").count(), 1, "{act}: {acts:?}");
    }
    let world = World::wrapped();
    world.at("read", World::close);
    world.session.received(&world).unwrap();
    assert_eq!(world.acts(), ["read", "closing", "start 2", "read", "shut down"]);
    assert_eq!(world.session.phase(), Phase::Shutdown);
}

#[test]
fn the_application_is_paused_at_high_water_and_resumed_at_low() {
    let world = World::wrapped();
    world.session.set_write_marks(&world, Marks { high_bytes: 100, low_bytes: 10 }).unwrap();
    let sized = |bytes| {
        world.unsent_bytes.set(bytes);
        world.session.written(&world).unwrap();
        world.acts().into_iter().filter(|act| *act != "encrypt").collect::<Vec<_>>()
    };
    assert_eq!(sized(99), [""; 0]);
    assert_eq!(sized(100), ["pause writing"]);
    assert_eq!(sized(1000), [""; 0]);
    assert_eq!(sized(11), [""; 0]);
    assert_eq!(sized(10), ["resume writing"]);
}

#[test]
fn the_transport_is_paused_while_nobody_reads() {
    let world = World::wrapped();
    world.session.set_read_marks(&world, Marks { high_bytes: 100, low_bytes: 10 }).unwrap();
    world.session.pause_reading();
    world.incoming_bytes.set(100);
    world.session.received(&world).unwrap();
    assert_eq!(world.acts(), ["pause transport"]);
    world.session.resume_reading(&world);
    world.incoming_bytes.set(0);
    world.session.resumed(&world).unwrap();
    assert_eq!(world.acts(), ["read soon", "read", "resume transport"]);
}

#[test]
fn a_full_transport_is_given_nothing_until_it_has_room() {
    let world = World::wrapped();
    world.session.transport_full();
    world.session.written(&world).unwrap();
    assert_eq!(world.acts.take(), ["encrypt"]);
    world.session.transport_has_room(&world).unwrap();
    assert_eq!(world.acts.take(), ["send"]);
    // Closing gives it the rest, room or not: it sends before it closes.
    world.session.transport_full();
    world.shutdowns.borrow_mut().push_back(Step::Done);
    world.close();
    let expected =
        ["closing", "start 2", "read", "shut down", "eof", "send", "stop 2", "close transport"];
    assert_eq!(world.acts.take(), expected);
}

#[test]
fn nothing_follows_a_loss() {
    let world = World::wrapped();
    assert!(world.session.lost());
    world.session.received(&world).unwrap();
    world.session.written(&world).unwrap();
    world.session.resumed(&world).unwrap();
    world.session.start(&world).unwrap();
    world.close();
    assert_eq!(world.session.transport_ended(&world), Ok(false));
    assert!(world.acts().is_empty());
}
