//! The command line. Written by hand: the crate depends on `libc` only.

use std::net::SocketAddrV4;
use std::time::Duration;

pub const USAGE: &str = "usage: oxloop-load --addr 127.0.0.1:PORT [--mode echo|http] \
[--connections N] [--size BYTES] [--seconds S] [--warmup S] [--churn] [--spin] \
[--server-pid PID]";

/// What a connection asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The server sends back the bytes that it gets.
    Echo,
    /// The server answers each HTTP/1.1 GET with the request's path as the body.
    Http,
}

#[derive(Clone, Debug)]
pub struct Args {
    pub addr: SocketAddrV4,
    pub mode: Mode,
    pub connections: usize,
    /// Bytes of an echo message; not used by `Mode::Http`.
    pub size: usize,
    pub window: Duration,
    pub warmup: Duration,
    /// A new connection for each request.
    pub churn: bool,
    /// Ask for readiness without ever sleeping: a sleeper's waking is charged to the server.
    pub spin: bool,
    /// Process whose CPU time is read at both ends of the window.
    pub server_pid: Option<libc::pid_t>,
}

impl Args {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// One line that names the offending word.
    pub fn parse(words: &[String]) -> Result<Args, String> {
        let mut addr = None;
        let mut args = Args {
            addr: SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0),
            mode: Mode::Echo,
            connections: 10,
            size: 1024,
            window: Duration::from_secs(2),
            warmup: Duration::from_millis(300),
            churn: false,
            spin: false,
            server_pid: None,
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match word.as_str() {
                "--churn" => {
                    args.churn = true;
                    continue;
                }
                "--spin" => {
                    args.spin = true;
                    continue;
                }
                _ => {}
            }
            let value = rest.next().ok_or_else(|| format!("{word}: no value"))?;
            match word.as_str() {
                "--addr" => addr = Some(number(word, value)?),
                "--mode" => {
                    args.mode = match value.as_str() {
                        "echo" => Mode::Echo,
                        "http" => Mode::Http,
                        _ => return Err(format!("--mode: {value:?} is neither echo nor http")),
                    }
                }
                "--connections" => args.connections = positive(word, value)?,
                "--size" => args.size = positive(word, value)?,
                "--seconds" => args.window = seconds(word, value)?,
                "--warmup" => args.warmup = seconds(word, value)?,
                "--server-pid" => {
                    let pid = positive(word, value)?;
                    let pid = pid.try_into().map_err(|_| format!("{word}: no process {pid}"))?;
                    args.server_pid = Some(pid);
                }
                _ => return Err(format!("unknown argument {word:?}")),
            }
        }
        args.addr = addr.ok_or("--addr is required")?;
        if args.window.is_zero() {
            return Err("--seconds: must be above 0".to_string());
        }
        Ok(args)
    }
}

fn number<T: std::str::FromStr>(word: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{word}: cannot read {value:?}"))
}

fn positive(word: &str, value: &str) -> Result<usize, String> {
    match number(word, value)? {
        0 => Err(format!("{word}: must be above 0")),
        count => Ok(count),
    }
}

fn seconds(word: &str, value: &str) -> Result<Duration, String> {
    let seconds: f64 = number(word, value)?;
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{word}: cannot use {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, String> {
        Args::parse(&line.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn reads_every_argument() {
        let args = parse(
            "--addr 127.0.0.1:7 --mode http --connections 3 --size 9 --seconds 0.5 --warmup 0 \
             --churn --spin --server-pid 42",
        )
        .unwrap();
        assert_eq!(args.addr.port(), 7);
        assert_eq!(args.mode, Mode::Http);
        assert_eq!((args.connections, args.size), (3, 9));
        assert_eq!(args.window, Duration::from_millis(500));
        assert!(args.churn && args.spin && args.warmup.is_zero());
        assert_eq!(args.server_pid, Some(42));
    }

    #[test]
    fn refuses_what_it_cannot_use() {
        for line in [
            "",
            "--addr localhost",
            "--addr 127.0.0.1:7 --mode ftp",
            "--addr 127.0.0.1:7 --size 0",
            "--addr 127.0.0.1:7 --seconds 0",
            "--addr 127.0.0.1:7 --seconds -1",
            "--addr 127.0.0.1:7 --connections",
            "--addr 127.0.0.1:7 --speed 3",
        ] {
            assert!(parse(line).is_err(), "{line:?} was accepted");
        }
    }
}
