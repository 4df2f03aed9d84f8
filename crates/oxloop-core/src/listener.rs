//! What a listener does when `accept` fails.
//!
//! Facts: when descriptors or memory run out, `accept` fails at once and the listener stays
//! readable: whoever goes on asking spins, and starves what could give descriptors back.
//! Decision: the listener rests for a while, and its owner submits [`Op::Accept`](crate::Op::Accept)
//! again after that. Any other failure is one connection's, or the owner's to report.
//! Source: accept(2).

use std::io;
use std::time::Duration;

use crate::driver::Driver;
use crate::limits;
use crate::mutant::planted;
use crate::op::Side;
use crate::slab::Token;
use crate::sys::socket::is_exhaustion;

/// Lets the listener `token` rest if `error`, of its `accept`, says that resources ran out.
///
/// Returns how long: the owner accepts again after that. None: the listener accepts on, and the
/// error is the owner's to report.
pub fn rest_after<C: AsRef<[u8]>, D: Driver<C>>(
    driver: &mut D,
    token: Token,
    error: &io::Error,
) -> Option<Duration> {
    if !is_exhaustion(error) {
        return None;
    }
    if !planted!(AcceptNeverRests) {
        // Nothing is queued on the side that accepts.
        drop(driver.cancel(token, Side::Read));
    }
    Some(limits::ACCEPT_REST)
}
