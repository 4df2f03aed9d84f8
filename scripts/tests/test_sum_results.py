"""sum_results.py counts what the test programs wrote, and a crash as a failure."""

from __future__ import annotations

import json
from pathlib import Path

from sum_results import Totals, sum_folder, totals_of_cargo, totals_of_junit

JUNIT = (
    '<testsuites><testsuite tests="10" failures="1" errors="2" skipped="3">'
    "</testsuite></testsuites>"
)
CARGO = (
    "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n"
    "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n"
)


def test_junit() -> None:
    assert totals_of_junit(JUNIT) == Totals(4, 3, 3)


def test_cargo() -> None:
    assert totals_of_cargo(CARGO) == Totals(4, 2, 1)


def test_conformance(tmp_path: Path) -> None:
    total = {"passed": 7, "failed": 1, "errors": 2, "skipped": 3}
    (tmp_path / "conformance.json").write_text(json.dumps({"total": total}))
    assert sum_folder(tmp_path) == {"conformance": Totals(7, 3, 3)}


def test_a_failed_step_is_not_counted_twice(tmp_path: Path) -> None:
    (tmp_path / "pytest.xml").write_text(JUNIT)
    (tmp_path / "pytest.status").write_text("1\n")
    assert sum_folder(tmp_path) == {"pytest": Totals(4, 3, 3)}


def test_a_crash_counts_as_failed(tmp_path: Path) -> None:
    passed = '<testsuites><testsuite tests="2" failures="0" errors="0" skipped="0"/></testsuites>'
    (tmp_path / "a.xml").write_text(passed)
    (tmp_path / "a.status").write_text("139\n")
    (tmp_path / "b.status").write_text("139\n")
    assert sum_folder(tmp_path) == {"a": Totals(2, 1, 0), "b": Totals(0, 1, 0)}


def test_unreadable_results_count_as_failed(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<testsuites><testsu")
    (tmp_path / "a.status").write_text("139\n")
    assert sum_folder(tmp_path) == {"a": Totals(0, 1, 0)}


def test_a_step_without_results_counts_as_one(tmp_path: Path) -> None:
    (tmp_path / "check.status").write_text("0\n")
    (tmp_path / "python-3.12.skipped").write_text("absent\n")
    assert sum_folder(tmp_path) == {"check": Totals(1, 0, 0), "python-3.12": Totals(0, 0, 1)}
