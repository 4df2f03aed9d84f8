"""Runs one long scenario: ``child.py FILE FUNCTION LOOP COUNT`` (see `conftest.py`)."""

import importlib.util
import sys

import loops


def main(path: str, function: str, loop_name: str, count: str) -> None:
    """Import the file at `path` and call `function(loop_factory, count)`."""
    spec = importlib.util.spec_from_file_location("scenario", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scenario"] = module
    spec.loader.exec_module(module)
    getattr(module, function)(loops.factory(loop_name), int(count))


if __name__ == "__main__":
    main(*sys.argv[1:])
