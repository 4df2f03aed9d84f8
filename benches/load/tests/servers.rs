//! The load generator against servers that behave and servers that do not: a measurement of a
//! server that loses or changes bytes must say so.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use oxloop_load::args::{Args, Mode};
use oxloop_load::run::run;

/// Serves each connection of a new listener by `serve` in a thread of its own.
fn server(serve: fn(TcpStream) -> std::io::Result<()>) -> SocketAddrV4 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(addr) = listener.local_addr().unwrap() else { unreachable!() };
    thread::spawn(move || {
        for stream in listener.incoming() {
            // An error here is a client that has gone away: that client has its own verdict.
            thread::spawn(move || serve(stream?));
        }
    });
    addr
}

fn args(addr: SocketAddrV4) -> Args {
    Args {
        addr,
        mode: Mode::Echo,
        connections: 4,
        size: 1000,
        window: Duration::from_millis(100),
        warmup: Duration::ZERO,
        churn: false,
        spin: false,
        server_pid: None,
    }
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

#[test]
fn an_honest_echo_has_replies_and_no_errors() {
    for (size, churn) in [(1, false), (1000, false), (1 << 20, false), (1000, true)] {
        let report = run(&Args { size, churn, ..args(server(echo)) }).unwrap();
        assert_eq!((report.errors, report.first_error.as_deref()), (0, None), "{size} {churn}");
        assert!(report.replies > 0 && report.p99_us >= report.p50_us && report.p50_us > 0.0);
        assert!(report.window >= Duration::from_millis(100));
    }
}

#[test]
fn a_flipped_bit_is_an_error() {
    let addr = server(|mut stream| {
        let mut buffer = [0; 4096];
        let mut total = 0;
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            total += count;
            // Replies are right at first, so that every connection is served once.
            if total > 5000 {
                buffer[count - 1] ^= 0x80;
            }
            stream.write_all(&buffer[..count])?;
        }
    });
    match run(&args(addr)) {
        Ok(report) => assert!(report.errors > 0),
        Err(problem) => assert!(problem.contains("wrong byte"), "{problem}"),
    }
}

#[test]
fn a_server_that_hangs_up_is_an_error() {
    match run(&args(server(|_| Ok(())))) {
        Ok(report) => panic!("measured {report:?}"),
        Err(problem) => assert!(problem.contains("errors"), "{problem}"),
    }
}

#[test]
fn nobody_listening_is_an_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let SocketAddr::V4(addr) = listener.local_addr().unwrap() else { unreachable!() };
    drop(listener);
    assert!(run(&args(addr)).is_err());
}

#[test]
fn http_bodies_are_checked() {
    fn answer(mut stream: TcpStream, strip: usize) -> std::io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer)?;
            let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
            let Some(path) = text.split(' ').nth(1) else { return Ok(()) };
            let body = &path[..path.len() - strip];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes())?;
        }
    }
    let http = |addr| run(&Args { mode: Mode::Http, ..args(addr) });
    let report = http(server(|stream| answer(stream, 0))).unwrap();
    assert!(report.errors == 0 && report.replies > 0);
    assert!(http(server(|stream| answer(stream, 1))).is_err());
}

#[test]
fn the_cpu_time_of_the_window_is_read() {
    // Client and server share this process, so its CPU time is above zero and at most the
    // window's length times the threads of both.
    let pid = std::process::id() as i32;
    let report = run(&Args { server_pid: Some(pid), ..args(server(echo)) }).unwrap();
    let cpu = report.server_cpu.unwrap();
    assert!(cpu > Duration::ZERO && cpu < report.window * 64);
    // Above the greatest process number that Linux gives.
    assert!(run(&Args { server_pid: Some(5_000_000), ..args(server(echo)) }).is_err());
}
