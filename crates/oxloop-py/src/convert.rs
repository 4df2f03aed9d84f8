//! Addresses and kernel errors, from the core's form to Python's.
//!
//! The forms are those of CPython's socket module (`Modules/socketmodule.c`, `makesockaddr`):
//! `(host, port)`, `(host, port, flowinfo, scope_id)`, a path, bytes for an abstract Unix name.

use oxloop_core::{AddressParts, SockAddr};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// The address as the socket module gives it.
pub fn address<'py>(py: Python<'py>, address: &SockAddr) -> PyResult<Bound<'py, PyAny>> {
    Ok(match address.parts() {
        AddressParts::V4(host, port) => (host.to_string(), port).into_pyobject(py)?.into_any(),
        AddressParts::V6 { ip, port, flowinfo, scope_id } => {
            (ip.to_string(), port, flowinfo, scope_id).into_pyobject(py)?.into_any()
        }
        AddressParts::Unix(path) if path.first() == Some(&0) => PyBytes::new(py, &path).into_any(),
        AddressParts::Unix(path) => {
            py.import("os")?.call_method1("fsdecode", (PyBytes::new(py, &path),))?
        }
        AddressParts::Unnamed => PyString::new(py, "").into_any(),
        AddressParts::Other(_) => py.None().into_bound(py),
    })
}

/// The OSError (or its subclass by errno) that the socket module would raise.
pub fn os_error(py: Python<'_>, err: std::io::Error) -> PyErr {
    let Some(code) = err.raw_os_error() else { return PyErr::from(err) };
    let text = py
        .import("os")
        .and_then(|os| os.call_method1("strerror", (code,)))
        .and_then(|text| text.extract::<String>())
        .unwrap_or_else(|_| err.to_string());
    match py.get_type::<PyOSError>().call1((code, text)) {
        Ok(instance) => PyErr::from_value(instance),
        Err(err) => err,
    }
}
