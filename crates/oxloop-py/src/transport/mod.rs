//! Byte transports: TCP and Unix stream sockets.
//!
//! | file        | subject                                                             |
//! |-------------|---------------------------------------------------------------------|
//! | `stream.rs` | the `StreamTransport` class and its public methods                   |
//! | `events.rs` | what the driver's completions mean for the protocol                  |
//! | `fd.rs`     | who owns the descriptor, and the socket object shown to the user     |
//!
//! The state machine of reading, writing and closing is the core's `Stream`; here its answers
//! become calls of the protocol, and errors of either side become asyncio's.

mod events;
mod fd;
mod stream;

pub use fd::{Connection, hold, unhold};
pub use stream::StreamTransport;
pub use stream::write;
