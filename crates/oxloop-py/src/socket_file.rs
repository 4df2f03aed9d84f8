//! The file of a Unix socket: whether it is there, and its removal.
//!
//! Facts: asyncio looks at such files while it binds and when a server closes, on the loop's thread.
//! Tools that find calls which block (blockbuster) replace `os.stat` and its like, and let asyncio's
//! pass by the names of its files and functions; the same calls of another loop they would refuse.
//! Decision: the calls are made here, where no such tool needs to be told of them.
//! What can still go wrong: between the look and the removal somebody may have put another file in
//! the place, as with asyncio.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::convert;

/// The path, unless it has a NUL in it, which ends a name for the kernel.
fn checked(path: &[u8]) -> PyResult<&OsStr> {
    if path.contains(&0) {
        return Err(PyValueError::new_err("embedded null byte"));
    }
    Ok(OsStr::from_bytes(path))
}

/// The inode of the socket at `path` (bytes); None where there is nothing, or no socket.
///
/// OSError for what the file system does not let us see, ValueError for a NUL in the path.
#[pyfunction]
pub fn socket_inode(py: Python<'_>, path: &[u8]) -> PyResult<Option<u64>> {
    match fs::metadata(checked(path)?) {
        Ok(found) => Ok(found.file_type().is_socket().then(|| found.ino())),
        Err(err) if err.kind() == ErrorKind::NotFound => Ok(None),
        Err(err) => Err(convert::os_error(py, err)),
    }
}

/// Remove the file at `path` (bytes), if there is one. Raises as `socket_inode`.
#[pyfunction]
pub fn remove_socket(py: Python<'_>, path: &[u8]) -> PyResult<()> {
    match fs::remove_file(checked(path)?) {
        Err(err) if err.kind() != ErrorKind::NotFound => Err(convert::os_error(py, err)),
        _ => Ok(()),
    }
}
