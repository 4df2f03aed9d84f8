//! Every bound of the core, with its unit and its reason. Nothing grows without one of these or a
//! user's own limit (flow control) above it.

use std::time::Duration;

/// Bytes of the driver's one shared read buffer, and so of one receive. One large buffer stays in
/// the processor's cache; for large messages more small reads cost more than they save.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Bytes taken from one source per wake. One that sends without end must not starve the others.
pub const READ_BYTES_PER_WAKE_MAX: usize = 256 * 1024;

/// A receive of so many bytes is followed by one into an object of its own, made as large as what
/// waits. Asking for that costs about as much as copying so many bytes out of the shared buffer.
pub const LARGE_RECEIVE_BYTES: usize = 16 * 1024;

/// Buffered bytes above which the protocol is asked to pause writing; asyncio's value.
pub const WRITE_HIGH_WATER_BYTES: usize = 64 * 1024;

/// Buffered bytes at which the protocol may resume; a quarter, as in asyncio.
pub const WRITE_LOW_WATER_BYTES: usize = low_water_bytes(WRITE_HIGH_WATER_BYTES);

/// The low water that goes with a high water if none is given.
pub const fn low_water_bytes(high_water_bytes: usize) -> usize {
    high_water_bytes / 4
}

/// Ciphertext waiting for the engine at which the transport stops reading; asyncio's value.
pub const TLS_READ_HIGH_WATER_BYTES: usize = 256 * 1024;

/// Bytes waiting for the transport at which a TLS application is asked to pause; asyncio's value.
pub const TLS_WRITE_HIGH_WATER_BYTES: usize = 512 * 1024;

/// Chunks joined into one send. They are filled in on the stack, and a socket seldom takes more.
pub const IOVECS_PER_SEND_MAX: usize = 64;

/// Events fetched by one wait. More would delay the ready queue; the rest comes next time.
pub const EVENTS_PER_WAIT_MAX: usize = 1024;

/// Connections accepted from one listener per wake. A flood must not starve those accepted before.
pub const ACCEPTS_PER_WAKE_MAX: usize = 128;

/// How long a listener rests when descriptors or memory ran out; asyncio's value.
pub const ACCEPT_REST: Duration = Duration::from_secs(1);

/// Datagrams taken from one socket per wake, besides the bound in bytes. Small ones that come
/// without end must not starve the other sources.
pub const DATAGRAMS_PER_WAKE_MAX: usize = 64;

/// Ticks (`sys::time::ticks`) that the loop may run jobs without looking for I/O: 20 to 100 µs by
/// the processor's rate.
pub const POLL_INTERVAL_TICKS: u64 = 100_000;

/// Iterations that the loop may run without looking for I/O. A wait without a timeout costs as much
/// as running a few jobs, so it is not done for each.
pub const ITERATIONS_PER_POLL: u32 = 16;

/// Jobs for which the ready queue keeps room once it is empty. A burst's memory is given back.
pub const READY_JOBS_KEPT_MAX: usize = 64 * 1024;

/// Timers for which room is kept although they are gone: about 1 MiB. A busy server has ten thousand
/// timeouts in flight, in waves; giving their room back after each wave costs more than it saves.
pub const TIMERS_KEPT_MAX: usize = 16 * 1024;

const _: () = assert!(READ_BYTES_PER_WAKE_MAX >= READ_BUFFER_BYTES);
const _: () = assert!(LARGE_RECEIVE_BYTES >= 1 && LARGE_RECEIVE_BYTES <= READ_BUFFER_BYTES);
const _: () = assert!(WRITE_LOW_WATER_BYTES < WRITE_HIGH_WATER_BYTES);
// The kernel refuses more than 1024 slices (UIO_MAXIOV) in one call.
const _: () = assert!(IOVECS_PER_SEND_MAX >= 1 && IOVECS_PER_SEND_MAX <= 1024);
const _: () = assert!(EVENTS_PER_WAIT_MAX >= 1 && EVENTS_PER_WAIT_MAX <= i32::MAX as usize);
const _: () = assert!(ACCEPTS_PER_WAKE_MAX >= 1 && DATAGRAMS_PER_WAKE_MAX >= 1);
const _: () = assert!(ITERATIONS_PER_POLL >= 1 && POLL_INTERVAL_TICKS >= 1);
