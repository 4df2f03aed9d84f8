//! The phases of a run over all the connections.
//!
//! 1. Every connection is served once: a server that accepts lazily is not measured while it still
//!    accepts. 2. Warm-up. 3. The window, at both ends of which the server's CPU time is read, so
//!    that CPU and replies belong to the same span of time.
//!
//! A connection that fails is counted and replaced, as its absence would make the server look
//! better; after `ERRORS_MAX` of them, or `STALL` without any reply, the run is given up.

use std::time::{Duration, Instant};

use crate::args::Args;
use crate::connection::Connection;
use crate::latency::Latencies;
use crate::sys::{Epoll, process_cpu};

const ERRORS_MAX: u64 = 1000;
const STALL: Duration = Duration::from_secs(10);
const READ_BUFFER_BYTES: usize = 256 * 1024;
const WAIT_MS: i32 = 50;

/// What the window has shown.
#[derive(Debug)]
pub struct Report {
    pub connections: usize,
    pub window: Duration,
    pub replies: usize,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Failed connections and wrong replies, in all phases.
    pub errors: u64,
    pub first_error: Option<String>,
    pub server_cpu: Option<Duration>,
}

impl Report {
    pub fn replies_per_s(&self) -> f64 {
        self.replies as f64 / self.window.as_secs_f64()
    }

    /// One line of JSON; `server_cpu_s` and `first_error` are null when there is none.
    pub fn to_json(&self) -> String {
        let cpu =
            self.server_cpu.map_or("null".to_string(), |cpu| format!("{:.9}", cpu.as_secs_f64()));
        let error = self.first_error.as_deref().map_or("null".to_string(), json_string);
        format!(
            "{{\"connections\": {}, \"seconds\": {:.6}, \"replies\": {}, \"replies_per_s\": {:.1}, \
             \"p50_us\": {:.1}, \"p99_us\": {:.1}, \"errors\": {}, \"first_error\": {}, \
             \"server_cpu_s\": {}}}",
            self.connections,
            self.window.as_secs_f64(),
            self.replies,
            self.replies_per_s(),
            self.p50_us,
            self.p99_us,
            self.errors,
            error,
            cpu
        )
    }
}

fn json_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            c if c.is_control() => quoted.push(' '),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Loads the server as `args` says and reports the window.
///
/// # Errors
/// One line: the server refuses, does not answer, or fails too often.
pub fn run(args: &Args) -> Result<Report, String> {
    let mut load = Load::new(args)?;
    load.until_all_served()?;
    load.until(Instant::now() + args.warmup)?;

    load.latencies = Some(Latencies::new());
    let cpu_begun = load.server_cpu()?;
    let begun = Instant::now();
    load.until(begun + args.window)?;
    let window = begun.elapsed();
    let cpu_ended = load.server_cpu()?;

    let mut latencies = load.latencies.take().unwrap_or_default();
    let [p50_us, p99_us] = latencies.percentiles_us([50.0, 99.0]);
    Ok(Report {
        connections: args.connections,
        window,
        replies: latencies.len(),
        p50_us,
        p99_us,
        errors: load.errors,
        first_error: load.first_error.take(),
        server_cpu: cpu_begun.zip(cpu_ended).map(|(from, to)| to.saturating_sub(from)),
    })
}

struct Load<'a> {
    args: &'a Args,
    epoll: Epoll,
    connections: Vec<Connection>,
    /// Number of the next connection to be opened: the one in its messages.
    next_number: u32,
    served: Vec<bool>,
    unserved: usize,
    /// None outside the window.
    latencies: Option<Latencies>,
    errors: u64,
    first_error: Option<String>,
    last_reply: Instant,
    buffer: Vec<u8>,
    /// Tokens of the turn; kept for its memory.
    ready: Vec<usize>,
}

impl<'a> Load<'a> {
    fn new(args: &'a Args) -> Result<Load<'a>, String> {
        let epoll = Epoll::new().map_err(|error| format!("epoll: {error}"))?;
        let mut load = Load {
            args,
            epoll,
            connections: Vec::with_capacity(args.connections),
            next_number: 0,
            served: vec![false; args.connections],
            unserved: args.connections,
            latencies: None,
            errors: 0,
            first_error: None,
            last_reply: Instant::now(),
            buffer: vec![0; READ_BUFFER_BYTES],
            ready: Vec::new(),
        };
        for token in 0..args.connections {
            let connection = load.open(token)?;
            load.connections.push(connection);
        }
        Ok(load)
    }

    fn open(&mut self, token: usize) -> Result<Connection, String> {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        Connection::open(self.args, &self.epoll, token, number)
            .map_err(|error| format!("connect to {}: {error}", self.args.addr))
    }

    fn server_cpu(&self) -> Result<Option<Duration>, String> {
        let read = |pid| process_cpu(pid).map_err(|error| format!("CPU time of {pid}: {error}"));
        self.args.server_pid.map(read).transpose()
    }

    fn until_all_served(&mut self) -> Result<(), String> {
        while self.unserved > 0 {
            self.turn()?;
        }
        Ok(())
    }

    fn until(&mut self, end: Instant) -> Result<(), String> {
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// One wait, and what it found ready.
    fn turn(&mut self) -> Result<(), String> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let wait_ms = if self.args.spin { 0 } else { WAIT_MS };
        ready.extend(self.epoll.wait(wait_ms).map_err(|error| format!("epoll: {error}"))?);
        let mut failed = Vec::new();
        let mut replied = false;
        for &token in &ready {
            let connection = &mut self.connections[token];
            let outcome = match connection.ready(&self.epoll, &mut self.buffer) {
                Ok(None) => continue,
                Ok(Some(latency)) => {
                    replied = true;
                    if let Some(latencies) = &mut self.latencies {
                        latencies.record(latency);
                    }
                    if !std::mem::replace(&mut self.served[token], true) {
                        self.unserved -= 1;
                    }
                    connection.next(self.args, &self.epoll)
                }
                Err(problem) => Err(problem),
            };
            if let Err(problem) = outcome {
                failed.push(token);
                self.note(problem)?;
            }
        }
        self.ready = ready;
        if replied {
            self.last_reply = Instant::now();
        } else if self.last_reply.elapsed() > STALL {
            let state = format!("{} of {} connections served", self.served(), self.served.len());
            return Err(format!("no reply for {} s; {state}", STALL.as_secs()));
        }
        for token in failed {
            self.connections[token] = self.open(token)?;
        }
        Ok(())
    }

    fn served(&self) -> usize {
        self.served.len() - self.unserved
    }

    fn note(&mut self, problem: String) -> Result<(), String> {
        self.errors += 1;
        if self.errors >= ERRORS_MAX {
            return Err(format!("{} errors; the last: {problem}", self.errors));
        }
        self.first_error.get_or_insert(problem);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_json_forbids() {
        assert_eq!(json_string("a\"b\\c\nd"), "\"a\\\"b\\\\c d\"");
    }
}
