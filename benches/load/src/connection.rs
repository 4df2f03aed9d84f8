//! One client connection: send a request, compare the reply, send the next one.
//!
//! A message larger than the socket's buffer is sent while its echo is already coming back, so
//! sending and receiving are independent; write readiness is asked for only while something is
//! left to send.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use crate::args::Args;
use crate::request::{Progress, Request};
use crate::sys::{Epoll, Interest, connect};

/// Source addresses used in turn when each request has its own connection.
const CHURN_SOURCES: usize = 16;

/// Why a connection cannot go on.
pub type Problem = String;

pub struct Connection {
    token: usize,
    stream: TcpStream,
    interest: Interest,
    request: Request,
    /// Bytes of the request that the kernel has taken.
    sent: usize,
    /// When the request (with churn: its connection) was begun.
    begun: Instant,
}

impl Connection {
    /// Begins a connection and registers it; its first request goes out when it is made.
    pub fn open(args: &Args, epoll: &Epoll, token: usize, number: u32) -> io::Result<Connection> {
        let begun = Instant::now();
        let stream = begin(args, epoll, token, 0)?;
        let request = Request::new(args.mode, number, args.size);
        Ok(Connection { token, stream, interest: Interest::ReadWrite, request, sent: 0, begun })
    }

    /// Acts on readiness. Gives the latency of the reply if one is complete; the next request has
    /// then not been sent yet: call `next`.
    pub fn ready(&mut self, epoll: &Epoll, buffer: &mut [u8]) -> Result<Option<Duration>, Problem> {
        self.send(epoll)?;
        loop {
            let count = match self.stream.read(buffer) {
                Ok(0) => return Err("the server closed the connection".to_string()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // A connect in progress: readiness has not been reported yet.
                Err(error) if error.kind() == ErrorKind::NotConnected => return Ok(None),
                Err(error) => return Err(format!("receive: {error}")),
            };
            match self.request.check(&buffer[..count], self.sent)? {
                Progress::Complete => return Ok(Some(self.begun.elapsed())),
                // A read that did not fill the buffer has most likely emptied the socket.
                Progress::Partial if count < buffer.len() => return Ok(None),
                Progress::Partial => {}
            }
        }
    }

    /// Begins the next request, on this connection or (churn) on a new one in its place.
    pub fn next(&mut self, args: &Args, epoll: &Epoll) -> Result<(), Problem> {
        self.begun = Instant::now();
        self.sent = 0;
        self.request.advance();
        if args.churn {
            // The old socket is closed by the assignment, which also takes it out of the epoll set.
            self.stream = begin(args, epoll, self.token, self.request.number())
                .map_err(|error| format!("connect: {error}"))?;
            self.interest = Interest::ReadWrite;
            return Ok(());
        }
        self.send(epoll)
    }

    fn send(&mut self, epoll: &Epoll) -> Result<(), Problem> {
        let message = self.request.message();
        let mut wanted = Interest::Read;
        while self.sent < message.len() {
            match self.stream.write(&message[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) =>
                {
                    wanted = Interest::ReadWrite;
                    break;
                }
                Err(error) => return Err(format!("send: {error}")),
            }
        }
        if wanted != self.interest {
            epoll
                .modify(&self.stream, self.token, wanted)
                .map_err(|error| format!("epoll: {error}"))?;
            self.interest = wanted;
        }
        Ok(())
    }
}

fn begin(args: &Args, epoll: &Epoll, token: usize, request: u32) -> io::Result<TcpStream> {
    let turn = (token + request as usize) % CHURN_SOURCES;
    let source = (args.churn && args.addr.ip().is_loopback())
        .then(|| Ipv4Addr::new(127, 0, 0, 2 + turn as u8));
    let stream = connect(args.addr, source)?;
    epoll.add(&stream, token, Interest::ReadWrite)?;
    Ok(stream)
}
