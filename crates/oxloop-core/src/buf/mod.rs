//! Buffers. Received bytes lie in the driver's one shared buffer; what waits to be sent lies here.

mod write_queue;

pub use write_queue::WriteQueue;
