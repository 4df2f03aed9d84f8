//! Streams: `StreamReader`, `StreamWriter` and the protocol between them and a transport.
//!
//! | file            | subject                                                          |
//! |-----------------|------------------------------------------------------------------|
//! | `mod.rs`        | which classes Python sees, and whether they are as we made them   |
//! | `reader.rs`     | `StreamReader`: what was received, who waits for it, flow control |
//! | `need.rs`       | what a read waits for: bytes, a separator, the end                |
//! | `reads.rs`      | `read`, `readexactly`, `readuntil`, `readline` as coroutines      |
//! | `inner.rs`      | the same for a reader whose methods were replaced                |
//! | `attributes.rs` | the other methods and attributes of a reader                      |
//! | `protocol.rs`   | `StreamReaderProtocol`: what a transport calls                    |
//! | `connected.rs`  | `connection_made`, and the task of a server's callback            |
//! | `writer.rs`     | `StreamWriter`                                                    |
//! | `drain.rs`      | waiting until the transport takes more                            |
//!
//! Facts: the classes that programs see are `oxloop.StreamReader` and its sisters: Python classes of
//! which the native one is the first base and asyncio's the second. So they are asyncio's to
//! `isinstance` and `issubclass`, what is rare is inherited from the running version, and what runs
//! per message is native. Programs derive from them and replace methods.
//! Decision: where one of these classes calls another (a transport its protocol, the protocol its
//! reader, the writer its transport) and both are exactly what we made, it is a call in Rust;
//! everything else goes through Python's look-up.
//! Source of behaviour: CPython `Lib/asyncio/streams.py`.

mod attributes;
mod connected;
mod drain;
mod inner;
mod need;
mod protocol;
mod reader;
mod reads;
mod writer;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::ffi::fastcall::{FastMethod, attach, attach_to, fast_method};
use crate::ffi::watch::ClassWatch;
use protocol::StreamReaderProtocol;
pub use protocol::data_received;
use reader::{StreamReader, feed_data};
use reads::{read, readexactly, readline, readuntil};
use writer::{StreamWriter, drain, write};

static READER: PyOnceLock<ClassWatch<StreamReader>> = PyOnceLock::new();
static PROTOCOL: PyOnceLock<ClassWatch<StreamReaderProtocol>> = PyOnceLock::new();
static WRITER: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Tell which classes Python uses: they derive from the native ones and change no method.
///
/// They get the hot methods too: a method finds an instance of its own class without a search.
#[pyfunction]
fn _set_stream_classes(
    reader: &Bound<'_, PyType>,
    writer: &Bound<'_, PyType>,
    protocol: &Bound<'_, PyType>,
) -> PyResult<()> {
    let py = reader.py();
    attach_to(reader, reader_methods())?;
    attach_to(writer, writer_methods())?;
    let methods = ["feed_data", "feed_eof", "exception", "read", "readline", "readuntil"];
    let watch = ClassWatch::new(reader, &methods)?;
    let _ = READER.set(py, watch);
    let methods = ["data_received", "_drain_helper"];
    let watch = ClassWatch::new(protocol, &methods)?;
    let _ = PROTOCOL.set(py, watch);
    let _ = WRITER.set(py, writer.clone().unbind());
    Ok(())
}

/// The hot methods of a reader.
fn reader_methods() -> Vec<FastMethod> {
    vec![
            fast_method!(StreamReader, c"read", read, c"read($self, n=-1)\n--\n\nRead up to `n` bytes, at least one; -1 reads until the end."),
            fast_method!(StreamReader, c"readexactly", readexactly, c"readexactly($self, n)\n--\n\nRead exactly `n` bytes; IncompleteReadError at the end."),
            fast_method!(StreamReader, c"readuntil", readuntil, c"readuntil($self, separator=b'\\n')\n--\n\nRead up to and with the separator, or the first of a tuple of them."),
            fast_method!(StreamReader, c"readline", readline, c"readline($self)\n--\n\nRead up to and with a newline; what is left at the end."),
            fast_method!(StreamReader, c"feed_data", feed_data, c"feed_data($self, data)\n--\n\nAdd received bytes; wakes who waits for them."),
        ]
}

/// The hot methods of a writer.
fn writer_methods() -> Vec<FastMethod> {
    vec![
        fast_method!(
            StreamWriter,
            c"write",
            write,
            c"write($self, data)\n--\n\nSend `data`; what is not sent at once is queued."
        ),
        fast_method!(
            StreamWriter,
            c"drain",
            drain,
            c"drain($self)\n--\n\nWait until the transport takes more."
        ),
    ]
}

/// Adds the classes to the module and attaches their hot methods.
pub fn install(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    attach::<StreamReader>(py, reader_methods())?;
    attach::<StreamWriter>(py, writer_methods())?;
    let doc = c"That nobody waited for the end is no mistake.";
    attach::<StreamReaderProtocol>(
        py,
        vec![fast_method!(StreamReaderProtocol, c"__del__", protocol::del, doc)],
    )?;
    module.add_class::<StreamReader>()?;
    module.add_class::<StreamWriter>()?;
    module.add_class::<StreamReaderProtocol>()?;
    module.add_class::<connected::ClientDone>()?;
    module.add_function(wrap_pyfunction!(_set_stream_classes, module)?)
}

/// A reader whose methods nobody has replaced.
#[inline]
fn plain_reader<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, StreamReader>> {
    let reader = READER.get(object.py())?.plain(object)?;
    (!reader.get().is_patched()).then_some(reader)
}

/// A protocol whose methods nobody has replaced.
#[inline]
fn plain_protocol<'a, 'py>(
    object: &'a Bound<'py, PyAny>,
) -> Option<&'a Bound<'py, StreamReaderProtocol>> {
    let protocol = PROTOCOL.get(object.py())?.plain(object)?;
    (!protocol.get().is_patched()).then_some(protocol)
}

/// The class of the writers that servers make.
fn writer_class(py: Python<'_>) -> Bound<'_, PyType> {
    match WRITER.get(py) {
        Some(class) => class.bind(py).clone(),
        None => py.get_type::<StreamWriter>(),
    }
}
