"""Runs one long scenario: ``child.py FILE FUNCTION LOOP COUNT`` (see `conftest.py`).

The last line of its output is a JSON object: the figures that the scenario returned.
"""

import importlib.util
import json
import sys

import loops


def main(path: str, function: str, loop_name: str, count: str) -> None:
    """Import the file at `path`, call `function(loop_factory, count)`, print its figures."""
    spec = importlib.util.spec_from_file_location("scenario", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scenario"] = module
    spec.loader.exec_module(module)
    figures = getattr(module, function)(loops.factory(loop_name), int(count))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
