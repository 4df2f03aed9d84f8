//! Buffers. Bytes are received into the driver's one shared buffer; what waits to be sent, and what
//! a stream has received and nobody has read, lies here.

mod read_buffer;
mod write_queue;

pub use read_buffer::{Found, ReadBuffer};
pub use write_queue::WriteQueue;
