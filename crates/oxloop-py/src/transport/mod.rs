//! Transports: byte streams (TCP, Unix stream sockets), datagrams, pipes.
//!
//! | file        | subject                                                             |
//! |-------------|---------------------------------------------------------------------|
//! | `stream.rs` | the `StreamTransport` class: opening, losing, closing                 |
//! | `write.rs`  | writing, and flow control                                            |
//! | `limits.rs` | high and low water as programs give them                             |
//! | `methods.rs` | its other methods and attributes as Python sees them                |
//! | `events.rs` | what the driver's completions mean for the protocol                  |
//! | `datagram/` | the `DatagramTransport` class                                        |
//! | `reports.rs` | what all of them tell the exception handler, a waiter, who forgot them |
//! | `sendfile.rs` | what a stream transport lends to `loop.sendfile()`                |
//! | `tls/`      | the `TlsTransport` class                                              |
//! | `fd.rs`     | who owns the descriptor, and the socket object shown to the user     |
//! | `pipe.rs`   | what both ends of a pipe have in common                              |
//! | `pipe_read.rs`, `pipe_write.rs` | the two ends                                     |
//!
//! The state machine of reading, writing and closing is the core's `Stream`; here its answers
//! become calls of the protocol, and errors of either side become asyncio's.

mod datagram;
mod events;
mod fd;
mod large;
mod limits;
mod methods;
mod pipe;
mod pipe_read;
mod pipe_write;
mod reports;
mod sendfile;
mod stream;
mod tls;
mod write;

pub use datagram::DatagramTransport;
pub use fd::{Connection, hold, unhold};
pub use pipe::PipeEnd;
pub use pipe_read::ReadPipeTransport;
pub use pipe_write::WritePipeTransport;
pub use stream::StreamTransport;
pub use tls::{Options as TlsOptions, TlsBuffer, TlsTransport, write as write_tls};
pub use write::write;
