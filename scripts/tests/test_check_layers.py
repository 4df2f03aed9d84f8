"""check_layers.py finds each kind of wrong edge, and nothing in what is allowed."""

from __future__ import annotations

import pytest
from check_layers import LINES_MAX, findings_in, python_in_tree, shared_names

CORE = "crates/oxloop-core/src"
PY = "crates/oxloop-py/src"


def rules_broken(path: str, text: str) -> list[str]:
    return [finding.split(": ")[1] for finding in findings_in(path, text)]


@pytest.mark.parametrize(
    ("path", "text", "rule"),
    [
        (f"{CORE}/timers.rs", "let n = libc::getpid();\n", "system calls"),
        (f"{CORE}/stream/read.rs", "use libc;\n", "system calls"),
        (f"{PY}/task.rs", "use libc::c_int;\n", "system calls"),
        (f"{PY}/task/step.rs", "fn f() { unsafe { g() } }\n", "unsafe"),
        (f"{CORE}/driver/epoll.rs", "unsafe impl Send for A {}\n", "unsafe"),
        (f"{CORE}/lib.rs", "use pyo3::Python;\n", "Python in the core"),
        (f"{CORE}/stream/mod.rs", "use crate::driver::epoll::Epoll;\n", "a concrete driver"),
        (f"{CORE}/stream/mod.rs", "use crate::driver::{Driver, sim::S};\n", "a concrete driver"),
        (f"{PY}/task.rs", "use crate::transport::Stream;\n", "tasks and bytes"),
        (f"{PY}/handle.rs", "use crate::{\n    stdlib,\n    protocol,\n};\n", "tasks and bytes"),
        (f"{PY}/future.rs", "use oxloop_core::stream::Stream;\n", "tasks and bytes"),
        (f"{PY}/transport/stream.rs", "crate::task::Task::new()\n", "bytes and tasks"),
        ("docs/a.md", "see " + "/".join(("", "tmp", "x")) + "/y\n", "paths of a machine"),
        ("Makefile", "cd " + "/".join(("", "home", "me")) + "/y\n", "paths of a machine"),
        ("python/oxloop/x.py", "\n" * (LINES_MAX + 1), "too long"),
    ],
)
def test_a_wrong_edge_is_found(path: str, text: str, rule: str) -> None:
    assert rules_broken(path, text) == [rule]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (f"{CORE}/sys/fd.rs", "// SAFETY: owned.\nunsafe { libc::close(fd) };\n"),
        (f"{CORE}/driver/epoll.rs", "use libc::EPOLLIN;\n"),
        (f"{PY}/ffi/call.rs", "unsafe fn f() {}\n"),
        (f"{CORE}/lib.rs", "#![deny(unsafe_code)]\n//! no unsafe, no pyo3, no libc::x\n"),
        (f"{CORE}/lib.rs", 'const A: &str = "unsafe \\" libc::x"; /* unsafe\n */\n'),
        (f"{CORE}/stream/mod.rs", "use crate::driver::Driver;\n"),
        (f"{PY}/task.rs", "use crate::future::Future;\nuse crate::transports_are_not_this;\n"),
        (f"{PY}/transport/mod.rs", "use crate::protocol::Protocol;\n"),
        ("docs/a.md", "the folder work/x and $TMPDIR/tmp/ are fine\n"),
        ("python/oxloop/x.py", "\n" * LINES_MAX),
    ],
)
def test_what_is_allowed_is_not_found(path: str, text: str) -> None:
    assert rules_broken(path, text) == []


def test_the_line_of_a_finding() -> None:
    text = "// unsafe\nfn f() {}\nunsafe fn g() {}\n"
    assert [finding.split(":")[1] for finding in findings_in(f"{CORE}/a.rs", text)] == ["3"]


def test_lifetimes_do_not_hide_code() -> None:
    text = "fn f<'a>(x: &'a str) { unsafe { g() } } // it's\n"
    assert rules_broken(f"{CORE}/a.rs", text) == ["unsafe"]


def test_python_in_the_dependency_tree() -> None:
    assert list(python_in_tree("oxloop-core v0.1.0\nlibc v0.2.1\n")) == []
    found = list(python_in_tree("oxloop-core v0.1.0\npyo3-ffi v0.30.1\nlibc v0.2.1\n"))
    assert len(found) == 1
    assert "pyo3-ffi" in found[0]


def test_test_modules_of_one_name_are_found() -> None:
    found = list(shared_names(["tests/cli/test_a.py", "tests/unit/test_a.py", "tests/test_b.py"]))
    assert [finding.split(": ")[:2] for finding in found] == [
        ["tests/unit/test_a.py:1", "a shared name"]
    ]


def test_test_modules_of_a_package_may_share_a_name() -> None:
    names = ["tests/unit/test_a.py", "tests/eco/__init__.py", "tests/eco/test_a.py", "x/a.py"]
    assert list(shared_names(names)) == []
